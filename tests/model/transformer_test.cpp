// The two laws of docs/math.md, identity at step 0 and causality; and packed rows against plain
// ones.
#include "src/model/transformer.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/systems.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::model {
namespace {

class TransformerLaws : public formats::TemporaryFolder {
 protected:
  Transformer load(const TinyShape& shape = {}) {
    write_tiny_model(folder_, shape);
    return Transformer(load_tiny_model(folder_, at::kDouble));
  }
  /// Two documents of 5 and 4 tokens; the second half of each bears loss.
  static data::PackedRow row_of(std::vector<std::int64_t> token) {
    data::PackedRow row;
    row.token_T = token;
    row.position_T = {0, 1, 2, 3, 4, 0, 1, 2, 3};
    row.target_T = {-1, -1, token[3], token[4], -1, -1, token[7], token[8], -1};
    row.document_begin = {0, 5, 9};
    row.document_id = {0, 1};
    row.prompt_end = {2, 6};
    row.span_begin = {0, 5};
    row.span_end = {1, 6};
    row.task = {"", ""};
    row.where = {"a:1", "a:2"};
    return row;
  }
  static const std::vector<std::int64_t> kTokens;
};

const std::vector<std::int64_t> TransformerLaws::kTokens{5, 9, 30, 7, 8, 100, 4, 11, 12};

TEST_F(TransformerLaws, adapted_model_equals_its_base_bitwise_before_the_first_update) {
  for (const std::string scope : {"token", "span"}) {
    for (const std::int64_t experts : {1, 3}) {
      auto bare = load();
      auto adapted = load();
      auto plan = tiny_plan(scope, experts);
      plan.rank_gates["gate"] = {};
      plan.adapters["mix"].rank_gate = "gate";
      adapted.adapt(plan, 3);
      const auto expected = bare.hidden(bare.pack(row_of(kTokens)));
      EXPECT_TRUE(at::equal(adapted.hidden(adapted.pack(row_of(kTokens))), expected)) << scope;
    }
  }
}

TEST_F(TransformerLaws, changing_a_token_changes_nothing_before_it_and_no_other_document) {
  auto mixed = load();
  mixed.adapt(tiny_plan("token"), 3);
  stir(mixed);
  const auto before = mixed.hidden(mixed.pack(row_of(kTokens)));
  for (std::int64_t s = 0; s < 9; ++s) {
    auto token = kTokens;
    token[static_cast<std::size_t>(s)] += 1;
    const auto after = mixed.hidden(mixed.pack(row_of(token)));
    const auto end = s < 5 ? std::int64_t{5} : std::int64_t{9};
    EXPECT_TRUE(at::equal(after.narrow(0, 0, s), before.narrow(0, 0, s))) << s;
    EXPECT_FALSE(at::equal(after[s], before[s])) << s;
    EXPECT_TRUE(at::equal(after.narrow(0, end, 9 - end), before.narrow(0, end, 9 - end))) << s;
  }
}

TEST_F(TransformerLaws, gate_of_a_span_changes_its_own_document_only) {
  auto mixed = load();
  mixed.adapt(tiny_plan("span"), 3);
  stir(mixed);
  const auto before = mixed.hidden(mixed.pack(row_of(kTokens)));
  auto token = kTokens;
  token[0] += 1;  // inside the span of document 0
  const auto after = mixed.hidden(mixed.pack(row_of(token)));
  EXPECT_FALSE(at::equal(after[4], before[4]));
  EXPECT_TRUE(at::equal(after.narrow(0, 5, 4), before.narrow(0, 5, 4)));
  token = kTokens;
  token[3] += 1;  // behind the prompt: nothing before it may move
  EXPECT_TRUE(
      at::equal(mixed.hidden(mixed.pack(row_of(token))).narrow(0, 0, 3), before.narrow(0, 0, 3)));
}

TEST_F(TransformerLaws, row_without_tokens_runs) {
  auto mixed = load();
  mixed.adapt(tiny_plan("span"), 3);
  const auto rows = mixed.pack({});
  EXPECT_EQ(mixed.hidden(rows).size(0), 0);
  EXPECT_EQ(mixed.head(mixed.hidden(rows), rows, 1.0, true).ce_sum.item<double>(), 0.0);
}

/// A document's noise is named by its number in the data, so that no cut of the work over rows and
/// processes changes what is trained.
TEST_F(TransformerLaws, rank_noise_follows_a_document_wherever_it_is_packed) {
  auto mixed = load();
  auto plan = tiny_plan("token");
  plan.rank_gates["gate"] = {};
  plan.adapters["mix"].rank_gate = "gate";
  mixed.adapt(plan, 3);
  stir(mixed);
  const at::NoGradGuard no_grad;
  const auto noisy = [&](const data::PackedRow& row) {
    const auto packed = mixed.pack(row);
    auto x_TD = mixed.embed(packed);
    for (const auto& block : mixed.blocks()) {
      x_TD = block.forward(x_TD, {packed, {5, 3, RankPhase::noisy}}).y_TD;
    }
    return x_TD;
  };
  auto row = row_of(kTokens);
  row.document_id = {7, 3};
  const auto both = noisy(row);
  data::PackedRow second;
  second.token_T = {kTokens.begin() + 5, kTokens.end()};
  second.position_T = {0, 1, 2, 3};
  second.target_T = {-1, -1, kTokens[7], kTokens[8]};
  second.document_begin = {0, 4};
  second.document_id = {3};
  second.prompt_end = {1};
  second.span_begin = {0};
  second.span_end = {1};
  second.task = {""};
  second.where = {"a:2"};
  // Products of 4 rows and of 9 may sum in another order: rounding of the largest activation.
  const auto scale = both.abs().max().item<double>();
  EXPECT_TRUE(at::allclose(noisy(second), both.narrow(0, 5, 4), 0, 1e-13 * scale)) << scale;
  second.document_id = {0};
  EXPECT_FALSE(at::allclose(noisy(second), both.narrow(0, 5, 4), 0, 1e-6)) << "noise has no effect";
}

TEST_F(TransformerLaws, documents_that_do_not_fit_the_model_are_refused_with_their_line) {
  const auto model = load();
  const auto refuse = [&](data::PackedRow row) {
    return formats::sentence_of<base::ContentError>([&] { (void)model.pack(row); });
  };
  EXPECT_NO_THROW((void)model.pack(tiny_row({64, 64})));  // 64 positions, counted by document
  const auto longer = refuse(tiny_row({3, 65}));
  EXPECT_TRUE(formats::contains(longer, "row:2: the document has 65 tokens")) << longer;
  auto row = tiny_row({3, 4});
  row.token_T[5] = 273;
  const auto unknown = refuse(row);
  EXPECT_TRUE(formats::contains(unknown, "row:2: it holds token 273, expected below the 273 rows"))
      << unknown;
}

TEST_F(TransformerLaws, plans_that_match_nothing_are_refused) {
  const auto refuse = [&](const AdapterPlan& plan) {
    auto model = load();
    return formats::sentence_of<base::UsageError>([&] { model.adapt(plan, 1); });
  };
  auto plan = tiny_plan("token");
  plan.adapters["mix"].sites = {"q", "w"};
  EXPECT_TRUE(formats::contains(refuse(plan), "'w' matches no linear"));
  plan = tiny_plan("token");
  plan.adapters["mix"].layers = "0-7";
  EXPECT_TRUE(formats::contains(refuse(plan), "matches no layer"));
  plan = tiny_plan("token");
  plan.adapters["mix"].router = "none";
  EXPECT_TRUE(formats::contains(refuse(plan), "there is no section [router.none]"));
  plan = tiny_plan("token");
  plan.adapters["other"].sites = {"q"};
  EXPECT_TRUE(
      formats::contains(refuse(plan), "[adapter.mix] and [adapter.other] both name site q"));
}

TEST_F(TransformerLaws, gates_that_do_not_go_together_are_refused) {
  const auto refuse = [&](const AdapterPlan& plan) {
    auto model = load();
    return formats::sentence_of<base::UsageError>([&] { model.adapt(plan, 1); });
  };
  const auto expect = [&](const AdapterPlan& plan, const std::string& part) {
    const auto sentence = refuse(plan);
    EXPECT_TRUE(formats::contains(sentence, part)) << sentence;
  };
  auto plan = tests::heterogeneous("sigmoid");
  plan.routers["block"].over = "experts";
  expect(plan, "expected router.block.over = adapters");
  plan = tests::attention_gates("softmax", "literal");
  expect(plan, "dfa.attention = pretrained with rank.dimensions.kind = literal");
  plan = tests::attention_gates("softmax", "svd");
  expect(plan, "rank.dimensions.kind = svd");
  plan = tests::attention_gates("softmax", "");
  plan.dfa.attention = "literal";
  expect(plan, "set rank_gate");
  plan = tests::attention_gates("softmax", "literal");
  plan.dfa.attention = "literal";
  plan.adapters["mix"].sites = {"down", "o"};
  expect(plan, "adapter.mix names its site o");
  plan = tests::attention_gates("topk", "");
  expect(plan, "router heads gates attention heads: kind topk");
  plan = tests::attention_gates("softmax", "");
  plan.adapters["mix"].router = "heads";
  expect(plan, "gates attention heads and adapter.mix");
  plan = tests::attention_gates("", "hard_concrete");
  plan.dfa.dimensions = {"qk", "w"};
  expect(plan, "dfa.dimensions: 'w'");
  plan = tests::attention_gates("", "hard_concrete");
  plan.dfa.rank_gate = "none";
  expect(plan, "configuration dfa.rank_gate = none: there is no section [rank.none]");
  plan = tests::attention_gates("", "hard_concrete");
  plan.dfa.layers = "7";
  expect(plan, "configuration dfa.layers: '7' matches no layer");
}

/// One layer of a published model, its weights never read.
std::shared_ptr<const BaseModel> published_layer(std::int64_t hidden, std::int64_t kv,
                                                 std::int64_t intermediate) {
  auto base = std::make_shared<BaseModel>();
  base->architecture.hidden = hidden;
  base->architecture.heads = 32;
  base->architecture.kv_heads = kv;
  base->architecture.head_dim = hidden / 32;
  base->embedding_VD = at::empty({1, 1}, at::kFloat);
  const auto keys = kv * hidden / 32;
  LayerWeights layer;
  const std::array<std::pair<std::int64_t, std::int64_t>, 7> extents{{{hidden, hidden},
                                                                      {keys, hidden},
                                                                      {keys, hidden},
                                                                      {hidden, hidden},
                                                                      {intermediate, hidden},
                                                                      {intermediate, hidden},
                                                                      {hidden, intermediate}}};
  for (std::size_t site = 0; site < 7; ++site) {
    layer.linears[site] = adapters::dense_linear(
        at::empty({extents[site].first, extents[site].second}, at::kFloat), {});
  }
  base->layers.push_back(std::move(layer));
  return base;
}

/// Millions of trained numbers in all 32 layers, to two places, as papers print them.
double published_millions(const AdapterPlan& plan, const std::shared_ptr<const BaseModel>& layer) {
  Transformer model(layer);
  model.adapt(plan, 1);
  return std::round(32.0 * static_cast<double>(model.trainable_parameters()) / 1e4) / 100;
}

/// Sources: MoA, arXiv:2506.05928, and AdaMoLE, arXiv:2405.00361.
TEST(PublishedSizes, follow_from_shapes) {
  const auto llama3 = published_layer(4096, 8, 14336);
  AdapterPlan moa = tests::heterogeneous("sigmoid");
  moa.adapters["lora"].rank = 8;
  moa.adapters["parallel"].width = 0;
  moa.adapters["prompt"].width = 0;
  moa.routers["block"].network = "mlp";
  EXPECT_EQ(published_millions(moa, llama3), 24.52);
  moa.adapters.erase("prompt");
  moa.routers["block"].kind = "sigmoid_threshold";
  EXPECT_EQ(published_millions(moa, llama3), 22.29);
  AdapterPlan lora;
  lora.adapters["lora"] = moa.adapters["lora"];
  lora.adapters["lora"].router = "";
  lora.adapters["lora"].rank = 16;
  EXPECT_EQ(published_millions(lora, llama3), 23.07);
  AdapterPlan hydra = tests::experts_behind("softmax", 8);
  hydra.adapters["mix"].rank = 8;
  hydra.adapters["mix"].sites = lora.adapters["lora"].sites;
  hydra.adapters["mix"].shared_a = true;
  hydra.routers["main"].input = "per_site";
  EXPECT_EQ(published_millions(hydra, llama3), 45.09);
  auto adamole = hydra;
  adamole.adapters["mix"].shared_a = false;
  adamole.routers["main"].kind = "threshold";
  EXPECT_EQ(published_millions(adamole, llama3), 101.12);
  const auto llama2 = published_layer(4096, 32, 11008);
  adamole.adapters["mix"].sites = {"q", "k", "v", "o"};
  adamole.adapters["mix"].rank = 4;
  EXPECT_EQ(published_millions(adamole, llama2), 38.27);
  lora.adapters["lora"].sites = {"q", "k", "v", "o"};
  lora.adapters["lora"].rank = 32;
  EXPECT_EQ(published_millions(lora, llama2), 33.55);
}

}  // namespace
}  // namespace dfmoa::model
