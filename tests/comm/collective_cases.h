// Every collective on whole numbers, against its closed form: the same cases for every back end.
#pragma once

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "distributed/comm/communicator.h"

namespace dfmoa::tests {

inline void check_reductions(comm::Communicator& comm) {
  const auto processes = comm.num_processes();
  for (const std::int64_t count : {0, 1, 2, 3, 5, 1000}) {
    std::vector<double> sum(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] = static_cast<double>((comm.process() + 1) * static_cast<int>(i + 1));
    }
    auto highest = sum;
    comm.all_reduce(sum.data(), count, base::DType::f64, comm::Op::sum, "sum");
    comm.all_reduce(highest.data(), count, base::DType::f64, comm::Op::max, "max");
    for (std::size_t i = 0; i < sum.size(); ++i) {
      const auto weight = static_cast<double>(i + 1);
      ASSERT_EQ(sum[i], weight * processes * (processes + 1) / 2);
      ASSERT_EQ(highest[i], weight * processes);
    }
  }
  std::vector<std::uint16_t> bf16(3, base::to_bf16(static_cast<float>(comm.process() + 1)));
  comm.all_reduce(bf16.data(), 3, base::DType::bf16, comm::Op::sum, "bf16");
  ASSERT_EQ(base::from_bf16(bf16[2]), static_cast<float>(processes * (processes + 1) / 2));
}

inline void check_exchanges(comm::Communicator& comm) {
  const auto processes = static_cast<std::size_t>(comm.num_processes());
  const auto mine = static_cast<std::size_t>(comm.process());
  // Ragged: process p sends p * 10 + q copies of 100 p + q to process q.
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
                  "a2a");
  std::size_t at = 0;
  for (std::size_t q = 0; q < processes; ++q) {
    for (std::size_t i = 0; i < q * 10 + mine; ++i) {
      ASSERT_EQ(receive[at++], static_cast<std::int64_t>(100 * q + mine));
    }
  }
  std::vector<std::int32_t> parts(2 * processes, comm.process() + 1);
  std::vector<std::int32_t> part(2);
  comm.reduce_scatter(parts.data(), part.data(), 2, base::DType::i32, comm::Op::sum, "rs");
  ASSERT_EQ(part[1], static_cast<int>(processes * (processes + 1) / 2));
  std::vector<std::int32_t> gathered(processes);
  const std::int32_t own = comm.process() * 7;
  comm.all_gather(&own, 1, gathered.data(), base::DType::i32, "ag");
  for (std::size_t p = 0; p < processes; ++p) ASSERT_EQ(gathered[p], static_cast<int>(p) * 7);
}

inline void check_control(comm::Communicator& comm) {
  const auto last = comm.num_processes() - 1;
  double value = comm.process() == last ? 42.0 : 0.0;
  comm.broadcast(&value, 1, base::DType::f64, last, "bc");
  ASSERT_EQ(value, 42.0);
  ASSERT_TRUE(comm.agree(true, "agree"));
  ASSERT_FALSE(comm.agree(comm.process() != last, "agree"));
  const auto texts =
      comm.gather_text(std::string(static_cast<std::size_t>(comm.process()), 'x'), "text");
  for (std::size_t p = 0; p < texts.size(); ++p) ASSERT_EQ(texts[p], std::string(p, 'x'));
  comm.barrier("end");
  // The hash of what was issued is the same on all processes.
  auto lowest = comm.recorder().hash();
  const auto before = lowest;
  comm.all_reduce(&lowest, 1, base::DType::i64, comm::Op::min, "hash");
  ASSERT_EQ(lowest, before);
}

}  // namespace dfmoa::tests
