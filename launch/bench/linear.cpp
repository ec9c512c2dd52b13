// G2 to G5, G11, G14: one adapted linear, forward and backward, and the vocabulary head.
#include <torch/torch.h>

#include <cmath>

#include "kernels/nf4.h"
#include "launch/bench/bench.h"
#include "src/adapters/mixture_linear.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/ops/linear_cross_entropy.h"

namespace dfmoa::launch::bench {
namespace {

constexpr std::int64_t kTokens = 1024;
constexpr std::int64_t kExperts = 8;
constexpr std::int64_t kRank = 8;

/// A (D, D) linear with experts of equal rank: output and every gradient of one call.
class AdaptedLinear {
 public:
  AdaptedLinear(std::int64_t width, std::int64_t experts, std::int64_t rank, bool nf4)
      : x_TD_(torch::randn({kTokens, width}).requires_grad_()),
        dy_TF_(torch::randn({kTokens, width})) {
    const auto directions = experts * rank;
    site_.base = base_of(torch::randn({width, width}) * 0.02, nf4);
    if (directions == 0) return;
    group_.a_ND = (torch::randn({directions, width}) * 0.02).requires_grad_();
    site_.b_NF = (torch::randn({directions, width}) * 0.02).requires_grad_();
    site_.scale = 2.0;
    group_.column_N = torch::arange(directions, torch::kInt).floor_divide(rank).to(torch::kInt);
    group_.row_begin = torch::tensor({std::int64_t{0}, kTokens}, torch::kInt);
  }

  void gate(at::Tensor gate_TE) { group_.gate_TG = gate_TE.requires_grad_(); }

  void forward_backward() const {
    const auto y = adapters::mixture_linear(x_TD_, group_, {site_});
    std::vector<at::Tensor> leaves{x_TD_};
    for (const auto& tensor : {group_.a_ND, site_.b_NF, group_.gate_TG}) {
      if (tensor.defined()) leaves.push_back(tensor);
    }
    (void)torch::autograd::grad({y[0]}, leaves, {dy_TF_});
  }

 private:
  static std::shared_ptr<const adapters::BaseLinear> base_of(const at::Tensor& weight_FD,
                                                             bool nf4) {
    if (!nf4) return adapters::dense_linear(weight_FD, {});
    const auto count = weight_FD.numel();
    auto codes = torch::empty({count / 2}, torch::kByte);
    auto absmax = torch::empty({count / 64}, torch::kFloat);
    const bool finite = kernels::nf4_quantize(
        weight_FD.const_data_ptr<float>(), count, 64, codes.mutable_data_ptr<std::uint8_t>(),
        absmax.mutable_data_ptr<float>(), kernels::cpu_level());
    if (!finite) throw base::MachineError("bench: a random weight is not finite");
    return adapters::nf4_linear(codes, absmax, 64, weight_FD.size(0), weight_FD.size(1), {});
  }

  at::Tensor x_TD_;
  at::Tensor dy_TF_;
  adapters::MixtureGroup group_;
  adapters::MixtureSite site_;
};

at::Tensor dense_gates() {
  return torch::softmax(torch::randn({kTokens, kExperts}), 1);
}

/// Two experts a token, their weights summing to one.
at::Tensor top2_gates() {
  const auto [values, index] = dense_gates().topk(2, 1);
  return torch::zeros({kTokens, kExperts}).scatter_(1, index, values / values.sum(1, true));
}

Measured run(const AdaptedLinear& linear, const BenchOptions& options) {
  return measure(options.repeat, [&] { linear.forward_backward(); });
}

std::vector<Bar> mixture(std::int64_t width, const BenchOptions& options) {
  AdaptedLinear dense(width, kExperts, kRank, false);
  dense.gate(dense_gates());
  AdaptedLinear sparse(width, kExperts, kRank, false);
  sparse.gate(top2_gates());
  const AdaptedLinear single(width, 1, kExperts * kRank, false);
  const AdaptedLinear frozen(width, 0, 0, false);
  const auto name = base::text(".d", width);
  auto dense_bar = timed("G2" + name, "mixture E8 R8, dense gates, T 1024, forward and backward",
                         run(dense, options));
  auto sparse_bar = timed("G3" + name, "the same with top-2 gates", run(sparse, options));
  const auto single_run = run(single, options);
  const auto frozen_run = run(frozen, options);
  Bar over_single{"G4" + name, "mixture over one LoRA of the same total rank",
                  dense_bar.value / single_run.median(), "ratio", single_run.seconds};
  over_single.bar = 1.15;
  over_single.stretch = 1.07;
  // A frozen linear is two products (y, dx); low rank adds six thin ones: 1 + 1.5 N (1/D + 1/F).
  const auto products = 1 + 1.5 * kExperts * kRank * 2.0 / static_cast<double>(width);
  Bar over_frozen{"G5" + name, "mixture over the frozen linear",
                  dense_bar.value / frozen_run.median(), "ratio", frozen_run.seconds};
  over_frozen.bar = products * (width > 768 ? 1.05 : 1.15);
  over_frozen.stretch = products * (width > 768 ? 1.02 : 1.08);
  return {dense_bar, sparse_bar, over_single, over_frozen};
}

std::vector<Bar> qlora_linear(const BenchOptions& options, const Limits& /*limits*/) {
  const AdaptedLinear linear(2048, 1, 16, true);
  return {
      timed("G11", "NF4 linear with one LoRA of rank 16, d 2048, T 1024", run(linear, options))};
}

std::vector<Bar> head(std::int64_t vocabulary, std::int64_t width, const BenchOptions& options) {
  constexpr std::int64_t kHeadTokens = 2048;
  const auto x_XD = torch::randn({kHeadTokens, width});
  const auto weight_VD = torch::randn({vocabulary, width}) * 0.02;
  const auto target_X = torch::randint(vocabulary, {kHeadTokens}, torch::kLong);
  const auto measured = measure(options.repeat, [&] {
    (void)ops::linear_cross_entropy(x_XD, weight_VD, target_X, 1.0 / kHeadTokens,
                                    /*want_gradient=*/true);
  });
  return {timed(base::text("G14.v", vocabulary), "vocabulary head and loss with gradient, T 2048",
                measured)};
}

}  // namespace

std::vector<Measurement> linear_measurements() {
  std::vector<Measurement> all;
  for (const std::int64_t width : {576, 768, 2048}) {
    all.push_back({base::text("G2.d", width), base::text("adapted linear, G2 to G5, d ", width),
                   [width](const auto& options, const auto&) { return mixture(width, options); },
                   ""});
  }
  all.push_back({"G11", "QLoRA linear", qlora_linear, ""});
  all.push_back({"G14.v49152", "vocabulary head of SmolLM2 (d 576)",
                 [](const auto& options, const auto&) { return head(49152, 576, options); }, ""});
  all.push_back({"G14.v50257", "vocabulary head of GPT-2 (d 768)",
                 [](const auto& options, const auto&) { return head(50257, 768, options); }, ""});
  return all;
}

}  // namespace dfmoa::launch::bench
