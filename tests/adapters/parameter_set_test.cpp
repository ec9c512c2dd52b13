#include "src/adapters/parameter_set.h"

#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::adapters {
namespace {

using tests::distance;

const std::vector<ParameterSpec> kSpecs{{"x/A", {3, 5}, ParameterGroup::adapter},
                                        {"x/b", {0, 5}, ParameterGroup::adapter},
                                        {"router/w", {2, 3}, ParameterGroup::router},
                                        {"x/logit", {3}, ParameterGroup::rank_gate}};

TEST(ParameterSet, everything_starts_at_zero_in_the_shape_of_its_spec) {
  const ParameterSet set(kSpecs, at::kDouble);
  EXPECT_EQ(set.count(), 15 + 6 + 3);
  EXPECT_FALSE(set.empty());
  for (std::size_t i = 0; i < kSpecs.size(); ++i) {
    for (const auto& tensor : {set.leaves()[i], set.gradient(i), set.moment1(i), set.moment2(i)}) {
      EXPECT_EQ(tensor.sizes(), kSpecs[i].shape);
      EXPECT_EQ(tensor.abs().sum().item<double>(), 0);
    }
    EXPECT_TRUE(set.leaves()[i].is_leaf());
    EXPECT_TRUE(set.leaves()[i].requires_grad());
  }
}

TEST(ParameterSet, every_view_begins_on_a_cache_line) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const ParameterSet set(kSpecs, dtype);
    for (std::size_t i = 0; i < kSpecs.size(); ++i) {
      for (const auto& tensor :
           {set.leaves()[i], set.gradient(i), set.moment1(i), set.moment2(i)}) {
        if (tensor.numel() == 0) continue;
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % 64, 0U) << i;
      }
    }
  }
}

TEST(ParameterSet, leaves_are_views_of_the_flat_value) {
  const ParameterSet set(kSpecs, at::kDouble);
  const at::NoGradGuard no_grad;
  set.leaf("router/w").fill_(2);
  EXPECT_EQ(set.flat(ParameterGroup::router).value.sum().item<double>(), 12);
  set.flat(ParameterGroup::router).value.mul_(3);
  EXPECT_EQ(set.leaf("router/w").sum().item<double>(), 36);
  EXPECT_EQ(set.leaf("x/A").sum().item<double>(), 0);
  EXPECT_EQ(set.leaf("x/logit").sum().item<double>(), 0);
}

TEST(ParameterSet, on_the_host_it_is_shared_and_elsewhere_taken_over) {
  ParameterSet set(kSpecs, at::kDouble);
  const auto host = set.on_host();
  EXPECT_EQ(host.leaf("router/w").const_data_ptr(), set.leaf("router/w").const_data_ptr());
  EXPECT_EQ(host.moment2(3).const_data_ptr(), set.moment2(3).const_data_ptr());
  ParameterSet other(kSpecs, at::kDouble);
  {
    const at::NoGradGuard no_grad;
    other.leaf("x/A").fill_(2);
    other.moment1(2).fill_(3);
  }
  set.take(other);
  EXPECT_EQ(set.leaf("x/A").sum().item<double>(), 30);
  EXPECT_EQ(set.moment1(2).sum().item<double>(), 18);
  EXPECT_TRUE(ParameterSet().on_host().empty());
}

TEST(ParameterSet, an_update_between_a_forward_and_its_backward_raises) {
  const ParameterSet set(kSpecs, at::kDouble);
  const auto loss = set.leaf("x/A").square().sum();
  {
    const at::NoGradGuard no_grad;
    set.flat(ParameterGroup::adapter).value.add_(1);
  }
  const auto sentence =
      tests::refusal<c10::Error>([&] { (void)tests::gradients({loss}, {}, {set.leaf("x/A")}); });
  EXPECT_TRUE(tests::contains(sentence, "modified by an inplace operation")) << sentence;
}

TEST(ParameterSet, flat_groups_are_contiguous_disjoint_and_cover_all) {
  const ParameterSet set(kSpecs, at::kDouble);
  const auto step = set.flat(ParameterGroup::adapter);
  const auto router = set.flat(ParameterGroup::router);
  const auto gates = set.flat(ParameterGroup::rank_gate);
  EXPECT_EQ(step.gradient.const_data_ptr<double>(), set.flat_gradient().const_data_ptr<double>());
  EXPECT_EQ(step.gradient.const_data_ptr<double>() + step.gradient.numel(),
            router.gradient.const_data_ptr<double>());
  EXPECT_EQ(router.moment2.const_data_ptr<double>() + router.moment2.numel(),
            gates.moment2.const_data_ptr<double>());
  EXPECT_EQ(step.value.numel() + router.value.numel() + gates.value.numel(),
            set.flat_gradient().numel());
  set.moment1(2).fill_(1);
  EXPECT_EQ(router.moment1.sum().item<double>(), 6);
  EXPECT_EQ(router.moment2.sum().item<double>(), 0);
}

