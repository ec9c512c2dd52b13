// Started collectives and parts of a communicator, on whole numbers against their closed forms: the
// same cases for every back end.
#pragma once

#include <numeric>
#include <utility>
#include <vector>

#include "tests/comm/collective_cases.h"

namespace dfmoa::tests {

/// Data of one collective in flight, and what it must give. `salt` tells those in flight apart.
class InFlightCase {
 public:
  virtual ~InFlightCase() = default;
  virtual comm::Pending start(comm::Communicator& comm) = 0;
  virtual void expect() const = 0;
};

/// Element i of process p: salt + (p + 1) * (i % 97).
inline std::int64_t salted(int process, std::size_t i, std::int64_t salt) {
  return salt + (process + 1) * static_cast<std::int64_t>(i % 97);
}

/// Sum of `salted` over P processes.
inline std::int64_t salted_sum(int processes, std::size_t i, std::int64_t salt) {
  return processes * salt + processes * (processes + 1) / 2 * static_cast<std::int64_t>(i % 97);
}

class AllReduceCase final : public InFlightCase {
 public:
  AllReduceCase(std::int64_t count, std::int64_t salt)
      : values_(static_cast<std::size_t>(count)), salt_(salt) {}
  comm::Pending start(comm::Communicator& comm) override {
    processes_ = comm.num_processes();
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] = salted(comm.process(), i, salt_);
    return comm.start_all_reduce(values_.data(), std::ssize(values_), base::DType::i64,
                                 comm::Op::sum, "reduce");
  }
  void expect() const override {
    for (std::size_t i = 0; i < values_.size(); ++i) {
      ASSERT_EQ(values_[i], salted_sum(processes_, i, salt_)) << i << " of salt " << salt_;
    }
  }

 private:
  std::vector<std::int64_t> values_;
  std::int64_t salt_;
  int processes_ = 0;
};

class AllGatherCase final : public InFlightCase {
 public:
  AllGatherCase(std::int64_t each, std::int64_t salt)
      : own_(static_cast<std::size_t>(each)), salt_(salt) {}
  comm::Pending start(comm::Communicator& comm) override {
    for (std::size_t i = 0; i < own_.size(); ++i) own_[i] = salted(comm.process(), i, salt_);
    all_.assign(own_.size() * static_cast<std::size_t>(comm.num_processes()), -1);
    return comm.start_all_gather(own_.data(), std::ssize(own_), all_.data(), base::DType::i64,
                                 "gather");
  }
  void expect() const override {
    for (std::size_t i = 0; i < all_.size(); ++i) {
      ASSERT_EQ(all_[i], salted(static_cast<int>(i / own_.size()), i % own_.size(), salt_)) << i;
    }
  }

 private:
  std::vector<std::int64_t> own_;
  std::vector<std::int64_t> all_;
  std::int64_t salt_;
};

class ReduceScatterCase final : public InFlightCase {
 public:
  ReduceScatterCase(std::int64_t each, std::int64_t salt)
      : part_(static_cast<std::size_t>(each), -1), salt_(salt) {}
  comm::Pending start(comm::Communicator& comm) override {
    process_ = static_cast<std::size_t>(comm.process());
    processes_ = comm.num_processes();
    all_.resize(part_.size() * static_cast<std::size_t>(processes_));
    for (std::size_t i = 0; i < all_.size(); ++i) all_[i] = salted(comm.process(), i, salt_);
    return comm.start_reduce_scatter(all_.data(), part_.data(), std::ssize(part_), base::DType::i64,
                                     comm::Op::sum, "scatter");
  }
  void expect() const override {
    for (std::size_t i = 0; i < part_.size(); ++i) {
      ASSERT_EQ(part_[i], salted_sum(processes_, process_ * part_.size() + i, salt_)) << i;
    }
  }

 private:
  std::vector<std::int64_t> part_;
  std::vector<std::int64_t> all_;
  std::int64_t salt_;
  std::size_t process_ = 0;
  int processes_ = 0;
};

