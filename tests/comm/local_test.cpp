#include "distributed/comm/local.h"

#include <array>
#include <atomic>

#include "src/base/error.h"
#include "tests/comm/started_cases.h"

namespace dfmoa::comm {
namespace {

class LocalCommunicator : public testing::TestWithParam<int> {};

TEST_P(LocalCommunicator, reductions_equal_their_closed_form) {
  run_local(GetParam(), tests::check_reductions);
}

TEST_P(LocalCommunicator, sums_are_added_in_process_order) {
  run_local(GetParam(), tests::check_order);
}

TEST_P(LocalCommunicator, exchanges_equal_their_closed_form) {
  run_local(GetParam(), tests::check_exchanges);
}

TEST_P(LocalCommunicator, broadcast_votes_and_texts_reach_everybody) {
  run_local(GetParam(), tests::check_control);
}

TEST_P(LocalCommunicator, all_processes_hash_the_same_sequence) {
  run_local(GetParam(), tests::check_hash);
}

TEST_P(LocalCommunicator, what_is_started_equals_its_closed_form) {
  run_local(GetParam(), tests::check_started);
}

TEST_P(LocalCommunicator, processes_may_wait_in_different_orders) {
  run_local(GetParam(), tests::check_orders_of_waiting);
}

TEST_P(LocalCommunicator, what_nobody_waited_for_ends_with_its_life) {
  run_local(GetParam(), tests::check_unwaited);
}

TEST_P(LocalCommunicator, parts_hold_the_processes_of_one_color_in_order) {
  run_local(GetParam(), tests::check_split);
  run_local(GetParam(), tests::check_split_again);
}

TEST_P(LocalCommunicator, parts_and_the_whole_are_in_flight_together) {
  run_local(GetParam(), tests::check_parts_in_flight);
}

TEST_P(LocalCommunicator, parts_share_the_recorder) {
  run_local(GetParam(), tests::check_recorder_of_parts);
}

TEST(LocalCommunicatorOfOne, looks_at_nothing_to_reduce_it) {
  const auto world = make_single();
  world->all_reduce(nullptr, 3, base::DType::f64, Op::sum, "C2");  // as a device's memory would be
  EXPECT_EQ(world->recorder().records().back().elements, 3);
}

INSTANTIATE_TEST_SUITE_P(Processes, LocalCommunicator, testing::Values(1, 2, 3, 4));

std::string words_of(int processes, const std::function<void(Communicator&)>& body) {
  try {
    run_local(processes, body);
  } catch (const std::exception& error) {
    return base::describe(error);
  }
  return "no error";
}

TEST(LocalWorld, one_failed_process_frees_the_others_and_reaches_the_caller) {
  for (const int failing : {0, 1, 2}) {
    std::atomic<int> freed = 0;
    EXPECT_THROW(run_local(3,
                           [&](Communicator& comm) {
                             comm.barrier("once");
                             if (comm.process() == failing) throw base::ContentError("broken");
                             try {
                               comm.barrier("never");
                             } catch (const std::exception&) {
                               ++freed;
                               throw;
                             }
                           }),
                 base::ContentError);
    EXPECT_EQ(freed, 2);
  }
}

TEST(LocalWorld, nobody_passes_a_collective_after_a_failure) {
  std::atomic<int> passed = 0;
  EXPECT_THROW(run_local(2,
                         [&](Communicator& comm) {
                           comm.barrier("never");  // what was published last looks like an answer
                           if (comm.process() == 1) throw base::ContentError("broken");
                           for (int attempt = 0; attempt < 5; ++attempt) {
                             try {
                               comm.barrier("never");
                               ++passed;
                             } catch (const std::exception&) {  // tried again on purpose
                             }
                           }
                         }),
               base::ContentError);
  EXPECT_EQ(passed, 0);
}

TEST(LocalWorld, a_process_that_ends_too_early_frees_the_others) {
  for (const int early : {0, 1, 2}) {
    const auto words = words_of(3, [&](Communicator& comm) {
      comm.barrier("once");
      if (comm.process() != early) comm.barrier("one too many");
    });
    EXPECT_NE(words.find("another process ended and will not come"), std::string::npos) << words;
    EXPECT_NE(words.find("barrier(one too many)"), std::string::npos) << words;
  }
}

TEST(LocalWorld, both_calls_are_shown_where_they_differ) {
  EXPECT_NE(words_of(3,
                     [](Communicator& comm) {
                       double value = 0;
                       if (comm.process() == 2) comm.barrier("skipped an all_reduce");
                       comm.all_reduce(&value, 1, base::DType::f64, Op::sum, "C1");
                     })
                .find("process 2 called barrier(skipped an all_reduce), process 0 called "
                      "all_reduce(C1) of 1 F64"),
            std::string::npos);
  EXPECT_NE(words_of(2, [](Communicator& comm) { comm.barrier(comm.process() == 0 ? "C1" : "C3"); })
                .find("process 1 called barrier(C3), process 0 called barrier(C1)"),
            std::string::npos);
}

TEST(LocalWorld, a_failure_frees_those_who_wait_in_any_part) {
  for (const int failing : {0, 1, 2, 3}) {
    std::atomic<int> freed = 0;
    EXPECT_THROW(run_local(4,
                           [&](Communicator& comm) {
                             const auto halves = comm.split(comm.process() / 2, "halves");
                             const auto same = halves->split(0, "the same again");
                             comm.barrier("once");
                             if (comm.process() == failing) throw base::ContentError("broken");
                             try {  // some wait in the part of a part, some in the whole
                               (comm.process() % 2 == 0 ? *same : comm).barrier("never");
                             } catch (const std::exception&) {
                               ++freed;
                               throw;
                             }
                           }),
                 base::ContentError);
    EXPECT_EQ(freed, 3);
  }
}

TEST(LocalWorld, a_process_that_ends_frees_its_parts_and_leaves_the_others_at_work) {
  for (const int early : {0, 1}) {
    std::atomic<int> worked = 0;
    std::string words;
    run_local(4, [&](Communicator& comm) {
      const auto halves = comm.split(comm.process() / 2, "halves");
      const auto same = halves->split(0, "the same again");
      if (comm.process() == early) return;
      if (comm.process() == 1 - early) {
        try {
          same->barrier("one too many");
        } catch (const std::exception& error) {
          words = base::describe(error);
        }
        return;
      }
      for (int round = 0; round < 1000; ++round) same->barrier("works");
      ++worked;
    });
    EXPECT_NE(words.find("another process ended and will not come"), std::string::npos) << words;
    EXPECT_EQ(worked, 2);
  }
}

TEST(LocalWorld, different_calls_are_seen_in_parts_and_in_a_split) {
  EXPECT_NE(words_of(4,
                     [](Communicator& comm) {
                       const auto part = comm.split(comm.process() % 2, "parity");
                       double value = 0;
                       if (comm.process() == 2) part->barrier("skipped an all_reduce");
                       auto pending =
                           part->start_all_reduce(&value, 1, base::DType::f64, Op::sum, "C1");
                       pending.wait();
                     })
                .find("process 1 called barrier(skipped an all_reduce), process 0 called "
                      "all_reduce(C1) of 1 F64"),
            std::string::npos);
  EXPECT_NE(words_of(2,
                     [](Communicator& comm) {
                       if (comm.process() == 1) comm.barrier("mesh");
                       (void)comm.split(0, "mesh");
                     })
                .find("process 1 called barrier(mesh), process 0 called split(mesh)"),
            std::string::npos);
  EXPECT_NE(words_of(2, [](Communicator& comm) { (void)comm.split(0, comm.process() ? "b" : "a"); })
                .find("process 1 called split(b), process 0 called split(a)"),
            std::string::npos);
}

TEST(LocalWorld, ragged_counts_must_fit) {
  const auto words = words_of(2, [](Communicator& comm) {
    const std::array<std::int64_t, 2> send = {1, 1};
    const std::array<std::int64_t, 2> receive = {1, comm.process() == 0 ? 2 : 1};
    std::array<double, 4> buffer{};
    std::array<double, 4> out{};
    comm.all_to_all(buffer.data(), send, out.data(), receive, base::DType::f64, "ragged");
  });
  EXPECT_NE(words.find("process 1 sends 8 bytes, expected 16"), std::string::npos) << words;
}

TEST(LocalWorld, single_is_a_world_of_one) {
  const auto comm = make_single();
  EXPECT_EQ(comm->num_processes(), 1);
  tests::check_reductions(*comm);
  tests::check_exchanges(*comm);
  tests::check_control(*comm);
  tests::check_started(*comm);
  tests::check_split(*comm);
}

}  // namespace
}  // namespace dfmoa::comm
