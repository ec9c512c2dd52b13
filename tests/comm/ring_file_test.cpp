#include "distributed/comm/ring_file.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "src/base/error.h"
#include "src/base/file.h"
#include "tests/comm/ring_folder.h"

namespace dfmoa::comm {
namespace {

const Record kCall{"C2/layer/17", "reduce_scatter", 40, base::DType::bf16};

TEST_F(RingFolder, an_entry_is_there_before_its_start_and_marked_after_its_end) {
  auto ring = writer(3, 4);
  ring.begin(1, kCall);
  ring.end(1);
  ring.begin(2, kCall);
  const auto read = read_ring(ring_path(folder_, 3));
  EXPECT_EQ(read.process, 3);
  EXPECT_EQ(read.num_processes, 4);
  ASSERT_EQ(read.entries.size(), 2U);
  EXPECT_EQ(read.entries[1].number, 2);
  EXPECT_EQ(read.entries[1].record, kCall);
  EXPECT_TRUE(read.entries[0].has_ended);
  EXPECT_FALSE(read.entries[1].has_ended);
}

TEST_F(RingFolder, an_entry_tells_whether_its_process_is_inside_or_it_is_in_flight) {
  auto ring = writer(0, 4);
  auto of_a_part = kCall;
  of_a_part.processes = 2;
  of_a_part.kept_elements = 7;
  for (const std::int64_t number : {1, 2, 3}) ring.begin(number, of_a_part);
  for (const std::int64_t number : {1, 2, 3}) ring.leave(number);
  ring.enter(3);
  ring.end(3);
  ring.enter(1);
  const auto entries = read_ring(ring_path(folder_, 0)).entries;
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_FALSE(entries[0].has_ended);
  EXPECT_FALSE(entries[0].is_in_flight);
  EXPECT_FALSE(entries[1].has_ended);
  EXPECT_TRUE(entries[1].is_in_flight);
  EXPECT_TRUE(entries[2].has_ended);
  EXPECT_FALSE(entries[2].is_in_flight);
  EXPECT_EQ(entries[0].record, of_a_part);
  EXPECT_EQ(entries[0].record.kept_elements, 7);
}

TEST_F(RingFolder, what_ends_after_its_slot_was_used_again_marks_no_other) {
  auto ring = writer(0, 1);
  ring.begin(1, kCall);
  ring.leave(1);
  ring.begin(1 + kRingEntries, kCall);
  ring.enter(1);
  ring.end(1);
  const auto entries = read_ring(ring_path(folder_, 0)).entries;
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_FALSE(entries[0].has_ended);
}

TEST_F(RingFolder, keeps_the_last_4096_in_order) {
  auto ring = writer(0, 1);
  for (std::int64_t number = 1; number <= 10000; ++number) {
    ring.begin(number, {"C1", "all_reduce", number, base::DType::f64});
    ring.end(number);
  }
  const auto read = read_ring(ring_path(folder_, 0));
  ASSERT_EQ(read.entries.size(), 4096U);
  for (std::size_t i = 0; i < read.entries.size(); ++i) {
    ASSERT_EQ(read.entries[i].number, static_cast<std::int64_t>(5905 + i));
    ASSERT_EQ(read.entries[i].record.elements, static_cast<std::int64_t>(5905 + i));
  }
}

TEST_F(RingFolder, a_slot_that_is_used_again_is_not_ended) {
  auto ring = writer(0, 1);
  ring.begin(1, kCall);
  ring.end(1);
  ring.begin(1 + kRingEntries, kCall);
  EXPECT_FALSE(read_ring(ring_path(folder_, 0)).entries.back().has_ended);
}

TEST_F(RingFolder, survives_the_death_of_its_process) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto ring = writer(0, 2);
    ring.begin(1, kCall);
    ring.end(1);
    ring.begin(2, kCall);
    ::raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  const auto read = read_ring(ring_path(folder_, 0));
  ASSERT_EQ(read.entries.size(), 2U);
  EXPECT_TRUE(read.entries[0].has_ended);
  EXPECT_FALSE(read.entries[1].has_ended);
}

TEST_F(RingFolder, long_names_are_cut) {
  auto ring = writer(0, 1);
  ring.begin(1, {std::string(200, 't'), std::string(40, 'o'), 1, base::DType::f32});
  const auto read = read_ring(ring_path(folder_, 0));
  EXPECT_EQ(read.entries[0].record.tag, std::string(71, 't'));
  EXPECT_EQ(read.entries[0].record.op, std::string(15, 'o'));
}

TEST_F(RingFolder, a_new_run_empties_the_file) {
  writer(0, 1).begin(1, kCall);
  const auto ring = writer(0, 1);
  EXPECT_TRUE(read_ring(ring_path(folder_, 0)).entries.empty());
}

TEST_F(RingFolder, what_is_no_ring_is_refused) {
  const auto path = ring_path(folder_, 0);
  EXPECT_EQ(path.filename(), "collectives_00000.ring");
  EXPECT_THROW((void)read_ring(path), base::UsageError);
  writer(0, 1).begin(1, kCall);
  auto content = base::read_file(path);
  base::write_file(path, content.substr(0, content.size() - 1));
  EXPECT_THROW((void)read_ring(path), base::ContentError);
  auto foreign = content;
  foreign[0] = 'X';
  base::write_file(path, foreign);
  EXPECT_THROW((void)read_ring(path), base::ContentError);
  auto type = content;
  type[64 + 24] = 99;  // the element type of the first entry
  base::write_file(path, type);
  EXPECT_THROW((void)read_ring(path), base::ContentError);
  type = content;
  type[64 + 31] = '\xff';  // its sign
  base::write_file(path, type);
  EXPECT_THROW((void)read_ring(path), base::ContentError);
  EXPECT_THROW(RingWriter(folder_ / "none" / "x.ring", 0, 1), base::MachineError);
}

}  // namespace
}  // namespace dfmoa::comm
