#include "distributed/comm/pending.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <thread>

#include "distributed/comm/communicator.h"
#include "src/base/error.h"

namespace dfmoa::comm {
namespace {

using std::chrono::milliseconds;

struct Seen {
  int finished = 0;
  int gone = 0;
  bool fails = false;
};

class WatchedInFlight final : public InFlight {
 public:
  explicit WatchedInFlight(Seen& seen) : seen_(seen) {}
  ~WatchedInFlight() override { ++seen_.gone; }
  void finish() override {
    std::this_thread::sleep_for(milliseconds(20));
    if (seen_.fails) throw base::MachineError("the wire is cut");
    ++seen_.finished;
  }

 private:
  Seen& seen_;
};

/// A back end whose all_reduce takes 20 ms to start and 20 ms to finish.
class SlowWorld final : public Communicator {
 public:
  SlowWorld() : Communicator(0, 1) {}
  Seen seen;

  Pending start(const std::string& tag) {
    return start_all_reduce(nullptr, 4, base::DType::f64, Op::sum, tag);
  }

 private:
  std::unique_ptr<InFlight> do_all_reduce(void*, std::int64_t, base::DType, Op) override {
    std::this_thread::sleep_for(milliseconds(20));
    return std::make_unique<WatchedInFlight>(seen);
  }
  std::unique_ptr<InFlight> do_all_gather(const void*, std::size_t, void*) override {
    throw base::MachineError("nothing can be started");
  }
  std::unique_ptr<InFlight> do_all_to_all(const void*, std::span<const std::int64_t>, void*,
                                          std::span<const std::int64_t>) override {
    return nullptr;
  }
  void do_broadcast(void*, std::size_t, int) override {}
  void do_barrier() override {}
  std::unique_ptr<Communicator> do_split(int) override { return nullptr; }
};

class PendingTest : public testing::Test {
 protected:
  SlowWorld world_;
};

TEST_F(PendingTest, is_finished_once_when_it_is_waited_for) {
  auto pending = world_.start("a");
  EXPECT_EQ(world_.seen.finished, 0);
  auto moved = std::move(pending);
  pending.wait();  // NOLINT(bugprone-use-after-move): nothing is left in it
  EXPECT_EQ(world_.seen.finished, 0);
  moved.wait();
  moved.wait();
  EXPECT_EQ(world_.seen.finished, 1);
  EXPECT_EQ(world_.seen.gone, 1);
  Pending().wait();
}

TEST_F(PendingTest, seconds_are_those_inside_start_and_wait) {
  auto pending = world_.start("a");
  EXPECT_GE(world_.recorder().seconds(), 0.02);
  std::this_thread::sleep_for(milliseconds(1500));
  pending.wait();
  const auto& record = world_.recorder().records().back();
  EXPECT_GE(record.seconds, 0.04);
  EXPECT_LT(record.seconds, 1.4) << "the time between is the caller's own";
  EXPECT_EQ(world_.recorder().seconds(), record.seconds);
}

TEST_F(PendingTest, ends_in_another_order_than_it_began) {
  auto first = world_.start("a");
  auto second = world_.start("b");
  second.wait();
  const auto& records = world_.recorder().records();
  EXPECT_GE(records[1].seconds, 0.04);
  const auto before = records[0].seconds;
  std::this_thread::sleep_for(milliseconds(5));
  first.wait();
  EXPECT_GE(records[0].seconds, before + 0.02);
  EXPECT_EQ(records[0].tag, "a");
  EXPECT_DOUBLE_EQ(world_.recorder().seconds(), records[0].seconds + records[1].seconds);
}

TEST_F(PendingTest, destructor_waits_for_what_nobody_waited_for) {
  { const auto pending = world_.start("a"); }
  EXPECT_EQ(world_.seen.finished, 1);
  auto pending = world_.start("b");
  pending = world_.start("c");
  EXPECT_EQ(world_.seen.finished, 2);
  EXPECT_EQ(world_.recorder().count(), 3);
}

TEST_F(PendingTest, a_failure_in_the_destructor_is_thrown_by_whatever_begins_next) {
  world_.seen.fails = true;
  { const auto pending = world_.start("a"); }
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      world_.barrier("b");
      FAIL() << "the failure got lost";
    } catch (const std::exception& error) {
      EXPECT_EQ(base::describe(error),
                "collective #1 all_reduce(a) of 4 F64 on process 0 of 1: the wire is cut");
      EXPECT_EQ(base::exit_code(error), base::ExitCode::machine);
    }
  }
  EXPECT_EQ(world_.recorder().count(), 1);
}

TEST_F(PendingTest, is_given_up_while_an_exception_passes_by) {
  EXPECT_THROW(
      {
        const auto pending = world_.start("a");
        throw std::runtime_error("something else");
      },
      std::runtime_error);
  EXPECT_EQ(world_.seen.finished, 0);
  EXPECT_EQ(world_.seen.gone, 1);
  world_.barrier("b");
}

TEST_F(PendingTest, one_that_lives_longer_than_an_exception_is_waited_for) {
  {
    const auto pending = world_.start("a");
    EXPECT_THROW(throw std::runtime_error("caught"), std::runtime_error);
  }
  EXPECT_EQ(world_.seen.finished, 1);
}

TEST_F(PendingTest, failures_name_the_collective_in_start_and_wait) {
  std::int64_t value = 0;
  const auto words = [](const auto& body) {
    try {
      body();
    } catch (const std::exception& error) {
      return base::describe(error);
    }
    return std::string();
  };
  EXPECT_EQ(words([&] { (void)world_.start_all_gather(&value, 1, &value, base::DType::i64, "g"); }),
            "collective #1 all_gather(g) of 1 I64 on process 0 of 1: nothing can be started");
  world_.seen.fails = true;
  auto first = world_.start("a");
  world_.barrier("between");
  EXPECT_EQ(words([&] { first.wait(); }),
            "collective #2 all_reduce(a) of 4 F64 on process 0 of 1: the wire is cut");
  first.wait();  // over, however it ended
  EXPECT_EQ(world_.seen.gone, 1);
}

}  // namespace
}  // namespace dfmoa::comm
