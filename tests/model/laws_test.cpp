// Two laws of the model at every corner of a mixture: identity at step 0 and causality. The other
// two laws: tests/adapters/mixture_corners_test.cpp.
#include <gtest/gtest.h>

#include "tests/support/corners.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::model {
namespace {

class Laws : public testing::TestWithParam<tests::Corner> {
 protected:
  static void SetUpTestSuite() { base_ = tiny_base({}, at::kDouble); }
  static void TearDownTestSuite() { base_ = nullptr; }

  static Transformer mixture() {
    const auto& corner = GetParam();
    Transformer model(base_);
    auto plan = tiny_plan("token", corner.experts);
    plan.routers["main"] = corner.router();
    plan.rank_gates["gate"] = {};
    plan.adapters["mix"].rank = corner.rank;
    plan.adapters["mix"].rank_gate = "gate";
    model.adapt(plan, 3);
    if (corner.empty_expert >= 0) empty(model, corner.empty_expert);
    return model;
  }

  /// Takes every direction from one expert, as a rank cut may.
  static void empty(Transformer& model, std::int64_t expert) {
    for (auto& block : model.blocks()) {
      auto adapted = block.adapters();
      for (auto& group : adapted.groups) {
        for (auto& site : group.sites) {
          auto& rank = site.rank_E[static_cast<std::size_t>(expert)];
          const auto first = site.direction_id_N.begin() + site.begin_of(expert);
          site.direction_id_N.erase(first, first + rank);
          rank = 0;
        }
        group.index();
      }
      block.adapt(adapted, adapted, 3, base_->embedding_VD.options());
    }
  }

  /// Experts that do something, unless every gate is to be closed: then the rank gates are.
  static void decide(Transformer& model) {
    stir(model);
    if (!GetParam().closed) return;
    const at::NoGradGuard no_grad;
    for (auto& block : model.blocks()) {
      for (const auto& group : block.adapters().groups) {
        block.parameters().leaf(group.name + "/logit").fill_(-5.0);
      }
    }
  }

  /// Two documents, or a row without tokens.
  static data::PackedRow row() {
    return GetParam().tokens == 0 ? data::PackedRow{} : tiny_row({5, 4});
  }

  static std::shared_ptr<const BaseModel> base_;
};

std::shared_ptr<const BaseModel> Laws::base_;

TEST_P(Laws, before_the_first_update_the_model_is_its_base_bit_for_bit) {
  const Transformer bare(base_);
  auto mixed = mixture();
  if (GetParam().closed) decide(mixed);  // closed gates keep experts silent whatever they learned
  const auto expected = bare.hidden(bare.pack(row()));
  EXPECT_EQ(expected.size(0), GetParam().tokens);
  EXPECT_TRUE(at::equal(mixed.hidden(mixed.pack(row())), expected));
}

TEST_P(Laws, no_output_depends_on_a_later_token_or_another_document) {
  auto mixed = mixture();
  decide(mixed);
  const auto before = mixed.hidden(mixed.pack(row()));
  ASSERT_EQ(before.size(0), GetParam().tokens);
  EXPECT_NE(GetParam().tokens > 0 && !GetParam().closed,
            at::equal(before, Transformer(base_).hidden(mixed.pack(row()))));
  for (std::int64_t s = 0; s < GetParam().tokens; ++s) {
    auto changed = row();
    changed.token_T[static_cast<std::size_t>(s)] += 1;
    const auto after = mixed.hidden(mixed.pack(changed));
    const std::int64_t end = s < 5 ? 5 : 9;
    EXPECT_TRUE(at::equal(after.narrow(0, 0, s), before.narrow(0, 0, s))) << s;
    EXPECT_FALSE(at::equal(after[s], before[s])) << s;
    EXPECT_TRUE(at::equal(after.narrow(0, end, 9 - end), before.narrow(0, end, 9 - end))) << s;
  }
}

INSTANTIATE_TEST_SUITE_P(At, Laws, testing::ValuesIn(tests::corners()),
                         [](const auto& corner) { return corner.param.name; });

}  // namespace
}  // namespace dfmoa::model
