#include "src/adapters/rank_gate.h"

#include "src/base/random.h"
#include "tests/support/tensors.h"

namespace dfmoa::adapters {
namespace {

using tests::distance;
using tests::normal;
using tests::reals;

/// The midpoints of `count` equal parts of (0, 1): expectations over u up to 1 / count.
at::Tensor even_noise(std::int64_t count) {
  return ((at::arange(count, at::kDouble) + 0.5) / static_cast<double>(count)).unsqueeze(1);
}

TEST(HardConcrete, is_exactly_one_at_the_start_and_exactly_zero_where_dead) {
  const auto z = hard_concrete(reals({kLogitStart, 2.39, 0, -2.39, -kLogitStart}));
  EXPECT_EQ(z[0].item<double>(), 1);
  EXPECT_LT(z[1].item<double>(), 1);
  EXPECT_DOUBLE_EQ(z[2].item<double>(), 0.5);
  EXPECT_GT(z[3].item<double>(), 0);
  EXPECT_EQ(z[4].item<double>(), 0);
  EXPECT_EQ(hard_concrete(torch::tensor({2.4F})).item<float>(), 1.0F);
}

TEST(HardConcrete, noisy_form_is_stretched_clamped_and_one_mask_per_row) {
  const auto logit_N = reals({0.3, -1});
  const auto u_ZN = reals({0.5, 0.9, 0.2, 0.01}).view({2, 2});
  const auto z_ZN = hard_concrete_noisy(logit_N, u_ZN);
  for (std::int64_t d = 0; d < 2; ++d) {
    for (std::int64_t n = 0; n < 2; ++n) {
      const auto u = u_ZN[d][n].item<double>();
      const auto m = logit_N[n].item<double>();
      const double s = 1 / (1 + std::exp(-(std::log(u / (1 - u)) + m) * 1.5));
      EXPECT_NEAR(z_ZN[d][n].item<double>(), std::clamp(1.2 * s - 0.1, 0.0, 1.0), 1e-14);
    }
  }
}

TEST(HardConcrete, alive_probability_is_the_share_of_positive_gates) {
  for (const double m : {-3.0, -1.0, 0.0, 2.4}) {
    const auto z = hard_concrete_noisy(reals({m}), even_noise(100000));
    const auto share = (z > 0).to(at::kDouble).mean().item<double>();
    EXPECT_NEAR(alive_probability(reals({m})).item<double>(), share, 2e-5) << m;
  }
}

TEST(HardConcrete, noise_at_the_start_leaves_most_gates_at_one) {
  const auto z = hard_concrete_noisy(reals({kLogitStart}), even_noise(100000));
  EXPECT_NEAR((z == 1).to(at::kDouble).mean().item<double>(), 0.69, 0.005);
  EXPECT_NEAR(z.mean().item<double>(), 0.90, 0.005);
}

TEST(HardConcrete, gradient_to_the_logits_is_the_slope) {
  const auto logit_N = reals({0.3, -0.8, 1.1}).requires_grad_();
  const auto u_ZN = reals({0.5, 0.6, 0.3, 0.4, 0.7, 0.2}).view({2, 3});
  const auto dz = normal({2, 3}, 1);
  const auto f = [&] { return (hard_concrete_noisy(logit_N, u_ZN) * dz).sum().item<double>(); };
  const auto slope = tests::central_differences(f, logit_N);
  const auto grad = tests::gradients({hard_concrete_noisy(logit_N, u_ZN)}, {dz}, {logit_N})[0];
  EXPECT_LT(distance(grad, slope), 1e-8);
}

TEST(GateNoise, is_named_by_document_and_direction_whatever_their_order) {
  const NoiseKey key{1, 2, 3, base::key_word("q")};
  const auto u_ZN = gate_noise(key, {10, 20, 30}, {0, 1, 5, 7});
  EXPECT_EQ(u_ZN.sizes(), (std::vector<std::int64_t>{3, 4}));
  EXPECT_TRUE(at::equal(gate_noise(key, {30, 10}, {0, 1, 5, 7}),
                        u_ZN.index_select(0, torch::tensor({2, 0}))));
  EXPECT_TRUE(at::equal(gate_noise(key, {10, 20, 30}, {5, 1}),
                        u_ZN.index_select(1, torch::tensor({2, 1}))));
  EXPECT_EQ(gate_noise(key, {}, {0}).size(0), 0);
}

TEST(GateNoise, every_word_of_the_key_counts) {
  const NoiseKey key{1, 2, 3, 4};
  const auto u = [](const NoiseKey& other) { return gate_noise(other, {10}, {0}).item<double>(); };
  EXPECT_NE(u(key), u({9, 2, 3, 4}));
  EXPECT_NE(u(key), u({1, 9, 3, 4}));
  EXPECT_NE(u(key), u({1, 2, 9, 4}));
  EXPECT_NE(u(key), u({1, 2, 3, 9}));
}

TEST(GateNoise, is_uniform_and_finite_as_a_logit) {
  std::vector<std::int64_t> documents(500);
  for (std::size_t d = 0; d < documents.size(); ++d) documents[d] = static_cast<std::int64_t>(d);
  const auto u = gate_noise({1, 0, 0, 0}, documents, {0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_NEAR(u.mean().item<double>(), 0.5, 0.02);
  EXPECT_NEAR(u.var().item<double>(), 1.0 / 12, 0.005);
  EXPECT_TRUE(at::isfinite((u / (1 - u)).log()).all().item<bool>());
}

TEST(SpectralRank, of_known_matrices) {
  const auto eye = at::eye(4, at::kDouble);
  EXPECT_NEAR(spectral_rank(eye, eye, at::Tensor()), 4, 1e-12);
  const auto one = at::ones({3, 5}, at::kDouble);
  EXPECT_NEAR(spectral_rank(one, at::ones({3, 6}, at::kDouble), at::Tensor()), 1, 1e-6);
  // Singular values 2 and 1: p = 0.8 and 0.2.
  const auto two = reals({2, 0, 0, 1}).view({2, 2});
  const double expected = std::exp(-0.8 * std::log(0.8) - 0.2 * std::log(0.2));
  EXPECT_NEAR(spectral_rank(two, at::eye(2, at::kDouble), at::Tensor()), expected, 1e-12);
  EXPECT_NEAR(spectral_rank(at::eye(2, at::kDouble), at::eye(2, at::kDouble), reals({2, 1})),
              expected, 1e-12);
}

TEST(SpectralRank, equals_the_one_of_the_dense_product) {
  for (const std::int64_t rank : {2, 7}) {  // below and above the features
    const auto a_RD = normal({rank, 5}, 1);
    const auto b_RF = normal({rank, 6}, 2);
    const auto z_R = normal({rank}, 3).abs().add_(0.1);
    const auto energy =
        at::linalg_svdvals(at::matmul((b_RF * z_R.unsqueeze(1)).t(), a_RD)).square();
    const auto p = energy / energy.sum();
    EXPECT_NEAR(spectral_rank(a_RD, b_RF, z_R), std::exp(-at::xlogy(p, p).sum().item<double>()),
                1e-10);
  }
}

TEST(SpectralRank, nothing_has_rank_zero) {
  const auto a_RD = normal({3, 5}, 1);
  EXPECT_EQ(spectral_rank(a_RD, at::zeros({3, 6}, at::kDouble), at::Tensor()), 0);
  EXPECT_EQ(spectral_rank(a_RD, normal({3, 6}, 2), at::zeros({3}, at::kDouble)), 0);
  EXPECT_EQ(spectral_rank(a_RD.narrow(0, 0, 0), at::empty({0, 6}, at::kDouble), at::Tensor()), 0);
}

TEST(RankGates, every_kind_starts_where_it_should_and_is_itself_in_evaluation) {
  const auto m_N = reals({-3, 0.5, 2.4});
  const auto none = [] {
    ADD_FAILURE() << "no noise is needed";
    return at::Tensor();
  };
  EXPECT_EQ(tests::distance(settled_gates("proximal", m_N), m_N), 0);
  EXPECT_EQ(tests::distance(settled_gates("literal", m_N), at::sigmoid(m_N)), 0);
  EXPECT_EQ(tests::distance(settled_gates("hard_concrete", m_N), hard_concrete(m_N)), 0);
  for (const std::string kind : {"hard_concrete", "proximal"}) {
    const auto start_N = at::full({4}, gate_start(kind), at::kDouble);
    EXPECT_TRUE(at::equal(settled_gates(kind, start_N), at::ones({4}, at::kDouble))) << kind;
  }
  EXPECT_EQ(gate_start("literal"), 0);
  for (const std::string kind : {"proximal", "literal"}) {
    EXPECT_FALSE(is_per_document(kind, RankPhase::noisy));
    for (const auto phase : {RankPhase::held, RankPhase::noisy, RankPhase::settled}) {
      EXPECT_EQ(rank_gates(kind, m_N, phase, none).sizes(), (at::IntArrayRef{1, 3}));
    }
  }
  EXPECT_FALSE(rank_gates("hard_concrete", m_N, RankPhase::held, none).defined());
  const auto u_ZN = at::full({2, 3}, 0.3, at::kDouble);
  EXPECT_TRUE(is_per_document("hard_concrete", RankPhase::noisy));
  EXPECT_EQ(
      tests::distance(rank_gates("hard_concrete", m_N, RankPhase::noisy, [&] { return u_ZN; }),
                      hard_concrete_noisy(m_N, u_ZN)),
      0);
}

/// The operator of an L1 penalty: what is smaller than the threshold is 0, exactly and at once.
TEST(SoftThreshold, takes_the_threshold_from_every_gate) {
  const auto z_N = reals({1.0, -0.5, 0.2, -0.1, 0.0});
  soft_threshold(z_N, tests::reals({0.2})[0]);
  EXPECT_LT(tests::distance(z_N, reals({0.8, -0.3, 0, 0, 0})), 1e-16);
  EXPECT_EQ(z_N[2].item<double>(), 0);
}

}  // namespace
}  // namespace dfmoa::adapters
