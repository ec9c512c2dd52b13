#include "src/train/gate_use.h"

#include <cmath>

#include "tests/formats/temporary_folder.h"
#include "tests/support/systems.h"
#include "tests/support/tiny_model.h"

namespace dfmoa::train {
namespace {

/// Three experts and four heads in each of two layers; gates are told by hand.
class UseOfGates : public formats::TemporaryFolder {
 protected:
  void SetUp() override {
    formats::TemporaryFolder::SetUp();
    model::write_tiny_model(folder_);
    model_ = std::make_unique<model::Transformer>(model::load_tiny_model(folder_, at::kDouble));
    auto plan = tests::experts_behind("softmax");
    plan.dfa.router = "heads";
    plan.routers["heads"].kind = "softmax";
    model_->adapt(plan, 1);
    use_ = std::make_unique<GateUse>(*model_);
  }

  void tell(std::int64_t layer, const std::string& router, const at::Tensor& w_TE) {
    use_->gates(layer, router, w_TE, {});
  }

  std::unique_ptr<model::Transformer> model_;
  std::unique_ptr<GateUse> use_;
};

TEST_F(UseOfGates, only_tokens_that_bear_loss_count_each_for_its_task) {
  const auto w_TE = torch::tensor({{1.0, 0.0, 0.0},
                                   {0.2, 0.3, 0.5},  // bears no loss
                                   {0.5, 0.5, 0.0},
                                   {0.0, 0.1, 0.9}},
                                  torch::kDouble);
  use_->set_row(torch::tensor({0, 2, 3}, torch::kLong), {"a", "a", "b"});
  tell(0, "main", w_TE);
  use_->set_row(torch::tensor({0}, torch::kLong), {"b"});
  tell(0, "main", torch::tensor({{0.0, 0.5, 0.5}}, torch::kDouble));
  const auto report = use_->report();
  ASSERT_EQ(report.size(), 1U);
  EXPECT_EQ(report[0].load_of_task.at("a"), (std::vector<double>{0.75, 0.25, 0.0}));
  const auto& of_b = report[0].load_of_task.at("b");
  EXPECT_NEAR(of_b[1], 0.3, 1e-15);
  EXPECT_NEAR(of_b[2], 0.7, 1e-15);
  const std::vector<double> all{1.5 / 4, 1.1 / 4, 1.4 / 4};
  double entropy = 0;
  double variance = 0;
  for (std::size_t e = 0; e < 3; ++e) {
    EXPECT_NEAR(report[0].load[e], all[e], 1e-15);
    entropy -= all[e] * std::log(all[e]);
    variance += (all[e] - 1.0 / 3) * (all[e] - 1.0 / 3) / 3;
  }
  EXPECT_NEAR(report[0].entropy, entropy, 1e-12);
  EXPECT_NEAR(report[0].load_cv, std::sqrt(variance) * 3, 1e-12);
  EXPECT_NEAR(report[0].mutual_information,
              mutual_information({{0.75, 0.25, 0.0}, {0.0, 0.3, 0.7}}), 1e-12);
}

TEST_F(UseOfGates, heads_are_told_apart_and_stay_out_of_the_means) {
  use_->set_row(torch::tensor({0}, torch::kLong), {"a"});
  tell(0, "main", torch::tensor({{1.0, 0.0, 0.0}}, torch::kDouble));
  tell(0, "heads", torch::tensor({{4.0, 0.0, 0.0, 0.0}}, torch::kDouble));
  tell(1, "main", torch::tensor({{0.0, 1.0, 0.0}}, torch::kDouble));
  use_->set_row(torch::tensor({0}, torch::kLong), {"b"});
  tell(0, "main", torch::tensor({{1.0, 0.0, 0.0}}, torch::kDouble));
  tell(0, "heads", torch::tensor({{0.0, 4.0, 0.0, 0.0}}, torch::kDouble));
  tell(1, "main", torch::tensor({{0.0, 0.0, 1.0}}, torch::kDouble));
  const auto report = use_->report();
  ASSERT_EQ(report.size(), 3U);
  EXPECT_EQ(report[0].router, "heads");
  EXPECT_TRUE(report[0].of_heads);
  EXPECT_NEAR(report[0].mutual_information, std::log(2.0), 1e-12);
  EXPECT_EQ(mean_load(report).at("a"), (std::vector<double>{0.5, 0.5, 0.0}));
  EXPECT_NEAR(mean_mutual_information(report), std::log(2.0) / 2, 1e-12) << "layer 1 alone tells";
}

TEST_F(UseOfGates, without_gates_nothing_is_told) {
  EXPECT_TRUE(use_->report().empty());
  EXPECT_TRUE(mean_load({}).empty());
  EXPECT_EQ(mean_mutual_information({}), 0);
}

TEST(MutualInformation, is_zero_for_equal_rows_and_log_rows_for_disjoint_ones) {
  EXPECT_NEAR(mutual_information({{1, 3}, {2, 6}, {10, 30}}), 0, 1e-15);
  EXPECT_NEAR(mutual_information({{5, 0, 0}, {0, 1, 0}, {0, 0, 9}}), std::log(3.0), 1e-12);
  EXPECT_NEAR(mutual_information({{1, 1, 0, 0}, {0, 0, 2, 1}}), std::log(2.0), 1e-12);
  // by hand: rows (1, 0) and (1/2, 1/2), column means (3/4, 1/4)
  const double by_hand =
      0.5 * std::log(1 / 0.75) + 0.25 * std::log(0.5 / 0.75) + 0.25 * std::log(0.5 / 0.25);
  EXPECT_NEAR(mutual_information({{4, 0}, {3, 3}}), by_hand, 1e-12);
  EXPECT_EQ(mutual_information({{0, 0}, {1, 0}}), 0) << "a task that no expert served";
  EXPECT_EQ(mutual_information({}), 0);
}

}  // namespace
}  // namespace dfmoa::train
