#include "distributed/comm/communicator.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

using namespace dfmoa;

TEST(ReduceInto, refuses_types_that_nothing_reduces) {
  std::uint8_t a = 1;
  const std::uint8_t b = 2;
  EXPECT_THROW(comm::reduce_into(&a, &b, 1, base::DType::u8, comm::Op::sum), base::MachineError);
}

TEST(Recorder, hash_tells_order_tag_and_count_apart) {
  const comm::Record one{"C1", "all_reduce", 4, base::DType::f64};
  const comm::Record two{"C3", "all_reduce", 5, base::DType::f64};
  comm::Recorder forward;
  forward.add(one);
  forward.add(two);
  comm::Recorder backward;
  backward.add(two);
  backward.add(one);
  EXPECT_NE(forward.hash(), backward.hash());
  EXPECT_EQ(forward.bytes(), 72);
  EXPECT_EQ(forward.count(), 2);
  forward.clear();
  EXPECT_TRUE(forward.records().empty());
  EXPECT_EQ(forward.count(), 2);
}
