#include "src/train/singular_directions.h"

namespace dfmoa::train {
namespace {

/// Of the largest singular value: below it is what rounding has left of nothing.
constexpr double kNoise = 1e-6;

/// a' = of_a a, b' = of_b b; their gradients turn by the other one, since of_b^T of_a = 1.
struct Turn {
  at::Tensor of_a_RR, of_b_RR;
};

/// With a^T = Qa Ra, b^T = Qb Rb and Rb Ra^T = U S V^T: a' = S^1/2 V^T Qa^T = S^-1/2 U^T Rb a.
/// Undefined tensors where the update is 0.
Turn turn_of(const at::Tensor& a_RD, const at::Tensor& b_RF) {
  const auto rank = a_RD.size(0);
  const auto ra = std::get<1>(at::linalg_qr(a_RD.t(), "r"));
  const auto rb = std::get<1>(at::linalg_qr(b_RF.t(), "r"));
  const auto [u, s, vt] = at::linalg_svd(at::mm(rb, ra.t()), /*full_matrices=*/false);
  const auto largest = s[0].item<double>();
  if (!(largest > 0)) return {};
  const auto kept = s > kNoise * largest;
  const auto inverse_root = at::where(kept, s.rsqrt(), at::zeros_like(s)).unsqueeze(1);
  Turn turn{at::zeros({rank, rank}, s.options()), at::zeros({rank, rank}, s.options())};
  turn.of_a_RR.narrow(0, 0, s.size(0)).copy_(inverse_root * at::mm(u.t(), rb));
  turn.of_b_RR.narrow(0, 0, s.size(0)).copy_(inverse_root * at::mm(vt, ra));
  return turn;
}

/// Rows [first, first + count) of a leaf and of its moments.
class Rows {
 public:
  Rows(adapters::ParameterSet& parameters, const std::string& name, std::int64_t first,
       std::int64_t count) {
    const auto index = parameters.index_of(name);
    value_ = parameters.leaf(name).narrow(0, first, count);
    moment1_ = parameters.moment1(index).narrow(0, first, count);
    moment2_ = parameters.moment2(index).narrow(0, first, count);
  }
  [[nodiscard]] at::Tensor on_host() const { return value_.to(at::kCPU, at::kDouble); }
  void turn(const at::Tensor& of_value_RR, const at::Tensor& of_gradient_RR) {
    multiply(of_value_RR, value_);
    multiply(of_gradient_RR, moment1_);
    multiply(of_gradient_RR.square(), moment2_);
  }

 private:
  static void multiply(const at::Tensor& by_RR, const at::Tensor& rows) {
    rows.copy_(at::mm(by_RR, rows.to(at::kCPU, at::kDouble)));
  }
  at::Tensor value_, moment1_, moment2_;
};

void turn_site(adapters::ParameterSet& parameters, const std::string& group,
               const adapters::SiteBank& site) {
  for (std::int64_t e = 0; e < site.experts(); ++e) {
    const auto rank = site.rank_E[static_cast<std::size_t>(e)];
    if (rank == 0) continue;
    Rows a(parameters, group + "/A", site.a_begin_of(e), rank);
    Rows b(parameters, group + "/" + site.site + "/b", site.begin_of(e), rank);
    const auto turn = turn_of(a.on_host(), b.on_host());
    if (!turn.of_a_RR.defined()) continue;
    a.turn(turn.of_a_RR, turn.of_b_RR);
    b.turn(turn.of_b_RR, turn.of_a_RR);
  }
}

}  // namespace

void to_singular_directions(model::Transformer& model) {
  const at::NoGradGuard no_grad;
  for (auto& block : model.blocks()) {
    for (const auto& group : block.adapters().groups) {
      for (const auto& site : group.sites) {
        if (!site.rank_gate.empty()) turn_site(block.parameters(), group.name, site);
      }
    }
  }
}

}  // namespace dfmoa::train
