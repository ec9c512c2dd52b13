#include "distributed/comm/communicator.h"

#include <gtest/gtest.h>

#include "distributed/comm/local.h"
#include "src/base/error.h"

namespace dfmoa::comm {
namespace {

class OneProcess : public testing::Test {
 protected:
  std::unique_ptr<Communicator> comm_ = make_single();
  double value_ = 1;
};

TEST_F(OneProcess, arguments_that_no_process_may_give_are_refused_before_anything_is_recorded) {
  const std::vector<std::int64_t> one = {1};
  const std::vector<std::int64_t> two = {1, 1};
  const std::vector<std::int64_t> negative = {-1};
  const auto f64 = base::DType::f64;
  EXPECT_THROW(comm_->all_reduce(&value_, -1, f64, Op::sum, "x"), base::ShapeError);
  EXPECT_THROW(comm_->all_reduce(&value_, 1, base::DType::f16, Op::sum, "x"), base::ShapeError);
  EXPECT_THROW(comm_->reduce_scatter(&value_, &value_, 1, base::DType::u8, Op::sum, "x"),
               base::ShapeError);
  EXPECT_THROW(comm_->all_to_all(&value_, two, &value_, one, f64, "x"), base::ShapeError);
  EXPECT_THROW(comm_->all_to_all(&value_, one, &value_, two, f64, "x"), base::ShapeError);
  EXPECT_THROW(comm_->all_to_all(&value_, negative, &value_, one, f64, "x"), base::ShapeError);
  EXPECT_THROW(comm_->broadcast(&value_, 1, f64, 1, "x"), base::ShapeError);
  EXPECT_THROW(comm_->broadcast(&value_, 1, f64, -1, "x"), base::ShapeError);
  EXPECT_THROW((void)comm_->start_all_gather(&value_, -1, &value_, f64, "x"), base::ShapeError);
  EXPECT_THROW((void)comm_->start_reduce_scatter(&value_, &value_, -1, f64, Op::sum, "x"),
               base::ShapeError);
  EXPECT_THROW((void)comm_->split(-1, "x"), base::ShapeError);
  EXPECT_EQ(comm_->recorder().count(), 0);
}

TEST_F(OneProcess, every_collective_is_recorded_once) {
  std::int64_t number = 5;
  std::int64_t other = 0;
  const std::vector<std::int64_t> one = {1};
  comm_->all_reduce(&number, 1, base::DType::i64, Op::sum, "a");
  comm_->all_gather(&number, 1, &other, base::DType::i64, "b");
  comm_->reduce_scatter(&number, &other, 1, base::DType::i64, Op::max, "c");
  comm_->all_to_all(&number, one, &other, one, base::DType::i64, "d");
  comm_->broadcast(&number, 1, base::DType::i64, 0, "e");
  comm_->barrier("f");
  EXPECT_TRUE(comm_->agree(true, "g"));
  const auto i64 = base::DType::i64;
  EXPECT_EQ(comm_->recorder().records(),
            (std::vector<Record>{{"a", "all_reduce", 1, i64},
                                 {"b", "all_gather", 1, i64},
                                 {"c", "reduce_scatter", 1, i64},
                                 {"d", "all_to_all", 1, i64},
                                 {"e", "broadcast", 1, i64},
                                 {"f", "barrier", 0, base::DType::u8},
                                 {"g", "all_reduce", 1, base::DType::i32}}));
  EXPECT_EQ(comm_->recorder().bytes(), 5 * 8 + 4);
  EXPECT_EQ(other, 5);
}

TEST_F(OneProcess, a_part_shares_the_recorder_and_outlives_the_whole) {
  const auto part = comm_->split(3, "part");
  auto& recorder = comm_->recorder();
  EXPECT_EQ(&part->recorder(), &recorder);
  EXPECT_THROW(part->keep_ring("/tmp"), base::ShapeError);
  comm_.reset();
  part->all_reduce(&value_, 1, base::DType::f64, Op::sum, "a");
  EXPECT_EQ(part->recorder().count(), 2);
  EXPECT_EQ(describe(recorder.records()[0]), "split(part)");
}

TEST(Communicator, records_what_every_process_hands_to_others) {
  run_local(3, [](Communicator& comm) {
    const auto mine = comm.process();
    const auto sent_by = [&](const auto& body) {
      const auto before = comm.recorder().sent_bytes();
      body();
      EXPECT_EQ(comm.recorder().records().back().processes, 3);
      return comm.recorder().sent_bytes() - before;
    };
    std::vector<std::int64_t> data(100, 1);
    std::vector<std::int64_t> out(100);
    const auto i64 = base::DType::i64;
    EXPECT_EQ(sent_by([&] { comm.all_reduce(data.data(), 10, i64, Op::sum, "x"); }), 106);
    EXPECT_EQ(sent_by([&] { comm.all_gather(data.data(), 5, out.data(), i64, "x"); }), 2 * 40);
    EXPECT_EQ(sent_by([&] { comm.reduce_scatter(data.data(), out.data(), 5, i64, Op::sum, "x"); }),
              2 * 40);
    EXPECT_EQ(sent_by([&] { comm.broadcast(data.data(), 5, i64, 1, "x"); }), mine == 1 ? 40 : 0);
    EXPECT_EQ(sent_by([&] { comm.barrier("x"); }), 0);
    // Process p sends p + q + 1 elements to process q, 2 p + 1 to itself.
    std::vector<std::int64_t> counts;
    for (int q = 0; q < 3; ++q) counts.push_back(mine + q + 1);
    EXPECT_EQ(sent_by([&] { comm.all_to_all(data.data(), counts, out.data(), counts, i64, "x"); }),
              8 * (3 * mine + 6 - (2 * mine + 1)));
    EXPECT_EQ(comm.recorder().records().back().elements, 3 * mine + 6);
  });
}

TEST_F(OneProcess, a_ring_that_cannot_be_made_is_an_error) {
  EXPECT_THROW(comm_->keep_ring("/nowhere/at/all"), base::MachineError);
}

TEST(Communicator, a_failure_inside_names_the_collective) {
  try {
    run_local(2, [](Communicator& comm) {
      comm.barrier("first");
      double values[2] = {};
      comm.all_reduce(values, comm.process() + 1, base::DType::f64, Op::sum, "C1");
    });
    FAIL() << "two counts were accepted";
  } catch (const std::exception& error) {
    const auto words = base::describe(error);
    EXPECT_NE(words.find("collective #2 all_reduce(C1) of "), std::string::npos) << words;
    EXPECT_NE(words.find(" of 2: process 1 called all_reduce(C1) of 2 F64, process 0 called "
                         "all_reduce(C1) of 1 F64"),
              std::string::npos)
        << words;
    EXPECT_EQ(base::exit_code(error), base::ExitCode::machine);
  }
}

}  // namespace
}  // namespace dfmoa::comm
