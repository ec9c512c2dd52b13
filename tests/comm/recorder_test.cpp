#include "distributed/comm/recorder.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <thread>

namespace dfmoa::comm {
namespace {

const Record kFirst{"C1", "all_reduce", 4, base::DType::f64};
const Record kSecond{"C3", "all_reduce", 5, base::DType::f64};

std::int64_t hash_of(const std::vector<Record>& records) {
  Recorder recorder;
  for (const auto& record : records) recorder.begin(record);
  return recorder.hash();
}

TEST(Recorder, hash_tells_order_tag_operation_count_and_type_apart) {
  EXPECT_NE(hash_of({kFirst, kSecond}), hash_of({kSecond, kFirst}));
  EXPECT_NE(hash_of({kFirst}), hash_of({{"C2", "all_reduce", 4, base::DType::f64}}));
  EXPECT_NE(hash_of({kFirst}), hash_of({{"C1", "broadcast", 4, base::DType::f64}}));
  EXPECT_NE(hash_of({kFirst}), hash_of({{"C1", "all_reduce", 5, base::DType::f64}}));
  EXPECT_NE(hash_of({kFirst}), hash_of({{"C1", "all_reduce", 4, base::DType::i64}}));
  auto of_a_part = kFirst;
  of_a_part.processes = 2;
  EXPECT_NE(hash_of({kFirst}), hash_of({of_a_part}));
  EXPECT_FALSE(kFirst.matches(of_a_part));
  EXPECT_FALSE(kFirst == of_a_part);
  EXPECT_EQ(hash_of({kFirst, kSecond}), hash_of({kFirst, kSecond}));
  EXPECT_GE(hash_of({kFirst}), 0);
}

TEST(Recorder, hash_of_a_ragged_exchange_is_the_same_for_every_part) {
  const Record small{"tokens", "all_to_all", 3, base::DType::f32};
  const Record large{"tokens", "all_to_all", 4, base::DType::f32};
  EXPECT_EQ(hash_of({small}), hash_of({large}));
  EXPECT_TRUE(small.matches(large));
  EXPECT_FALSE(kFirst.matches(kSecond));
}

TEST(Recorder, counts_bytes_and_keeps_the_last_records) {
  Recorder recorder;
  recorder.begin(kFirst);
  recorder.begin(kSecond);
  EXPECT_EQ(recorder.count(), 2);
  EXPECT_EQ(recorder.bytes(), 72);
  EXPECT_EQ(recorder.records(), (std::vector<Record>{kFirst, kSecond}));
  recorder.clear();
  EXPECT_TRUE(recorder.records().empty());
  EXPECT_EQ(recorder.count(), 2);
  for (int i = 0; i < 10000; ++i) recorder.begin(kFirst);
  EXPECT_LE(recorder.records().size(), 4096U);
  EXPECT_GE(recorder.records().size(), 2048U);
  EXPECT_EQ(recorder.count(), 10002);
}

TEST(Recorder, seconds_run_from_begin_to_end) {
  Recorder recorder;
  recorder.begin(kFirst);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(recorder.records().back().seconds, 0);
  recorder.end(recorder.count());
  EXPECT_GE(recorder.records().back().seconds, 0.02);
  EXPECT_LT(recorder.records().back().seconds, 10);
}

TEST(Recorder, exposed_seconds_leave_out_what_lay_between) {
  using std::chrono::milliseconds;
  Recorder recorder;
  const auto first = recorder.begin(kFirst);
  recorder.leave(first);
  std::this_thread::sleep_for(milliseconds(1000));
  const auto second = recorder.begin(kSecond);
  std::this_thread::sleep_for(milliseconds(20));
  recorder.leave(second);
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 2);
  recorder.enter(first);  // the older one last, and after a pause
  recorder.end(first);
  std::this_thread::sleep_for(milliseconds(1000));
  recorder.enter(second);
  std::this_thread::sleep_for(milliseconds(20));
  recorder.end(second);
  const auto& records = recorder.records();
  EXPECT_LT(records[0].seconds, 0.9);
  EXPECT_GE(records[1].seconds, 0.04);
  EXPECT_LT(records[1].seconds, 0.9);
  EXPECT_DOUBLE_EQ(recorder.seconds(), records[0].seconds + records[1].seconds);
}

TEST(Recorder, what_ends_after_it_was_forgotten_counts_in_the_total_only) {
  Recorder recorder;
  const auto old = recorder.begin(kFirst);
  recorder.leave(old);
  recorder.clear();
  const auto other = recorder.begin(kSecond);
  recorder.leave(other);
  const auto before = recorder.records()[0].seconds;
  recorder.enter(old);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  recorder.end(old);
  EXPECT_EQ(recorder.records()[0].seconds, before);
  EXPECT_GE(recorder.seconds(), 0.02);
}

TEST(Recorder, nothing_begins_after_a_failure_that_nobody_heard_of) {
  Recorder recorder;
  recorder.fail(std::make_exception_ptr(std::runtime_error("cut")));
  EXPECT_THROW((void)recorder.begin(kFirst), std::runtime_error);
  EXPECT_EQ(recorder.count(), 0);
}

TEST(Record, counts_what_is_sent_by_operation) {
  const auto sent = [](const char* op, std::int64_t elements, int processes,
                       std::int64_t kept = 0) {
    return Record{"x", op, elements, base::DType::f32, 0, processes, kept}.sent_bytes();
  };
  EXPECT_EQ(sent("all_reduce", 12, 4), 2 * 3 * 48 / 4);
  EXPECT_EQ(sent("all_reduce", 1, 3), 5);  // 16 / 3
  EXPECT_EQ(sent("all_gather", 12, 4), 3 * 48);
  EXPECT_EQ(sent("reduce_scatter", 12, 4), 3 * 48);
  EXPECT_EQ(sent("all_to_all", 12, 4, 5), 28);
  EXPECT_EQ(sent("broadcast", 12, 4), 48);
  EXPECT_EQ(sent("broadcast", 12, 4, 12), 0);
  EXPECT_EQ(sent("barrier", 0, 4), 0);
  EXPECT_EQ(sent("split", 0, 4), 0);
  for (const char* op : {"all_reduce", "all_gather", "reduce_scatter", "broadcast"}) {
    EXPECT_EQ(sent(op, 12, 1), 0) << op;
  }
}

TEST(Record, is_described_as_a_call) {
  EXPECT_EQ(describe(kFirst), "all_reduce(C1) of 4 F64");
  EXPECT_EQ(describe({"end", "barrier", 0, base::DType::u8}), "barrier(end)");
  EXPECT_EQ(describe({"mesh", "split", 0, base::DType::u8}), "split(mesh)");
}

}  // namespace
}  // namespace dfmoa::comm
