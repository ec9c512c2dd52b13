#include "src/model/gate_means.h"

#include "src/base/error.h"
#include "src/data/packing.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_model.h"

namespace dfmoa::model {
namespace {

using formats::contains;
using formats::sentence_of;
using tests::distance;

/// Every gate that a pass tells, by router.
class Told : public GateSink {
 public:
  void gates(std::int64_t layer, const std::string& router, const at::Tensor& w_TE,
             const gates::Documents&) override {
    w_TE_[{layer, router}] = w_TE.clone();
  }
  std::map<gates::RouterKey, at::Tensor> w_TE_;
};

class GateMeansTest : public formats::TemporaryFolder {
 protected:
  void SetUp() override {
    formats::TemporaryFolder::SetUp();
    write_tiny_model(folder_);
  }

  Transformer mixture(const std::string& scope) {
    Transformer model(load_tiny_model(folder_, at::kDouble));
    model.adapt(tiny_plan(scope), 3);
    stir(model);
    return model;
  }

  /// Two documents.
  static PackedRows pack(const Transformer& model) {
    return model.pack_sequences({{65, 3, 99, 17, 200}, {7, 8, 41}}, {0, 0});
  }

  static std::map<gates::RouterKey, at::Tensor> told(const Transformer& model) {
    Told sink;
    (void)model.hidden(pack(model), nullptr, &sink);
    return sink.w_TE_;
  }

  static void give(Transformer& model, const std::string& gates) {
    override_gates(model, gates::Override::parse(gates),
                   [&](GateSink& sink) { (void)model.hidden(pack(model), nullptr, &sink); });
  }
};

TEST_F(GateMeansTest, means_are_over_all_tokens_of_all_passes) {
  const auto model = mixture("token");
  GateMeans means;
  (void)model.hidden(pack(model), nullptr, &means);
  (void)model.hidden(model.pack_sequences({{9}}, {0}), nullptr, &means);
  Told one;
  (void)model.hidden(model.pack_sequences({{9}}, {0}), nullptr, &one);
  const auto mean_E = means.mean_E();
  ASSERT_EQ(mean_E.size(), 2U) << "a router in each of two blocks";
  for (const auto& [key, w_TE] : told(model)) {
    const auto all_TE = at::cat({w_TE, one.w_TE_.at(key)});
    EXPECT_LT(distance(mean_E.at(key), all_TE.mean(0)), 1e-15);
  }
  EXPECT_TRUE(GateMeans().mean_E().empty());
}

TEST_F(GateMeansTest, mean_gates_replace_every_token_by_the_first_pass) {
  for (const std::string scope : {"token", "span"}) {
    auto model = mixture(scope);
    const auto soft = told(model);
    give(model, "mean");
    const auto first = told(model);
    for (const auto& [key, w_TE] : first) {
      // Block 1 reads what block 0 made of soft gates in the first pass.
      EXPECT_LT(distance(w_TE, soft.at(key).mean(0).expand_as(w_TE)), 1e-12) << scope;
    }
    give(model, "mean");
    EXPECT_LT(distance(told(model).at({1, "main"}), first.at({1, "main"})), 1e-12)
        << "the first pass runs under the trained gates";
  }
}

TEST_F(GateMeansTest, the_sink_sees_the_gates_that_act) {
  auto model = mixture("token");
  const auto soft = told(model);
  const auto key = gates::RouterKey(0, "main");
  const auto before = model.hidden(pack(model));
  give(model, "expert:1");
  const auto alone = told(model).at(key);
  EXPECT_LT(distance(alone.narrow(1, 1, 1), at::ones({8, 1}, at::kDouble)), 1e-12);
  EXPECT_LT(distance(alone.sum(1), at::ones({8}, at::kDouble)), 1e-12);
  EXPECT_GT(distance(model.hidden(pack(model)), before), 1e-3) << "and the experts are scaled";
  give(model, "topk:3");
  EXPECT_LT(distance(model.hidden(pack(model)), before), 1e-12) << "all of three";
  give(model, "soft");
  EXPECT_TRUE(at::equal(model.hidden(pack(model)), before));
}

/// All experts alike: then only the sum of the gates matters, and every choice keeps it.
TEST_F(GateMeansTest, no_kind_of_gates_changes_what_equal_experts_do) {
  auto model = mixture("token");
  {
    const at::NoGradGuard no_grad;
    for (auto& block : model.blocks()) {
      for (const auto& spec : block.parameters().specs()) {
        const bool is_a = spec.name.ends_with("/A");
        if (!is_a && !spec.name.ends_with("/b")) continue;
        const auto& leaf = block.parameters().leaf(spec.name);
        const auto experts =
            is_a ? leaf.view({-1, 3, 2, leaf.size(1)}) : leaf.view({1, 3, 2, leaf.size(1)});
        for (const int e : {1, 2}) experts.select(1, e).copy_(experts.select(1, 0));
      }
    }
  }
  const auto before = model.hidden(pack(model));
  for (const char* gates : {"topk:2", "top1", "mean", "expert:0", "expert:2"}) {
    give(model, gates);
    EXPECT_LT(distance(model.hidden(pack(model)), before), 1e-10) << gates;
  }
}

TEST_F(GateMeansTest, decoding_runs_under_the_same_gates_as_whole_rows) {
  for (const std::string scope : {"token", "span"}) {
    auto model = mixture(scope);
    for (const char* gates : {"top1", "mean", "expert:2"}) {
      give(model, gates);
      DecodeCache cache(2, 1);
      (void)model.hidden(model.pack_sequences({{65, 3, 99}}, {0}), &cache);
      const auto last = model.hidden(model.pack_sequences({{17}}, {3}), &cache);
      const auto whole = model.hidden(model.pack_sequences({{65, 3, 99, 17}}, {0}, {{0, 2}}));
      EXPECT_LT(distance(last[0], whole[3]), 1e-10) << scope << gates;
    }
  }
}

TEST_F(GateMeansTest, refuses_models_without_a_router_and_experts_that_are_not_there) {
  Transformer bare(load_tiny_model(folder_, at::kDouble));
  bare.override_gates({});
  const auto refusal = [](Transformer& model, const char* gates) {
    return sentence_of<base::UsageError>(
        [&] { model.override_gates(gates::Override::parse(gates)); });
  };
  EXPECT_TRUE(contains(refusal(bare, "top1"), "the model has no router"));
  auto model = mixture("token");
  EXPECT_TRUE(contains(refusal(model, "expert:3"), "has 3 experts, expected 0 to 2"));
  EXPECT_TRUE(contains(refusal(model, "topk:4"), "expected at most 3"));
  EXPECT_FALSE(model.reads_prompts());
  EXPECT_TRUE(mixture("span").reads_prompts());
}

TEST_F(GateMeansTest, without_adapters_it_is_the_base) {
  const auto model = mixture("span");
  const Transformer bare(load_tiny_model(folder_, at::kDouble));
  const auto alone = model.without_adapters();
  EXPECT_TRUE(at::equal(alone.hidden(pack(alone)), bare.hidden(pack(bare))));
  EXPECT_FALSE(alone.reads_prompts());
}

}  // namespace
}  // namespace dfmoa::model
