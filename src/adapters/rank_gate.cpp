#include "src/adapters/rank_gate.h"

#include "src/base/random.h"

namespace dfmoa::adapters {
namespace {

at::Tensor stretch(const at::Tensor& s) {
  return (s * (kStretchHigh - kStretchLow) + kStretchLow).clamp(0.0, 1.0);
}

}  // namespace

bool has_trained_gates(const std::string& kind) {
  return kind != "norm" && kind != "svd";
}

bool is_per_document(const std::string& kind, RankPhase phase) {
  return kind == "hard_concrete" && phase == RankPhase::noisy;
}

at::Tensor settled_gates(const std::string& kind, const at::Tensor& logit_N) {
  if (kind == "literal") return at::sigmoid(logit_N);
  return kind == "proximal" ? logit_N : hard_concrete(logit_N);
}

at::Tensor rank_gates(const std::string& kind, const at::Tensor& logit_N, RankPhase phase,
                      const std::function<at::Tensor()>& noise) {
  if (kind != "hard_concrete") return settled_gates(kind, logit_N).unsqueeze(0);
  if (phase == RankPhase::held) return {};
  if (phase == RankPhase::settled) return hard_concrete(logit_N).unsqueeze(0);
  return hard_concrete_noisy(logit_N, noise().to(logit_N.device()));
}

double gate_start(const std::string& kind) {
  if (kind == "literal") return 0.0;
  return kind == "proximal" ? 1.0 : kLogitStart;
}

void soft_threshold(const at::Tensor& z_N, const at::Tensor& threshold) {
  const at::NoGradGuard no_grad;
  z_N.copy_(z_N.sign() * (z_N.abs() - threshold).clamp_min(0.0));
}

at::Tensor hard_concrete(const at::Tensor& logit_N) {
  return stretch(at::sigmoid(logit_N));
}

at::Tensor hard_concrete_noisy(const at::Tensor& logit_N, const at::Tensor& u_ZN) {
  const auto noise_ZN = (u_ZN.log() - (1.0 - u_ZN).log()).to(logit_N.scalar_type());
  return stretch(at::sigmoid((noise_ZN + logit_N) / kConcreteBeta));
}

at::Tensor alive_probability(const at::Tensor& logit_N) {
  return at::sigmoid(logit_N - kConcreteBeta * std::log(-kStretchLow / kStretchHigh));
}

at::Tensor gate_noise(const NoiseKey& key, const std::vector<std::int64_t>& documents,
                      const std::vector<std::int64_t>& direction_ids) {
  const auto rows = static_cast<std::int64_t>(documents.size());
  const auto columns = static_cast<std::int64_t>(direction_ids.size());
  auto u_ZN = at::empty({rows, columns}, at::kDouble);
  auto* out = u_ZN.data_ptr<double>();
  for (const auto document : documents) {
    const base::KeyedRandom random(key.seed, {base::key_word("rank_noise"), key.step, key.layer,
                                              key.site, static_cast<std::uint64_t>(document)});
    for (const auto id : direction_ids) *out++ = random.uniform(static_cast<std::uint64_t>(id));
  }
  return u_ZN;
}

double spectral_rank(const at::Tensor& a_RD, const at::Tensor& b_RF, const at::Tensor& z_R) {
  if (a_RD.size(0) == 0) return 0;
  const at::NoGradGuard no_grad;
  const auto a = a_RD.to(at::kDouble);
  const auto b = b_RF.to(at::kDouble) *
                 (z_R.defined() ? z_R.to(at::kDouble).unsqueeze(1) : at::ones({1, 1}, at::kDouble));
  // b^T a = Qb Rb (Qa Ra)^T: its singular values are those of Rb Ra^T, an R x R problem.
  const auto ra = std::get<1>(at::linalg_qr(a.t(), "r"));
  const auto rb = std::get<1>(at::linalg_qr(b.t(), "r"));
  const auto energy = at::linalg_svdvals(at::mm(rb, ra.t())).square();
  const double total = energy.sum().item<double>();
  if (total <= 0) return 0;
  const auto p = energy / total;
  return std::exp(-at::xlogy(p, p).sum().item<double>());
}

}  // namespace dfmoa::adapters
