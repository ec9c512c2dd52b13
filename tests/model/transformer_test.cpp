// The two laws of docs/math.md, identity at step 0 and causality; and packed rows against plain
// ones.
#include "src/model/transformer.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"
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

}  // namespace
}  // namespace dfmoa::model
