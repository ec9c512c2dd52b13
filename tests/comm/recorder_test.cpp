#include "distributed/comm/recorder.h"

#include <gtest/gtest.h>

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
  recorder.end();
  EXPECT_GE(recorder.records().back().seconds, 0.02);
  EXPECT_LT(recorder.records().back().seconds, 10);
}

TEST(Record, is_described_as_a_call) {
  EXPECT_EQ(describe(kFirst), "all_reduce(C1) of 4 F64");
  EXPECT_EQ(describe({"end", "barrier", 0, base::DType::u8}), "barrier(end)");
}

}  // namespace
}  // namespace dfmoa::comm
