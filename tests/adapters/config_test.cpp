#include "src/adapters/config.h"

#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::adapters {
namespace {

using Layers = std::vector<std::int64_t>;

template <class Config>
void assign_adapter(Config& config, const std::string& key, const std::string& value) {
  auto list = base::FieldList::of(config);
  list.assign("section", key, value);
}

TEST(AdapterConfig, every_field_is_reachable_by_its_name) {
  AdapterConfig config;
  assign_adapter(config, "sites", "q, down");
  assign_adapter(config, "layers", "0-3");
  assign_adapter(config, "experts", "5");
  assign_adapter(config, "rank", "7");
  assign_adapter(config, "alpha", "3.5");
  assign_adapter(config, "scale", "lora");
  assign_adapter(config, "router", "main");
  assign_adapter(config, "rank_gate", "cut");
  EXPECT_EQ(config.sites, (std::vector<std::string>{"q", "down"}));
  EXPECT_EQ(config.layers + config.scale + config.router + config.rank_gate, "0-3loramaincut");
  EXPECT_EQ(config.experts, 5);
  EXPECT_EQ(config.rank, 7);
  EXPECT_EQ(config.alpha, 3.5);
}

TEST(AdapterConfig, impossible_values_are_refused_by_the_field) {
  const std::vector<std::pair<std::string, std::string>> refused{
      {"kind", "prefix"}, {"experts", "0"}, {"rank", "0"}, {"alpha", "-1"}, {"scale", "none"}};
  for (const auto& [key, value] : refused) {
    AdapterConfig config;
    EXPECT_THROW(assign_adapter(config, key, value), base::UsageError) << key;
  }
}

TEST(AdapterConfig, the_scale_undoes_the_mean_gate) {
  AdapterConfig config;
  config.experts = 4;
  config.rank = 4;
  config.alpha = 8;
  EXPECT_DOUBLE_EQ(config.scale_factor(1), 2);     // alpha / sqrt(N)
  EXPECT_DOUBLE_EQ(config.scale_factor(0.25), 8);  // times E at even gates
  config.scale = "lora";
  EXPECT_DOUBLE_EQ(config.scale_factor(1), 0.5);  // alpha / N
  EXPECT_DOUBLE_EQ(config.scale_factor(0.25), 2);
}

TEST(AdapterConfig, the_literal_scale_is_that_of_one_expert) {
  AdapterConfig config;
  config.experts = 4;
  config.rank = 8;
  config.scale = "literal";
  EXPECT_DOUBLE_EQ(config.scale_factor(0.25), 2);  // alpha / rank
}

TEST(AdapterConfig, keys_that_a_kind_has_no_use_for_are_refused) {
  AdapterConfig config;
  EXPECT_NO_THROW(config.validate("mix"));
  config.shared_a = true;
  EXPECT_NO_THROW(config.validate("mix"));
  config.rank_gate = "gate";
  auto sentence = tests::refusal<base::UsageError>([&] { config.validate("mix"); });
  EXPECT_TRUE(tests::contains(sentence, "adapter.mix: directions of a shared A")) << sentence;
  for (const auto& [kind, width] : {std::pair{"parallel", 16}, std::pair{"prompt", 10}}) {
    AdapterConfig side;
    side.kind = kind;
    EXPECT_EQ(side.width_or_default(), width);
    sentence = tests::refusal<base::UsageError>([&] { side.validate("mix"); });
    EXPECT_TRUE(tests::contains(sentence, "experts is 8, expected 1")) << sentence;
    side.experts = 1;
    EXPECT_NO_THROW(side.validate("mix"));
    side.rank_gate = "gate";
    EXPECT_THROW(side.validate("mix"), base::UsageError);
    side.rank_gate = "";
    side.shared_a = true;
    sentence = tests::refusal<base::UsageError>([&] { side.validate("mix"); });
    EXPECT_TRUE(tests::contains(sentence, "has no A that experts could share")) << sentence;
    side.shared_a = false;
    side.width = 3;
    EXPECT_NO_THROW(side.validate("mix"));
    EXPECT_EQ(side.width_or_default(), 3);
  }
}

TEST(AdapterConfig, a_width_of_lora_is_refused_instead_of_passed_over) {
  AdapterConfig config;
  config.width = 8;
  const auto sentence = tests::refusal<base::UsageError>([&] { config.validate("mix"); });
  EXPECT_TRUE(tests::contains(sentence, "adapter.mix: width is 8")) << sentence;
}

TEST(RankGateConfig, every_field_is_reachable_by_its_name) {
  RankGateConfig config;
  assign_adapter(config, "kind", "norm");
  assign_adapter(config, "budget", "100");
  assign_adapter(config, "start", "0.2");
  assign_adapter(config, "cut", "0.6");
  assign_adapter(config, "strength", "0.5");
  assign_adapter(config, "learning_rate", "0.3");
  EXPECT_EQ(config.kind, "norm");
  EXPECT_EQ(config.budget, 100);
  EXPECT_EQ(config.start, 0.2);
  EXPECT_EQ(config.cut, 0.6);
  EXPECT_EQ(config.strength, 0.5);
  EXPECT_EQ(config.learning_rate, 0.3);
}

TEST(RankGateConfig, impossible_values_are_refused_by_the_field) {
  const std::vector<std::pair<std::string, std::string>> refused{
      {"kind", "soft"}, {"budget", "-1"},   {"start", "1.5"},
      {"cut", "2"},     {"strength", "-1"}, {"learning_rate", "-2"}};
  for (const auto& [key, value] : refused) {
    RankGateConfig config;
    EXPECT_THROW(assign_adapter(config, key, value), base::UsageError) << key;
  }
}

TEST(LayersOf, lists_and_ranges_are_sorted_and_unique) {
  EXPECT_EQ(layers_of("adapter.mix", "all", 3), (Layers{0, 1, 2}));
  EXPECT_EQ(layers_of("adapter.mix", "5,0-2, 1-1", 6), (Layers{0, 1, 2, 5}));
}

TEST(LayersOf, what_names_no_layer_is_refused) {
  const auto sentence =
      tests::refusal<base::UsageError>([] { (void)layers_of("adapter.mix", "0-6", 6); });
  EXPECT_TRUE(tests::contains(sentence, "adapter.mix.layers: '6'")) << sentence;
  EXPECT_TRUE(tests::contains(sentence, "expected 0 to 5")) << sentence;
  for (const std::string text : {"", ",", "4-2", "x", "-1", "1-", "1-2-3", "1.5", "All"}) {
    EXPECT_THROW((void)layers_of("adapter.mix", text, 6), base::UsageError) << text;
  }
}

}  // namespace
}  // namespace dfmoa::adapters
