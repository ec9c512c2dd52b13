#include "distributed/comm/ring_report.h"

#include "distributed/comm/local.h"
#include "src/base/error.h"
#include "tests/comm/ring_folder.h"

namespace dfmoa::comm {
namespace {

using Sentences = std::vector<std::string>;

Record reduction(const std::string& tag, std::int64_t elements = 4) {
  return {tag, "all_reduce", elements, base::DType::f64};
}

/// One process: calls that ended, then perhaps one that did not.
Ring ring(int process, const std::vector<Record>& ended, const std::vector<Record>& inside = {}) {
  Ring result{process, 3, {}};
  for (const auto& record : ended) {
    result.entries.push_back({static_cast<std::int64_t>(result.entries.size()) + 1, record, true});
  }
  for (const auto& record : inside) {
    result.entries.push_back({static_cast<std::int64_t>(result.entries.size()) + 1, record, false});
  }
  return result;
}

const std::vector<Record> kStep = {reduction("C1"), reduction("C3")};

TEST(RingReport, says_when_all_agree) {
  EXPECT_EQ(ring_report({ring(0, kStep), ring(1, kStep), ring(2, kStep)}),
            Sentences{"all processes ended #2 all_reduce(C3) of 4 F64"});
  const std::vector<Record> first = {kStep[0]};
  const std::vector<Record> second = {kStep[1]};
  EXPECT_EQ(ring_report({ring(0, first, second), ring(1, first, second), ring(2, first, second)}),
            Sentences{"all processes are inside #2 all_reduce(C3) of 4 F64"});
  EXPECT_EQ(ring_report({ring(0, {}), ring(1, {}), ring(2, {})}),
            Sentences{"no process has called a collective"});
}

TEST(RingReport, names_the_process_that_never_entered) {
  const std::vector<Record> first = {kStep[0]};
  const std::vector<Record> second = {kStep[1]};
  EXPECT_EQ(ring_report({ring(0, first, second), ring(1, first), ring(2, first, second)}),
            Sentences{"process 1 never entered #2 all_reduce(C3) of 4 F64: its last was #1 "
                      "all_reduce(C1) of 4 F64"});
  EXPECT_EQ(ring_report({ring(0, {}, first), ring(1, {}), ring(2, {}, first)}),
            Sentences{"process 1 never entered #1 all_reduce(C1) of 4 F64: it called none"});
}

TEST(RingReport, names_the_process_that_never_left) {
  const std::vector<Record> first = {kStep[0]};
  EXPECT_EQ(ring_report({ring(0, first), ring(1, {}, first), ring(2, first)}),
            Sentences{"process 1 never left #1 all_reduce(C1) of 4 F64, which others ended"});
  EXPECT_EQ(ring_report({ring(0, kStep), ring(1, {}, first), ring(2, kStep)}),
            Sentences{"process 1 never left #1 all_reduce(C1) of 4 F64: others are at #2 "
                      "all_reduce(C3) of 4 F64"});
}

/// One process: what each of its calls has come to, 'e'nded, 'i'nside or in 'f'light.
Ring ring_of(int process, const std::string& states) {
  Ring result{process, 3, {}};
  for (const char state : states) {
    const auto number = static_cast<std::int64_t>(result.entries.size()) + 1;
    result.entries.push_back(
        {number, reduction(std::to_string(number)), state == 'e', state == 'f'});
  }
  return result;
}

Sentences report_of(const std::string& one, const std::string& two, const std::string& three) {
  return ring_report({ring_of(0, one), ring_of(1, two), ring_of(2, three)});
}

std::string name_of(int number) {
  return base::text("#", number, " all_reduce(", number, ") of 4 F64");
}

TEST(RingReport, tells_what_was_started_and_not_waited_for) {
  EXPECT_EQ(report_of("fe", "fe", "fe"),
            Sentences{"all processes started " + name_of(1) + " and did not wait for it"});
  EXPECT_EQ(report_of("ee", "fe", "ee"),
            Sentences{"process 1 started " + name_of(1) + " and did not wait for it"});
  EXPECT_EQ(report_of("ff", "ff", "fi"),
            (Sentences{"process 2 never left " + name_of(2),
                       "all processes started " + name_of(1) + " and did not wait for it",
                       "processes 0, 1 started " + name_of(2) + " and did not wait for it"}));
  EXPECT_EQ(report_of("ee", "ee", "ee"), Sentences{"all processes ended " + name_of(2)});
}

TEST(RingReport, names_who_waits_for_an_older_one) {
  EXPECT_EQ(report_of("iee", "iee", "iee"), Sentences{"all processes are inside " + name_of(1)});
  EXPECT_EQ(report_of("eee", "iee", "eee"),
            Sentences{"process 1 never left " + name_of(1) + ", which others ended"});
}

TEST(RingReport, names_who_went_elsewhere_while_others_wait) {
  EXPECT_EQ(report_of("ie", "fe", "ie"),
            (Sentences{"processes 0, 2 never left " + name_of(1),
                       "process 1 started " + name_of(1) + " and did not wait for it"}));
  EXPECT_EQ(report_of("if", "f", "if"),
            (Sentences{"process 1 never entered " + name_of(2) + ": its last was " + name_of(1),
                       "process 1 started " + name_of(1) + " and did not wait for it",
                       "processes 0, 2 started " + name_of(2) + " and did not wait for it"}));
  EXPECT_EQ(report_of("eee", "ie", "eee"),
            Sentences{"process 1 never left " + name_of(1) + ": others are at " + name_of(3)});
}

TEST(RingReport, sizes_of_parts_are_told_where_they_differ) {
  auto part = reduction("C1");
  part.processes = 2;
  EXPECT_EQ(ring_report({ring(0, {kStep[0]}), ring(1, {part}), ring(2, {kStep[0]})}).front(),
            "process 1 called #1 all_reduce(C1) of 4 F64 among 2, processes 0, 2 called #1 "
            "all_reduce(C1) of 4 F64 among 1");
}

TEST(RingReport, shows_both_calls_where_a_count_differs) {
  const std::vector<Record> odd = {kStep[0], reduction("C3", 5)};
  EXPECT_EQ(ring_report({ring(0, kStep), ring(1, kStep), ring(2, odd)}).front(),
            "process 2 called #2 all_reduce(C3) of 5 F64, processes 0, 1 called #2 "
            "all_reduce(C3) of 4 F64");
}

TEST(RingReport, shows_the_first_of_two_swapped_calls) {
  const std::vector<Record> swapped = {kStep[1], kStep[0]};
  EXPECT_EQ(ring_report({ring(0, swapped), ring(1, kStep), ring(2, kStep)}).front(),
            "process 0 called #1 all_reduce(C3) of 4 F64, processes 1, 2 called #1 "
            "all_reduce(C1) of 4 F64");
}

TEST(RingReport, parts_of_a_ragged_exchange_may_differ) {
  const auto ragged = [](int process, std::int64_t elements) {
    return ring(process, {{"tokens", "all_to_all", elements, base::DType::f32}});
  };
  EXPECT_EQ(ring_report({ragged(0, 1), ragged(1, 2), ragged(2, 3)}).size(), 1U);
  EXPECT_EQ(ring_report({ragged(0, 1), ragged(1, 2), ragged(2, 3)}).front().find("all processes"),
            0U);
}

TEST(RingReport, names_a_process_without_a_ring) {
  EXPECT_EQ(ring_report({ring(0, kStep), ring(2, kStep)}).front(), "process 1 left no ring");
}

TEST_F(RingFolder, the_rings_of_a_run_are_read_and_an_older_run_is_ignored) {
  EXPECT_THROW((void)read_rings(folder_), base::UsageError);
  writer(7, 8).begin(1, kStep[0]);
  run_local(3, [&](Communicator& comm) {
    comm.keep_ring(folder_);
    comm.barrier("one");
    double value = 0;
    comm.all_reduce(&value, 1, base::DType::f64, Op::sum, "two");
  });
  const auto rings = read_rings(folder_);
  ASSERT_EQ(rings.size(), 3U);
  EXPECT_EQ(ring_report(rings), Sentences{"all processes ended #2 all_reduce(two) of 1 F64"});
}

TEST_F(RingFolder, parts_write_into_the_ring_of_their_process) {
  run_local(2, [&](Communicator& comm) {
    comm.keep_ring(folder_);
    const auto part = comm.split(comm.process(), "alone");
    double value = 0;
    const auto pending = part->start_all_reduce(&value, 1, base::DType::f64, Op::sum, "part");
    comm.barrier("whole");
    const auto entries = read_ring(ring_path(folder_, comm.process())).entries;
    ASSERT_EQ(entries.size(), 3U);
    EXPECT_TRUE(entries[1].is_in_flight);
    EXPECT_TRUE(entries[2].has_ended);
    comm.barrier("read");
  });
  const auto rings = read_rings(folder_);
  ASSERT_EQ(rings.size(), 2U);
  EXPECT_EQ(rings[1].entries[1].record.processes, 1);
  EXPECT_EQ(ring_report(rings), Sentences{"all processes ended #4 barrier(read)"});
}

TEST_F(RingFolder, the_process_that_failed_is_named) {
  const auto body = [&](Communicator& comm) {
    comm.keep_ring(folder_);
    comm.barrier("one");
    if (comm.process() == 1) throw base::ContentError("broken");
    comm.barrier("two");
  };
  EXPECT_THROW(run_local(3, body), base::ContentError);
  const auto rings = read_rings(folder_);
  ASSERT_EQ(rings.size(), 3U);
  EXPECT_FALSE(rings[0].entries.back().has_ended) << "a collective that failed never ended";
  EXPECT_EQ(ring_report(rings),
            Sentences{"process 1 never entered #2 barrier(two): its last was #1 barrier(one)"});
}

}  // namespace
}  // namespace dfmoa::comm
