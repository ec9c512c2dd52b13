#include "src/gates/config.h"

#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::gates {
namespace {

void assign_router(RouterConfig& config, const std::string& key, const std::string& value) {
  auto list = base::FieldList::of(config);
  list.assign("router.main", key, value);
}

TEST(RouterConfig, every_field_is_reachable_by_its_name) {
  RouterConfig config;
  assign_router(config, "kind", "topk");
  assign_router(config, "top_k", "3");
  assign_router(config, "temperature", "0.5");
  assign_router(config, "scope", "span");
  assign_router(config, "input", "per_site");
  assign_router(config, "init", "normal");
  assign_router(config, "init_scale", "0.1");
  assign_router(config, "learning_rate", "0.01");
  assign_router(config, "entropy", "literal");
  assign_router(config, "entropy_weight", "0.2");
  assign_router(config, "entropy_target", "0.8");
  assign_router(config, "balance", "switch");
  assign_router(config, "balance_weight", "0.3");
  assign_router(config, "threshold_max", "0.25");
  assign_router(config, "network", "mlp");
  assign_router(config, "over", "adapters");
  assign_router(config, "entropy_of", "unit");
  assign_router(config, "confidence", "dual");
  assign_router(config, "confidence_target", "0.7");
  assign_router(config, "mix", "logits");
  EXPECT_TRUE(config.mixes_logits());
  EXPECT_EQ(config.network + config.over + config.entropy_of + config.confidence,
            "mlpadaptersunitdual");
  EXPECT_EQ(config.threshold_max, 0.25);
  EXPECT_EQ(config.confidence_target, 0.7);
  EXPECT_EQ(config.kind + config.scope + config.input, "topkspanper_site");
  EXPECT_EQ(config.init + config.entropy + config.balance, "normalliteralswitch");
  EXPECT_EQ(config.top_k, 3);
  EXPECT_EQ(config.temperature, 0.5);
  EXPECT_EQ(config.init_scale, 0.1);
  EXPECT_EQ(config.learning_rate, 0.01);
  EXPECT_EQ(config.entropy_weight, 0.2);
  EXPECT_EQ(config.entropy_target, 0.8);
  EXPECT_EQ(config.balance_weight, 0.3);
}

TEST(RouterConfig, impossible_values_are_refused_by_the_field) {
  const std::vector<std::pair<std::string, std::string>> refused{
      {"kind", "hash"},         {"top_k", "0"},          {"temperature", "0"},
      {"scope", "sequence"},    {"input", "per_layer"},  {"init", "ones"},
      {"init_scale", "-1"},     {"learning_rate", "-2"}, {"entropy", "yes"},
      {"entropy_weight", "0"},  {"entropy_target", "2"}, {"balance", "cv3"},
      {"balance_weight", "-1"}, {"mix", "losses"}};
  for (const auto& [key, value] : refused) {
    RouterConfig config;
    const auto sentence =
        tests::refusal<base::UsageError>([&] { assign_router(config, key, value); });
    EXPECT_TRUE(tests::contains(sentence, key)) << sentence;
  }
}

TEST(RouterConfig, selecting_gates_start_random_and_dense_ones_at_zero) {
  RouterConfig config;
  EXPECT_EQ(config.start(), "zero");
  config.kind = "topk";
  EXPECT_EQ(config.start(), "normal");
  config.init = "zero";
  EXPECT_EQ(config.start(), "zero");
  config.kind = "softmax";
  config.init = "uniform";
  EXPECT_EQ(config.start(), "uniform");
}

TEST(RouterConfig, mean_gate_is_a_share_and_its_square_where_one_expert_is_not_renormalised) {
  RouterConfig config;
  EXPECT_DOUBLE_EQ(config.mean_gate(4), 0.25);
  config.kind = "topk";
  EXPECT_DOUBLE_EQ(config.mean_gate(4), 0.25);
  config.top_k = 1;
  EXPECT_DOUBLE_EQ(config.mean_gate(4), 0.0625);
}

TEST(RouterConfig, thresholds_have_their_kind_s_largest_value) {
  RouterConfig config;
  EXPECT_FALSE(config.has_threshold());
  config.kind = "threshold";
  EXPECT_TRUE(config.has_threshold());
  EXPECT_DOUBLE_EQ(config.largest_threshold(8), 0.125);
  config.kind = "sigmoid_threshold";
  EXPECT_DOUBLE_EQ(config.largest_threshold(8), 0.5);
  config.threshold_max = 0.25;
  EXPECT_DOUBLE_EQ(config.largest_threshold(8), 0.25);
  EXPECT_EQ(config.layout(8).size(), 20) << "one more than without a threshold";
}

TEST(RouterConfig, terms_and_gates_that_do_not_go_together_are_refused) {
  RouterConfig config;
  config.balance = "threshold_literal";
  auto sentence = tests::refusal<base::UsageError>([&] { config.validate("main", 4); });
  EXPECT_TRUE(tests::contains(sentence, "needs kind threshold, it is softmax")) << sentence;
  config.kind = "threshold";
  EXPECT_NO_THROW(config.validate("main", 4));
  config.input = "per_site";
  config.over = "adapters";
  sentence = tests::refusal<base::UsageError>([&] { config.validate("main", 4); });
  EXPECT_TRUE(tests::contains(sentence, "expected input = per_block")) << sentence;
  config = {};
  config.mix = "logits";
  sentence = tests::refusal<base::UsageError>([&] { config.validate("main", 4); });
  EXPECT_TRUE(tests::contains(sentence, "it has scope token, input per_block")) << sentence;
  config.scope = "span";
  EXPECT_NO_THROW(config.validate("main", 4));
}

TEST(RouterConfig, more_selected_than_there_are_is_refused) {
  RouterConfig config;
  config.kind = "topk";
  config.top_k = 5;
  const auto sentence = tests::refusal<base::UsageError>([&] { config.validate("main", 4); });
  EXPECT_TRUE(tests::contains(sentence, "router main: top_k 5 of 4 experts")) << sentence;
  EXPECT_NO_THROW(config.validate("main", 5));
  config.kind = "softmax";
  EXPECT_NO_THROW(config.validate("main", 4));
}

TEST(RouterConfig, switch_balance_on_dense_gates_is_refused) {
  RouterConfig config;
  config.balance = "switch";
  const auto sentence = tests::refusal<base::UsageError>([&] { config.validate("main", 4); });
  EXPECT_TRUE(tests::contains(sentence, "needs kind topk")) << sentence;
  config.kind = "topk";
  EXPECT_NO_THROW(config.validate("main", 4));
}

}  // namespace
}  // namespace dfmoa::gates