/// Process p sends (p + q) % 3 * unit elements to process q: every third part is empty.
class RaggedCase final : public InFlightCase {
 public:
  RaggedCase(std::size_t unit, std::int64_t salt) : unit_(unit), salt_(salt) {}
  comm::Pending start(comm::Communicator& comm) override {
    process_ = static_cast<std::size_t>(comm.process());
    for (std::size_t q = 0; q < static_cast<std::size_t>(comm.num_processes()); ++q) {
      counts_.push_back(static_cast<std::int64_t>((process_ + q) % 3 * unit_));
      for (std::size_t i = 0; i < (process_ + q) % 3 * unit_; ++i) {
        send_.push_back(salted(comm.process(), q + i, salt_));
      }
    }
    receive_.assign(send_.size(), -1);  // the counts are symmetric
    return comm.start_all_to_all(send_.data(), counts_, receive_.data(), counts_, base::DType::i64,
                                 "ragged");
  }
  void expect() const override {
    std::size_t at = 0;
    for (std::size_t q = 0; q < counts_.size(); ++q) {
      for (std::size_t i = 0; i < static_cast<std::size_t>(counts_[q]); ++i) {
        ASSERT_EQ(receive_[at++], salted(static_cast<int>(q), process_ + i, salt_)) << q;
      }
    }
  }

 private:
  std::size_t unit_;
  std::int64_t salt_;
  std::size_t process_ = 0;
  std::vector<std::int64_t> counts_;
  std::vector<std::int64_t> send_;
  std::vector<std::int64_t> receive_;
};

using InFlightCases = std::vector<std::unique_ptr<InFlightCase>>;

/// Two of every kind, with other data each, of `size` elements and of few or none.
inline InFlightCases in_flight_cases(std::int64_t size) {
  InFlightCases cases;
  for (const std::int64_t count : {size, std::int64_t{3}, std::int64_t{0}, size}) {
    const auto salt = 1000 * (std::ssize(cases) + 1);
    cases.push_back(std::make_unique<AllReduceCase>(count, salt));
    cases.push_back(std::make_unique<AllGatherCase>(count, salt + 100));
    cases.push_back(std::make_unique<ReduceScatterCase>(count, salt + 200));
    cases.push_back(std::make_unique<RaggedCase>(static_cast<std::size_t>(count), salt + 300));
  }
  return cases;
}

/// Starts case i on comms[i % n], waits for all in their order or the reverse.
inline void run_in_flight(const InFlightCases& cases, const std::vector<comm::Communicator*>& comms,
                          bool reversed) {
  std::vector<comm::Pending> pending;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    pending.push_back(cases[i]->start(*comms[i % comms.size()]));
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    pending[reversed ? cases.size() - 1 - i : i].wait();
  }
  for (const auto& one : cases) one->expect();
}

inline void check_started(comm::Communicator& comm) {
  for (const std::int64_t size : {1, 50, 300}) {
    run_in_flight(in_flight_cases(size), {&comm}, false);
    run_in_flight(in_flight_cases(size), {&comm}, true);
  }
}

/// Two sums in flight, waited for in another order by every second process: what one needs of the
/// other must come all the same, and go where it belongs.
inline void check_orders_of_waiting(comm::Communicator& comm) {
  for (int round = 0; round < 50; ++round) {
    run_in_flight(in_flight_cases(50), {&comm}, comm.process() % 2 == 1);
    AllReduceCase first(20, 1000 + round);
    AllReduceCase second(20, 2000 + round);
    auto one = first.start(comm);
    auto two = second.start(comm);
    (comm.process() % 2 == 0 ? one : two).wait();
    (comm.process() % 2 == 0 ? two : one).wait();
    first.expect();
    second.expect();
  }
}

