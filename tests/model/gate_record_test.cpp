#include "src/model/gate_record.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/systems.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::model {
namespace {

/// Layer 0 has three experts, layer 1 four; both have a router of their four heads.
class RecordOfGates : public formats::TemporaryFolder {
 protected:
  Transformer mixed() {
    write_tiny_model(folder_);
    Transformer model(load_tiny_model(folder_, at::kDouble));
    auto plan = tests::experts_behind("softmax");
    plan.adapters["mix"].layers = "0";
    plan.adapters["more"] = plan.adapters["mix"];
    plan.adapters["more"].layers = "1";
    plan.adapters["more"].experts = 4;
    plan.dfa.router = "heads";
    plan.routers["heads"].kind = "softmax";
    model.adapt(plan, 1);
    stir(model);
    return model;
  }
};

TEST_F(RecordOfGates, experts_are_averaged_over_the_routers_that_have_them_without_heads) {
  const auto model = mixed();
  GateRecord record(model);
  (void)model.hidden(model.pack(tiny_row({5, 3})), nullptr, &record);
  ASSERT_EQ(record.entries().size(), 4U);
  at::Tensor w_TE[2];
  for (const auto& entry : record.entries()) {
    EXPECT_EQ(entry.router->of_heads, entry.router->name == "heads");
    if (!entry.router->of_heads) w_TE[entry.layer] = entry.w_TE;
  }
  const auto mean_TE = record.mean_of_experts();
  ASSERT_EQ(mean_TE.sizes(), at::IntArrayRef({8, 4}));
  EXPECT_TRUE(at::allclose(mean_TE.narrow(1, 0, 3), (w_TE[0] + w_TE[1].narrow(1, 0, 3)) / 2));
  EXPECT_TRUE(at::equal(mean_TE.narrow(1, 3, 1), w_TE[1].narrow(1, 3, 1)));
  const auto heads_TH = record.mean_of_heads();
  ASSERT_EQ(heads_TH.sizes(), at::IntArrayRef({8, 4}));
  EXPECT_TRUE(at::allclose(heads_TH.mean(1), at::ones({8}, at::kDouble))) << "mass is conserved";
}

TEST_F(RecordOfGates, a_model_without_routers_has_no_mean) {
  write_tiny_model(folder_);
  const Transformer model(load_tiny_model(folder_, at::kDouble));
  GateRecord record(model);
  (void)model.hidden(model.pack(tiny_row({4})), nullptr, &record);
  EXPECT_TRUE(record.entries().empty());
  EXPECT_FALSE(record.mean_of_experts().defined());
  EXPECT_FALSE(record.mean_of_heads().defined());
}

TEST_F(RecordOfGates, a_router_that_is_not_there_is_an_error) {
  const auto model = mixed();
  EXPECT_EQ(find_router(model, 1, "main").experts, 4);
  EXPECT_THROW((void)find_router(model, 1, "other"), base::ShapeError);
}

}  // namespace
}  // namespace dfmoa::model
