// mixture_linear against mixture_linear_loop, and both against what the equation promises.
#include "src/adapters/mixture_linear.h"

#include "src/adapters/config.h"
#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::adapters {
namespace {

using tests::distance;
using tests::ints;
using tests::normal;
using tests::normal_leaf;

constexpr double kMixtureTolerance = 1e-12;

struct MixtureForm {
  std::string name;
  /// Ranks of the experts of every site; an empty list: the site is not adapted.
  std::vector<std::vector<std::int64_t>> ranks;
  bool gate = true, z = true, rows = true;
  std::int64_t tokens = 6;
};

/// Sites of 5 in-features, with out-features 4, 3, 6; two documents.
struct MixtureCase {
  explicit MixtureCase(const MixtureForm& form) {
    std::vector<std::int32_t> column;
    std::size_t experts = 1;
    for (std::size_t s = 0; s < form.ranks.size(); ++s) {
      const std::int64_t out_features = std::array<std::int64_t, 3>{4, 3, 6}.at(s);
      MixtureSite site;
      site.base = dense_linear(normal({out_features, 5}, 10 + s),
                               s == 1 ? at::Tensor() : normal({out_features}, 20 + s));
      site.first = static_cast<std::int64_t>(column.size());
      site.scale = 0.5 + static_cast<double>(s);
      for (std::size_t e = 0; e < form.ranks[s].size(); ++e) {
        column.insert(column.end(), static_cast<std::size_t>(form.ranks[s][e]),
                      static_cast<std::int32_t>(e));
      }
      experts = std::max(experts, form.ranks[s].size());
      const auto directions = static_cast<std::int64_t>(column.size()) - site.first;
      if (!form.ranks[s].empty()) site.b_NF = normal_leaf({directions, out_features}, 30 + s);
      sites.push_back(site);
      dy.push_back(normal({form.tokens, out_features}, 40 + s));
    }
    const auto total = static_cast<std::int64_t>(column.size());
    x_TD = normal_leaf({form.tokens, 5}, 1);
    group.a_ND = normal_leaf({total, 5}, 2);
    group.column_N = ints(column);
    if (form.gate) {
      group.gate_TG = normal({form.tokens, static_cast<std::int64_t>(experts)}, 3);
      group.gate_TG.requires_grad_();
    }
    const auto half = static_cast<std::int32_t>(form.tokens / 2);
    const auto end = static_cast<std::int32_t>(form.tokens);
    group.row_begin = form.rows ? ints({0, half, end}) : ints({0, end});
    if (form.z) group.z_ZN = normal_leaf({form.rows ? 2 : 1, total}, 4);
    if (form.z && form.rows) group.row_T = (at::arange(form.tokens) >= half).to(at::kInt);
  }

  /// x, a, then gate, z and every b that exists.
  [[nodiscard]] std::vector<at::Tensor> leaves() const {
    std::vector<at::Tensor> all{x_TD, group.a_ND};
    for (const auto& tensor : {group.gate_TG, group.z_ZN}) {
      if (tensor.defined()) all.push_back(tensor);
    }
    for (const auto& site : sites) {
      if (site.b_NF.defined()) all.push_back(site.b_NF);
    }
    return all;
  }

