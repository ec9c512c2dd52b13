// Every collective on whole numbers, against its closed form: the same cases for every back end.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "distributed/comm/communicator.h"
#include "src/base/random.h"

namespace dfmoa::tests {

/// Values in [1, 4 * 8 * 2]: exact in every type that can be reduced, bf16 included.
template <class Value>
Value whole_number(int process, std::size_t i) {
  const auto number = (process + 1) * static_cast<int>(i % 8 + 1);
  if constexpr (std::is_same_v<Value, std::uint16_t>) {
    return base::to_bf16(static_cast<float>(number));
  } else {
    return static_cast<Value>(number);
  }
}

/// Sum, max and min of whole_number over all processes: weight * P (P + 1) / 2, weight * P, weight.
template <class Value>
void check_reduction(comm::Communicator& comm, base::DType dtype, std::int64_t count) {
  const auto processes = comm.num_processes();
  const auto elements = static_cast<std::size_t>(count);
  for (const auto op : {comm::Op::sum, comm::Op::max, comm::Op::min}) {
    const int scale = op == comm::Op::sum   ? processes * (processes + 1) / 2
                      : op == comm::Op::max ? processes
                                            : 1;
    std::vector<Value> values(elements);
    for (std::size_t i = 0; i < elements; ++i) values[i] = whole_number<Value>(comm.process(), i);
    comm.all_reduce(values.data(), count, dtype, op, "reduce");
    for (std::size_t i = 0; i < elements; ++i) {
      ASSERT_EQ(values[i], whole_number<Value>(scale - 1, i)) << base::name_of(dtype) << " " << i;
    }
    // Part p of process q is whole_number(q, i + p): every process gets another sum.
    std::vector<Value> parts;
    for (std::size_t p = 0; p < static_cast<std::size_t>(processes); ++p) {
      for (std::size_t i = 0; i < elements; ++i) {
        parts.push_back(whole_number<Value>(comm.process(), i + p));
      }
    }
    comm.reduce_scatter(parts.data(), values.data(), count, dtype, op, "scatter");
    for (std::size_t i = 0; i < elements; ++i) {
      ASSERT_EQ(values[i],
                whole_number<Value>(scale - 1, i + static_cast<std::size_t>(comm.process())));
    }
  }
}

inline void check_reductions(comm::Communicator& comm) {
  for (const std::int64_t count : {0, 1, 2, 3, 4, 5, 7, 1000}) {
    check_reduction<double>(comm, base::DType::f64, count);
    check_reduction<float>(comm, base::DType::f32, count);
    check_reduction<std::uint16_t>(comm, base::DType::bf16, count);
    check_reduction<std::int64_t>(comm, base::DType::i64, count);
    check_reduction<std::int32_t>(comm, base::DType::i32, count);
  }
}

/// Sums that round: the bits are those of adding in process order, whatever the cut.
inline void check_order(comm::Communicator& comm) {
  constexpr std::int64_t kCount = 4099;
  const auto processes = static_cast<std::size_t>(comm.num_processes());
  std::vector<std::vector<float>> all(processes, std::vector<float>(kCount));
  for (std::size_t p = 0; p < processes; ++p) {
    const base::KeyedRandom random(7, {p});
    for (std::size_t i = 0; i < kCount; ++i) all[p][i] = static_cast<float>(random.normal(i));
  }
  auto expected = all[0];
  for (std::size_t p = 1; p < processes; ++p) {
    for (std::size_t i = 0; i < kCount; ++i) expected[i] += all[p][i];
  }
  for (int run = 0; run < 3; ++run) {
    auto mine = all[static_cast<std::size_t>(comm.process())];
    comm.all_reduce(mine.data(), kCount, base::DType::f32, comm::Op::sum, "order");
    ASSERT_EQ(std::memcmp(mine.data(), expected.data(), kCount * sizeof(float)), 0);
  }
}

inline void check_ragged(comm::Communicator& comm) {
  const auto processes = static_cast<std::size_t>(comm.num_processes());
  const auto mine = static_cast<std::size_t>(comm.process());
  // Process p sends p * 10 + q copies of 100 p + q to process q; nothing from 0 to 0.
  std::vector<std::int64_t> send_counts;
  std::vector<std::int64_t> receive_counts;
  std::vector<std::int64_t> send;
  for (std::size_t q = 0; q < processes; ++q) {
    send_counts.push_back(static_cast<std::int64_t>(mine * 10 + q));
    receive_counts.push_back(static_cast<std::int64_t>(q * 10 + mine));
    send.insert(send.end(), mine * 10 + q, static_cast<std::int64_t>(100 * mine + q));
  }
  std::vector<std::int64_t> receive(static_cast<std::size_t>(
      std::accumulate(receive_counts.begin(), receive_counts.end(), std::int64_t{0})));
  comm.all_to_all(send.data(), send_counts, receive.data(), receive_counts, base::DType::i64,
                  "ragged");
  std::size_t at = 0;
  for (std::size_t q = 0; q < processes; ++q) {
    for (std::size_t i = 0; i < q * 10 + mine; ++i) {
      ASSERT_EQ(receive[at++], static_cast<std::int64_t>(100 * q + mine));
    }
  }
}

inline void check_exchanges(comm::Communicator& comm) {
  const auto processes = static_cast<std::size_t>(comm.num_processes());
  check_ragged(comm);
  check_ragged(comm);  // nothing of the first is left on the way
  for (const std::int64_t each : {0, 1, 3, 500}) {
    std::vector<std::int32_t> gathered(processes * static_cast<std::size_t>(each));
    const std::vector<std::int32_t> own(static_cast<std::size_t>(each), comm.process() * 7);
    comm.all_gather(own.data(), each, gathered.data(), base::DType::i32, "gather");
    for (std::size_t i = 0; i < gathered.size(); ++i) {
      ASSERT_EQ(gathered[i], static_cast<int>(i / static_cast<std::size_t>(each)) * 7);
    }
  }
}

inline void check_control(comm::Communicator& comm) {
  for (int root = 0; root < comm.num_processes(); ++root) {
    std::vector<double> values(100, comm.process() == root ? 42.0 + root : 0.0);
    comm.broadcast(values.data(), 100, base::DType::f64, root, "broadcast");
    ASSERT_EQ(values, std::vector<double>(100, 42.0 + root));
    ASSERT_FALSE(comm.agree(comm.process() != root, "agree"));
  }
  ASSERT_TRUE(comm.agree(true, "agree"));
  const auto texts =
      comm.gather_text(std::string(static_cast<std::size_t>(comm.process()), 'x'), "text");
  ASSERT_EQ(texts.size(), static_cast<std::size_t>(comm.num_processes()));
  for (std::size_t p = 0; p < texts.size(); ++p) ASSERT_EQ(texts[p], std::string(p, 'x'));
  comm.barrier("end");
}

/// The hash of what was issued is the same on all processes, ragged exchanges included.
inline void check_hash(comm::Communicator& comm) {
  check_ragged(comm);
  const auto mine = comm.recorder().hash();
  auto lowest = mine;
  auto highest = mine;
  comm.all_reduce(&lowest, 1, base::DType::i64, comm::Op::min, "hash");
  comm.all_reduce(&highest, 1, base::DType::i64, comm::Op::max, "hash");
  ASSERT_EQ(lowest, mine);
  ASSERT_EQ(highest, mine);
}

}  // namespace dfmoa::tests