TEST(ParameterSet, a_group_without_parameters_is_empty) {
  const ParameterSet set({kSpecs[0], kSpecs[3]}, at::kDouble);
  EXPECT_EQ(set.flat(ParameterGroup::router).value.numel(), 0);
  EXPECT_EQ(set.flat(ParameterGroup::rank_gate).gradient.numel(), 8);
  const ParameterSet logits({kSpecs[3]}, at::kDouble);
  EXPECT_EQ(logits.flat(ParameterGroup::adapter).value.numel(), 0);
  ParameterSet nothing;
  EXPECT_TRUE(nothing.empty());
  EXPECT_EQ(nothing.count(), 0);
  EXPECT_FALSE(nothing.flat(ParameterGroup::adapter).value.defined());
  EXPECT_NO_THROW(nothing.zero_gradient());
  EXPECT_NO_THROW(nothing.accumulate({}));
}

TEST(ParameterSet, gradients_add_up_until_they_are_cleared) {
  ParameterSet set(kSpecs, at::kDouble);
  const std::vector<at::Tensor> once{tests::normal({3, 5}, 1), at::zeros({0, 5}, at::kDouble),
                                     at::Tensor(), tests::normal({3}, 2)};
  set.accumulate(once);
  set.accumulate(once);
  EXPECT_EQ(distance(set.gradient(0), once[0] * 2), 0);
  EXPECT_EQ(distance(set.gradient(2), at::zeros({2, 3}, at::kDouble)), 0);
  EXPECT_EQ(distance(set.gradient(3), once[3] * 2), 0);
  set.zero_gradient();
  EXPECT_EQ(set.flat_gradient().abs().max().item<double>(), 0);
  EXPECT_THROW(set.accumulate({once[0]}), base::ShapeError);
}

TEST(ParameterSet, an_unknown_name_is_refused) {
  const ParameterSet set(kSpecs, at::kDouble);
  EXPECT_EQ(set.index_of("router/w"), 2U);
  const auto sentence = tests::refusal<base::ShapeError>([&] { (void)set.index_of("x/B"); });
  EXPECT_TRUE(tests::contains(sentence, "x/B")) << sentence;
  EXPECT_THROW((void)set.leaf(""), base::ShapeError);
}

TEST(ParameterSet, specs_out_of_order_are_refused) {
  const auto sentence = tests::refusal<base::ShapeError>([] {
    const ParameterSet set({kSpecs[2], kSpecs[0]}, at::kDouble);
  });
  EXPECT_TRUE(tests::contains(sentence, "x/A: specs must be ordered by group")) << sentence;
}

/// One tensor per spec, elsewhere in memory.
std::vector<at::Tensor> lent_tensors() {
  std::vector<at::Tensor> lent;
  for (const auto& spec : kSpecs) lent.push_back(tests::normal_leaf(spec.shape, lent.size()));
  return lent;
}

TEST(ParameterSet, borrowed_leaves_are_those_that_were_lent) {
  const auto lent = lent_tensors();
  const auto set = ParameterSet::borrowed(kSpecs, lent);
  EXPECT_EQ(set.count(), 15 + 6 + 3);
  for (std::size_t i = 0; i < kSpecs.size(); ++i) {
    EXPECT_TRUE(set.leaf(kSpecs[i].name).is_same(lent[i])) << kSpecs[i].name;
  }
  EXPECT_EQ(set.indices_under("x/").size(), 3U);
  EXPECT_FALSE(set.flat_gradient().defined());
}

TEST(ParameterSet, leaves_that_do_not_fit_are_not_borrowed) {
  auto few = lent_tensors();
  few.pop_back();
  auto sentence =
      tests::refusal<base::ShapeError>([&] { (void)ParameterSet::borrowed(kSpecs, few); });
  EXPECT_TRUE(tests::contains(sentence, "3 leaves for 4 specs")) << sentence;
  auto other = lent_tensors();
  other[2] = other[2].t();
  sentence = tests::refusal<base::ShapeError>([&] { (void)ParameterSet::borrowed(kSpecs, other); });
  EXPECT_TRUE(tests::contains(sentence, "expected one of its shape for each")) << sentence;
}

}  // namespace
}  // namespace dfmoa::adapters