/// Halves {0, 1}, {2, 3}, then even and odd: sizes, numbers, and sums over the members.
inline void check_split(comm::Communicator& comm) {
  const int mine = comm.process();
  for (const bool halves : {true, false}) {
    const auto color_of = [&](int process) { return halves ? process / 2 : process % 2; };
    const auto part = comm.split(color_of(mine), halves ? "halves" : "parity");
    std::vector<std::int32_t> members;
    for (int p = 0; p < comm.num_processes(); ++p) {
      if (color_of(p) == color_of(mine)) members.push_back(p);
    }
    ASSERT_EQ(part->num_processes(), static_cast<int>(members.size()));
    ASSERT_EQ(members[static_cast<std::size_t>(part->process())], mine);
    std::vector<std::int32_t> gathered(members.size());
    part->all_gather(&mine, 1, gathered.data(), base::DType::i32, "members");
    ASSERT_EQ(gathered, members);
    int sum = mine;
    part->all_reduce(&sum, 1, base::DType::i32, comm::Op::sum, "sum");
    ASSERT_EQ(sum, std::accumulate(members.begin(), members.end(), 0));
    for (int root = 0; root < part->num_processes(); ++root) {
      int value = mine;
      part->broadcast(&value, 1, base::DType::i32, root, "root");
      ASSERT_EQ(value, members[static_cast<std::size_t>(root)]);
    }
    part->barrier("part");
    check_exchanges(*part);
  }
}

/// A part of a part has the one process left; the whole is as it was.
inline void check_split_again(comm::Communicator& comm) {
  const auto halves = comm.split(comm.process() / 2, "halves");
  const auto alone = halves->split(halves->process(), "alone");
  ASSERT_EQ(alone->num_processes(), 1);
  ASSERT_EQ(&alone->recorder(), &comm.recorder());
  check_exchanges(*alone);
  check_started(*alone);
  check_exchanges(comm);
}

/// In flight on the whole and on two parts at once, in both orders of waiting.
inline void check_parts_in_flight(comm::Communicator& comm) {
  const auto halves = comm.split(comm.process() / 2, "halves");
  const auto parity = comm.split(comm.process() % 2, "parity");
  for (const bool reversed : {false, true, comm.process() % 2 == 1}) {
    run_in_flight(in_flight_cases(200), {&comm, halves.get(), parity.get()}, reversed);
  }
  auto before = InFlightCases();
  before.push_back(std::make_unique<AllReduceCase>(10, 1));
  auto pending = before[0]->start(*halves);
  check_exchanges(comm);  // blocking ones of the whole, while one of the part is in flight
  pending.wait();
  before[0]->expect();
}

/// One sequence and one hash, whatever part carried it out. Even numbers of processes have parts of
/// one size.
inline void check_recorder_of_parts(comm::Communicator& comm) {
  const int parts = comm.num_processes() % 2 == 0 ? 2 : 1;
  auto& recorder = comm.recorder();
  recorder.clear();
  const auto before = recorder.bytes();
  const auto sent = recorder.sent_bytes();
  const auto part = comm.split(comm.process() % parts, "parts");
  const int size = part->num_processes();
  ASSERT_EQ(&part->recorder(), &recorder);
  std::vector<double> values(16);
  auto pending = part->start_all_reduce(values.data(), 8, base::DType::f64, comm::Op::sum, "part");
  comm.all_reduce(values.data() + 8, 8, base::DType::f64, comm::Op::sum, "whole");
  pending.wait();
  std::vector<comm::Record> expected{{"parts", "split", 0, base::DType::u8},
                                     {"part", "all_reduce", 8, base::DType::f64},
                                     {"whole", "all_reduce", 8, base::DType::f64}};
  expected[0].processes = expected[2].processes = comm.num_processes();
  expected[1].processes = size;
  ASSERT_EQ(recorder.records(), expected);
  ASSERT_EQ(recorder.bytes() - before, 2 * 64);
  ASSERT_EQ(
      recorder.sent_bytes() - sent,
      2 * (size - 1) * 64 / size + 2 * (comm.num_processes() - 1) * 64 / comm.num_processes());
  check_ragged(*part);
  check_hash(comm);
}

/// One that nobody waited for is over after its life; so is one that another takes the place of.
inline void check_unwaited(comm::Communicator& comm) {
  AllReduceCase dropped(100, 5);
  AllReduceCase replaced(100, 6);
  AllReduceCase kept(100, 7);
  { const auto pending = dropped.start(comm); }
  dropped.expect();
  auto pending = replaced.start(comm);
  pending = kept.start(comm);
  replaced.expect();
  auto moved = std::move(pending);
  moved.wait();
  moved.wait();  // at once
  kept.expect();
}

}  // namespace dfmoa::tests
