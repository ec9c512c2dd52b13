#include "distributed/comm/communicator.h"

#include <algorithm>
#include <cstring>

#include "src/base/error.h"

namespace dfmoa::comm {
namespace {

template <class Value>
void reduce_values(Value* a, const Value* b, std::int64_t count, Op op) {
  for (std::int64_t i = 0; i < count; ++i) {
    a[i] = op == Op::sum   ? a[i] + b[i]
           : op == Op::max ? std::max(a[i], b[i])
                           : std::min(a[i], b[i]);
  }
}

void reduce_bf16(std::uint16_t* a, const std::uint16_t* b, std::int64_t count, Op op) {
  for (std::int64_t i = 0; i < count; ++i) {
    float value = base::from_bf16(a[i]);
    const float other = base::from_bf16(b[i]);
    reduce_values(&value, &other, 1, op);
    a[i] = base::to_bf16(value);
  }
}

}  // namespace

void reduce_into(void* a, const void* b, std::int64_t count, base::DType dtype, Op op) {
  switch (dtype) {
    case base::DType::f64:
      return reduce_values(static_cast<double*>(a), static_cast<const double*>(b), count, op);
    case base::DType::f32:
      return reduce_values(static_cast<float*>(a), static_cast<const float*>(b), count, op);
    case base::DType::i64:
      return reduce_values(static_cast<std::int64_t*>(a), static_cast<const std::int64_t*>(b),
                           count, op);
    case base::DType::i32:
      return reduce_values(static_cast<std::int32_t*>(a), static_cast<const std::int32_t*>(b),
                           count, op);
    case base::DType::bf16:
      return reduce_bf16(static_cast<std::uint16_t*>(a), static_cast<const std::uint16_t*>(b),
                         count, op);
    case base::DType::f16:
    case base::DType::u8:
      break;
  }
  throw base::MachineError("reducing " + base::name_of(dtype) +
                           ": expected F64, F32, BF16, I64 or I32");
}

void Communicator::record(std::string_view tag, std::string op, std::int64_t count,
                          base::DType dtype) {
  recorder_.add({std::string(tag), std::move(op), count, dtype});
}

void Communicator::all_reduce(void* data, std::int64_t count, base::DType dtype, Op op,
                              std::string_view tag) {
  record(tag, "all_reduce", count, dtype);
  do_all_reduce(data, count, dtype, op);
}

void Communicator::all_gather(const void* in, std::int64_t count_each, void* out, base::DType dtype,
                              std::string_view tag) {
  record(tag, "all_gather", count_each, dtype);
  do_all_gather(in, static_cast<std::size_t>(count_each) * base::size_of(dtype), out);
}

void Communicator::reduce_scatter(const void* in, void* out, std::int64_t count_each,
                                  base::DType dtype, Op op, std::string_view tag) {
  record(tag, "reduce_scatter", count_each, dtype);
  const auto bytes_each = static_cast<std::size_t>(count_each) * base::size_of(dtype);
  const auto processes = static_cast<std::size_t>(num_processes_);
  const std::vector<std::int64_t> counts(processes, static_cast<std::int64_t>(bytes_each));
  std::vector<std::byte> parts(processes * bytes_each);
  do_all_to_all(in, counts, parts.data(), counts);
  std::memcpy(out, parts.data(), bytes_each);
  for (std::size_t p = 1; p < processes; ++p) {
    reduce_into(out, parts.data() + p * bytes_each, count_each, dtype, op);
  }
}

void Communicator::all_to_all(const void* send, std::span<const std::int64_t> send_counts,
                              void* receive, std::span<const std::int64_t> receive_counts,
                              base::DType dtype, std::string_view tag) {
  std::int64_t total = 0;
  for (const auto count : send_counts) total += count;
  record(tag, "all_to_all", total, dtype);
  const auto in_bytes = [&](std::span<const std::int64_t> counts) {
    std::vector<std::int64_t> bytes(counts.begin(), counts.end());
    for (auto& count : bytes) count *= static_cast<std::int64_t>(base::size_of(dtype));
    return bytes;
  };
  do_all_to_all(send, in_bytes(send_counts), receive, in_bytes(receive_counts));
}

void Communicator::broadcast(void* data, std::int64_t count, base::DType dtype, int root,
                             std::string_view tag) {
  record(tag, "broadcast", count, dtype);
  do_broadcast(data, static_cast<std::size_t>(count) * base::size_of(dtype), root);
}

void Communicator::barrier(std::string_view tag) {
  record(tag, "barrier", 0, base::DType::u8);
  do_barrier();
}

bool Communicator::agree(bool ok, std::string_view tag) {
  std::int32_t vote = ok ? 1 : 0;
  all_reduce(&vote, 1, base::DType::i32, Op::min, tag);
  return vote == 1;
}

std::vector<std::string> Communicator::gather_text(const std::string& mine, std::string_view tag) {
  const auto processes = static_cast<std::size_t>(num_processes_);
  const auto size = static_cast<std::int64_t>(mine.size());
  std::vector<std::int64_t> sizes(processes);
  all_gather(&size, 1, sizes.data(), base::DType::i64, tag);
  const auto longest = *std::max_element(sizes.begin(), sizes.end());
  std::string padded = mine;
  padded.resize(static_cast<std::size_t>(longest));
  std::string all(processes * padded.size(), '\0');
  all_gather(padded.data(), longest, all.data(), base::DType::u8, tag);
  std::vector<std::string> texts;
  for (std::size_t p = 0; p < processes; ++p) {
    texts.push_back(all.substr(p * padded.size(), static_cast<std::size_t>(sizes[p])));
  }
  return texts;
}

}  // namespace dfmoa::comm