  at::Tensor x_TD;
  MixtureGroup group;
  std::vector<MixtureSite> sites;
  std::vector<at::Tensor> dy;
};

/// Gradients with zeros where the output does not read a leaf.
std::vector<at::Tensor> mixture_gradients(const std::vector<at::Tensor>& y,
                                          const std::vector<at::Tensor>& dy,
                                          const std::vector<at::Tensor>& leaves) {
  auto grads = tests::gradients(y, dy, leaves);
  for (std::size_t i = 0; i < grads.size(); ++i) {
    if (!grads[i].defined()) grads[i] = at::zeros_like(leaves[i]);
  }
  return grads;
}

class MixtureLinear : public testing::TestWithParam<MixtureForm> {};

TEST_P(MixtureLinear, outputs_and_all_gradients_equal_the_loop_over_experts) {
  const MixtureCase in(GetParam());
  const auto y = mixture_linear(in.x_TD, in.group, in.sites);
  const auto loop = mixture_linear_loop(in.x_TD, in.group, in.sites);
  ASSERT_EQ(y.size(), in.sites.size());
  for (std::size_t s = 0; s < y.size(); ++s) EXPECT_LT(distance(y[s], loop[s]), kMixtureTolerance);
  const auto grads = mixture_gradients(y, in.dy, in.leaves());
  const auto expected = mixture_gradients(loop, in.dy, in.leaves());
  for (std::size_t i = 0; i < grads.size(); ++i) {
    EXPECT_LT(distance(grads[i], expected[i]), kMixtureTolerance) << "leaf " << i;
  }
}

TEST_P(MixtureLinear, is_the_base_model_bit_for_bit_where_b_is_zero) {
  const MixtureCase in(GetParam());
  for (const auto& site : in.sites) {
    if (site.b_NF.defined()) site.b_NF.detach().zero_();
  }
  const auto y = mixture_linear(in.x_TD, in.group, in.sites);
  for (std::size_t s = 0; s < y.size(); ++s) {
    EXPECT_TRUE(at::equal(y[s], in.sites[s].base->forward(in.x_TD.detach())));
  }
}

/// Where tokens were sent to the experts, the frozen linear ran at home.
TEST_P(MixtureLinear, without_bases_it_is_the_share_of_the_experts) {
  MixtureCase in(GetParam());
  for (std::size_t s = in.sites.size(); s-- > 0;) {
    in.sites[s].base = nullptr;
    if (in.sites[s].b_NF.defined()) continue;
    in.sites.erase(in.sites.begin() + static_cast<std::ptrdiff_t>(s));
    in.dy.erase(in.dy.begin() + static_cast<std::ptrdiff_t>(s));
  }
  const auto y = mixture_linear(in.x_TD, in.group, in.sites);
  auto loop = mixture_linear_loop(in.x_TD, in.group, in.sites);
  for (auto& y_TF : loop) y_TF = y_TF + 0.0 * in.x_TD.sum();  // zeros alone are of no graph
  for (std::size_t s = 0; s < y.size(); ++s) EXPECT_LT(distance(y[s], loop[s]), kMixtureTolerance);
  const auto grads = mixture_gradients(y, in.dy, in.leaves());
  const auto expected = mixture_gradients(loop, in.dy, in.leaves());
  for (std::size_t i = 0; i < grads.size(); ++i) {
    EXPECT_LT(distance(grads[i], expected[i]), kMixtureTolerance) << "leaf " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Forms, MixtureLinear,
    testing::Values(MixtureForm{"three_sites_one_unadapted", {{2, 1, 3}, {}, {1, 1, 2}}},
                    MixtureForm{"first_site_unadapted", {{}, {2, 2}}},
                    MixtureForm{"expert_without_directions", {{2, 0, 3}, {0, 1, 0}}},
                    MixtureForm{"site_without_directions", {{0, 0}, {1, 2}}},
                    MixtureForm{"no_direction_left", {{0, 0}}},
                    MixtureForm{"one_expert_of_rank_one", {{1}}},
                    MixtureForm{"ungated", {{3}, {2}}, false, false, false},
                    MixtureForm{"gates_alone", {{2, 1}, {1, 1}}, true, false, false},
                    MixtureForm{"rank_gates_alone", {{2, 1}, {1, 1}}, false, true, true},
                    MixtureForm{"one_row_of_rank_gates", {{2, 1}, {1, 1}}, true, true, false},
                    MixtureForm{"zero_tokens", {{2, 1}, {1, 1}}, true, true, true, 0}),
    [](const auto& form) { return form.param.name; });

TEST(MixtureLinearGradient, is_the_slope_of_every_leaf) {
  const MixtureCase in({"", {{2, 0, 1}, {}, {1, 1, 1}}});
  const auto f = [&] {
    const auto y = mixture_linear(in.x_TD, in.group, in.sites);
    double total = 0;
    for (std::size_t s = 0; s < y.size(); ++s) total += (y[s] * in.dy[s]).sum().item<double>();
    return total;
  };
  const auto grads =
      mixture_gradients(mixture_linear(in.x_TD, in.group, in.sites), in.dy, in.leaves());
  const auto leaves = in.leaves();
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_LT(distance(grads[i], tests::central_differences(f, leaves[i])), 1e-8) << "leaf " << i;
  }
}

TEST(MixtureLinearGradient, closed_gates_silence_the_experts_but_not_the_router) {
  const MixtureCase in({"", {{2, 1, 1}}});
  in.group.gate_TG.detach().zero_();
  const auto y = mixture_linear(in.x_TD, in.group, in.sites);
  EXPECT_TRUE(at::equal(y[0], in.sites[0].base->forward(in.x_TD.detach())));
  const auto grads = mixture_gradients(y, in.dy, in.leaves());
  EXPECT_EQ(grads[1].abs().max().item<double>(), 0);     // a
  EXPECT_GT(grads[2].abs().min().item<double>(), 1e-6);  // gate
  EXPECT_EQ(grads[3].abs().max().item<double>(), 0);     // z
  EXPECT_EQ(grads[4].abs().max().item<double>(), 0);     // b
  EXPECT_LT(distance(grads[0], in.sites[0].base->backward(in.dy[0])), 1e-14);
}

TEST(MixtureLinearGradient, an_output_that_nobody_reads_changes_nothing) {
  const MixtureCase in({"", {{2, 1}, {}, {1, 1}}});
  const auto one = [&](const std::vector<at::Tensor>& y) {
    return mixture_gradients({y[2]}, {in.dy[2]}, in.leaves());
  };
  const auto grads = one(mixture_linear(in.x_TD, in.group, in.sites));
  const auto expected = one(mixture_linear_loop(in.x_TD, in.group, in.sites));
  for (std::size_t i = 0; i < grads.size(); ++i) {
    EXPECT_LT(distance(grads[i], expected[i]), kMixtureTolerance) << "leaf " << i;
  }
}

/// Counts what the input's gradient costs.
class CountingLinear final : public BaseLinear {
 public:
  CountingLinear() : BaseLinear(5, 4) {}
  at::Tensor forward(const at::Tensor& x_TD) const override {
    return at::zeros({x_TD.size(0), 4}, x_TD.options());
  }
  at::Tensor backward(const at::Tensor& dy_TF) const override {
    ++backwards;
    return at::zeros({dy_TF.size(0), 5}, dy_TF.options());
  }
  std::shared_ptr<const BaseLinear> rows(std::int64_t, std::int64_t) const override {
    return std::make_shared<CountingLinear>();
  }
  std::shared_ptr<const BaseLinear> to(at::Device) const override {
    return std::make_shared<CountingLinear>();
  }
  std::int64_t bytes() const override { return 0; }
  mutable int backwards = 0;
};

TEST(MixtureLinearGradient, the_base_is_walked_backwards_only_where_the_input_wants_it) {
  MixtureCase in({"", {{2, 1}}});
  const auto base = std::make_shared<CountingLinear>();
  in.sites[0].base = base;
  const auto whole = mixture_linear(in.x_TD, in.group, in.sites);
  (void)tests::gradients(whole, in.dy, {in.x_TD});
  EXPECT_EQ(base->backwards, 1);
  const auto detached = mixture_linear(in.x_TD.detach(), in.group, in.sites);
  const auto db = tests::gradients(detached, in.dy, {in.sites[0].b_NF})[0];
  EXPECT_EQ(base->backwards, 1);
  EXPECT_LT(distance(db, tests::gradients(whole, in.dy, {in.sites[0].b_NF})[0]), 1e-14);
}

TEST(MixtureLinearGradient, an_update_between_forward_and_backward_raises) {
  const MixtureCase in({"", {{2, 1}}});
  for (const auto& leaf : {in.group.a_ND, in.sites[0].b_NF}) {
    const auto y = mixture_linear(in.x_TD, in.group, in.sites);
    leaf.detach().add_(1);
    const auto sentence =
        tests::refusal<c10::Error>([&] { (void)tests::gradients(y, in.dy, {in.x_TD}); });
    EXPECT_TRUE(tests::contains(sentence, "modified by an inplace operation")) << sentence;
  }
}

TEST(FrozenGroup, without_a_is_the_base_with_its_gradient_to_x) {
  MixtureCase in({"", {{}, {}}});
  in.group = {};
  const auto y = mixture_linear(in.x_TD, in.group, in.sites);
  const auto loop = mixture_linear_loop(in.x_TD, in.group, in.sites);
  for (std::size_t s = 0; s < y.size(); ++s) EXPECT_LT(distance(y[s], loop[s]), 1e-14);
  const auto dx = tests::gradients(y, in.dy, {in.x_TD})[0];
  EXPECT_LT(distance(dx, tests::gradients(loop, in.dy, {in.x_TD})[0]), 1e-14);
}

/// Section 1 of the mathematics: gates are mean-one, whatever the number of experts.
TEST(MixtureScale, at_undecided_gates_the_mixture_is_one_lora_of_rank_n) {
  for (const std::string kind : {"rslora", "lora"}) {
    AdapterConfig mixture;
    mixture.experts = 3;
    mixture.rank = 2;
    mixture.scale = kind;
    AdapterConfig lora = mixture;
    lora.experts = 1;
    lora.rank = 6;
    MixtureCase in({"", {{2, 2, 2}}, true, false, false});
    in.group.gate_TG = at::full({6, 3}, 1.0 / 3, at::kDouble);
    in.sites[0].scale = mixture.scale_factor(1.0 / 3);
    const auto y = mixture_linear(in.x_TD, in.group, in.sites)[0];
    in.group.gate_TG = at::Tensor();
    in.group.column_N = at::zeros({6}, at::kInt);
    in.sites[0].scale = lora.scale_factor(1);
    EXPECT_LT(distance(y, mixture_linear(in.x_TD, in.group, in.sites)[0]), kMixtureTolerance);
  }
}

TEST(MixtureRows, a_document_reads_its_own_row_of_rank_gates) {
  const MixtureCase in({"", {{2, 1}}});
  const auto before = mixture_linear(in.x_TD, in.group, in.sites)[0].detach();
  in.group.z_ZN.detach()[1].fill_(7);
  const auto after = mixture_linear(in.x_TD, in.group, in.sites)[0].detach();
  EXPECT_TRUE(at::equal(before.narrow(0, 0, 3), after.narrow(0, 0, 3)));
  EXPECT_GT((before - after).abs().sum(1).narrow(0, 3, 3).min().item<double>(), 1e-6);
}

TEST(MixtureLinearRefusal, tensors_that_do_not_fit_are_named) {
  const auto refused = [](std::string_view part, const std::function<void(MixtureCase&)>& damage) {
    MixtureCase in({"", {{2, 1}, {1, 1}}});
    damage(in);
    const auto sentence = tests::refusal<base::ShapeError>(
        [&] { (void)mixture_linear(in.x_TD, in.group, in.sites); });
    EXPECT_TRUE(tests::contains(sentence, part)) << sentence;
  };
  refused("x is [6, 4], expected (T, 5)", [](auto& in) { in.x_TD = in.x_TD.narrow(1, 0, 4); });
  refused("x is [30]", [](auto& in) { in.x_TD = in.x_TD.view({30}); });
  refused("from direction 3 of a [4, 5]",
          [](auto& in) { in.group.a_ND = in.group.a_ND.narrow(0, 0, 4); });
  refused("of a [5, 4]", [](auto& in) { in.group.a_ND = in.group.a_ND.narrow(1, 0, 4); });
  refused("of a (none)", [](auto& in) { in.group.a_ND = at::Tensor(); });
  refused("neither a base nor experts", [](auto& in) {
    in.sites[1].base = nullptr;
    in.sites[1].b_NF = at::Tensor();
  });
  refused("b is [2, 2]", [](auto& in) { in.sites[1].b_NF = in.sites[1].b_NF.narrow(1, 0, 2); });
  refused("gate is [5, 2]", [](auto& in) { in.group.gate_TG = in.group.gate_TG.narrow(0, 0, 5); });
}

/// Two sites, the first with three experts of rank 2 on one A, the second as usual.
TEST(MixtureLinear, experts_that_share_a_are_those_of_the_loop) {
  const auto x_TD = normal_leaf({6, 5}, 1);
  MixtureGroup group;
  group.a_ND = normal_leaf({2 + 4, 5}, 2);
  group.gate_TG = normal_leaf({6, 3}, 3);
  group.column_N = ints({0, 0, 1, 1, 2, 2, 0, 0, 2, 2});
  group.row_begin = ints({0, 6});
  std::vector<MixtureSite> sites{
      {dense_linear(normal({4, 5}, 10), {}), normal_leaf({6, 4}, 20), 0, 0.5, 0, 3},
      {dense_linear(normal({3, 5}, 11), {}), normal_leaf({4, 3}, 21), 6, 1.5, 2, 1}};
  const std::vector<at::Tensor> dy{normal({6, 4}, 30), normal({6, 3}, 31)};
  const auto fused = mixture_linear(x_TD, group, sites);
  const auto loop = mixture_linear_loop(x_TD, group, sites);
  const std::vector<at::Tensor> leaves{x_TD, group.a_ND, group.gate_TG, sites[0].b_NF,
                                       sites[1].b_NF};
  const auto grads = tests::gradients(fused, dy, leaves);
  const auto expected = tests::gradients(loop, dy, leaves);
  for (std::size_t s = 0; s < 2; ++s) EXPECT_LT(distance(fused[s], loop[s]), kMixtureTolerance);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    EXPECT_LT(distance(grads[i], expected[i]), kMixtureTolerance) << i;
  }
  sites[0].sharers = 4;  // six directions
  EXPECT_THROW((void)mixture_linear(x_TD, group, sites), base::ShapeError);
}

/// Why a router of shared A must not start at zero: equal b stay equal, whatever is learned.
TEST(MixtureLinear, undecided_gates_give_experts_of_one_a_equal_gradients) {
  const auto x_TD = normal({6, 5}, 1);
  MixtureGroup group;
  group.a_ND = normal_leaf({2, 5}, 2);
  group.gate_TG = at::full({6, 3}, 1.0 / 3, at::kDouble);
  group.column_N = ints({0, 0, 1, 1, 2, 2});
  group.row_begin = ints({0, 6});
  const std::vector<MixtureSite> sites{{dense_linear(normal({4, 5}, 10), {}),
                                        at::zeros({6, 4}, at::kDouble).requires_grad_(), 0, 0.5, 0,
                                        3}};
  const auto y = mixture_linear(x_TD, group, sites);
  const auto db = tests::gradients(y, {normal({6, 4}, 30)}, {sites[0].b_NF})[0].view({3, 2, 4});
  EXPECT_GT(db.abs().max().item<double>(), 1e-3);
  EXPECT_LT(distance(db[0], db[1]) + distance(db[0], db[2]), 1e-14);
}

}  // namespace
}  // namespace dfmoa::adapters
