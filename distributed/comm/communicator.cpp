#include "distributed/comm/communicator.h"

#include <algorithm>

#include "distributed/comm/ring_file.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::comm {
namespace {

void check_reducible(std::string_view tag, base::DType dtype) {
  if (can_reduce(dtype)) return;
  throw base::ShapeError(base::text("reducing ", tag, ": the type is ", base::name_of(dtype),
                                    ", expected F64, F32, BF16, I64 or I32"));
}

/// The counts of one side of a ragged exchange in bytes.
std::vector<std::int64_t> in_bytes(std::span<const std::int64_t> counts, int num_processes,
                                   base::DType dtype, std::string_view tag) {
  if (counts.size() != static_cast<std::size_t>(num_processes)) {
    throw base::ShapeError(base::text("all_to_all(", tag, "): ", counts.size(), " counts for ",
                                      num_processes, " processes"));
  }
  std::vector<std::int64_t> bytes;
  for (const auto count : counts) {
    if (count < 0) throw base::ShapeError(base::text("all_to_all(", tag, "): a count is ", count));
    bytes.push_back(count * static_cast<std::int64_t>(base::size_of(dtype)));
  }
  return bytes;
}

/// An exchange whose parts are reduced when all have come.
class ReduceScatter final : public InFlight {
 public:
  ReduceScatter(void* out, std::int64_t count, base::DType dtype, Op op, int num_processes)
      : out_(out),
        count_(count),
        dtype_(dtype),
        op_(op),
        part_bytes_(static_cast<std::size_t>(count) * base::size_of(dtype)),
        received_(part_bytes_ * static_cast<std::size_t>(num_processes)) {}

  [[nodiscard]] std::byte* received() { return received_.data(); }
  void follow(std::unique_ptr<InFlight> exchange) { exchange_ = std::move(exchange); }

  void finish() override {
    if (exchange_) exchange_->finish();
    std::vector<const void*> parts;
    for (std::size_t at = 0; at < received_.size(); at += part_bytes_) {
      parts.push_back(received_.data() + at);
    }
    if (count_ > 0) reduce_parts(out_, parts, count_, dtype_, op_);
  }

 private:
  void* out_;
  std::int64_t count_;
  base::DType dtype_;
  Op op_;
  std::size_t part_bytes_;
  std::vector<std::byte> received_;
  std::unique_ptr<InFlight> exchange_;  // writes into received_: gone before it
};

}  // namespace

Pending Communicator::start(Record call, const Pending::Start& body) {
  if (call.elements < 0) {
    throw base::ShapeError(base::text(call.op, "(", call.tag, "): the count is ", call.elements));
  }
  call.processes = num_processes_;
  return {recorder_, std::move(call), process_, body};
}

void Communicator::carry_out(Record call, const std::function<void()>& body) {
  start(std::move(call), [&] {
    body();
    return nullptr;
  }).wait();
}

Pending Communicator::start_all_reduce(void* data, std::int64_t count, base::DType dtype, Op op,
                                       std::string_view tag) {
  check_reducible(tag, dtype);
  return start({std::string(tag), "all_reduce", count, dtype},
               [&] { return do_all_reduce(data, count, dtype, op); });
}

void Communicator::all_reduce(void* data, std::int64_t count, base::DType dtype, Op op,
                              std::string_view tag) {
  start_all_reduce(data, count, dtype, op, tag).wait();
}

Pending Communicator::start_all_gather(const void* in, std::int64_t count_each, void* out,
                                       base::DType dtype, std::string_view tag) {
  return start({std::string(tag), "all_gather", count_each, dtype}, [&] {
    return do_all_gather(in, static_cast<std::size_t>(count_each) * base::size_of(dtype), out);
  });
}

void Communicator::all_gather(const void* in, std::int64_t count_each, void* out, base::DType dtype,
                              std::string_view tag) {
  start_all_gather(in, count_each, out, dtype, tag).wait();
}

Pending Communicator::start_reduce_scatter(const void* in, void* out, std::int64_t count_each,
                                           base::DType dtype, Op op, std::string_view tag) {
  check_reducible(tag, dtype);
  return start({std::string(tag), "reduce_scatter", count_each, dtype}, [&] {
    const auto bytes_each = count_each * static_cast<std::int64_t>(base::size_of(dtype));
    const std::vector<std::int64_t> sizes(static_cast<std::size_t>(num_processes_), bytes_each);
    auto result = std::make_unique<ReduceScatter>(out, count_each, dtype, op, num_processes_);
    result->follow(do_all_to_all(in, sizes, result->received(), sizes));
    return result;
  });
}

void Communicator::reduce_scatter(const void* in, void* out, std::int64_t count_each,
                                  base::DType dtype, Op op, std::string_view tag) {
  start_reduce_scatter(in, out, count_each, dtype, op, tag).wait();
}

Pending Communicator::start_all_to_all(const void* send, std::span<const std::int64_t> send_counts,
                                       void* receive, std::span<const std::int64_t> receive_counts,
                                       base::DType dtype, std::string_view tag) {
  const auto send_bytes = in_bytes(send_counts, num_processes_, dtype, tag);
  const auto receive_bytes = in_bytes(receive_counts, num_processes_, dtype, tag);
  Record call{std::string(tag), "all_to_all", 0, dtype};
  for (const auto count : send_counts) call.elements += count;
  call.kept_elements = send_counts[static_cast<std::size_t>(process_)];
  return start(std::move(call),
               [&] { return do_all_to_all(send, send_bytes, receive, receive_bytes); });
}

void Communicator::all_to_all(const void* send, std::span<const std::int64_t> send_counts,
                              void* receive, std::span<const std::int64_t> receive_counts,
                              base::DType dtype, std::string_view tag) {
  start_all_to_all(send, send_counts, receive, receive_counts, dtype, tag).wait();
}

void Communicator::broadcast(void* data, std::int64_t count, base::DType dtype, int root,
                             std::string_view tag) {
  if (root < 0 || root >= num_processes_) {
    throw base::ShapeError(
        base::text("broadcast(", tag, "): the root is process ", root, " of ", num_processes_));
  }
  Record call{std::string(tag), "broadcast", count, dtype};
  if (process_ != root) call.kept_elements = count;
  carry_out(std::move(call), [&] {
    do_broadcast(data, static_cast<std::size_t>(count) * base::size_of(dtype), root);
  });
}

void Communicator::barrier(std::string_view tag) {
  carry_out({std::string(tag), "barrier", 0, base::DType::u8}, [&] { do_barrier(); });
}

std::unique_ptr<Communicator> Communicator::split(int color, std::string_view tag) {
  if (color < 0) {
    throw base::ShapeError(base::text("split(", tag, "): the color is ", color, ", expected >= 0"));
  }
  std::unique_ptr<Communicator> part;
  carry_out({std::string(tag), "split", 0, base::DType::u8}, [&] { part = do_split(color); });
  return part;
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

void Communicator::keep_ring(const std::filesystem::path& folder) {
  if (is_part_) {
    throw base::ShapeError(base::text("keeping a ring of process ", process_, " of ",
                                      num_processes_, ": a part of the run has none of its own"));
  }
  recorder_->mirror(
      std::make_unique<RingWriter>(ring_path(folder, process_), process_, num_processes_));
}

}  // namespace dfmoa::comm
