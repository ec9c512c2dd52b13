// The loop twin of mixture_linear: one expert after the other, everything under autograd.
#include "src/adapters/mixture_linear.h"

namespace dfmoa::adapters {
namespace {

/// The frozen linear as a matrix product with its dense weight, so that autograd sees it.
at::Tensor frozen(const MixtureSite& site, const at::Tensor& x_TD) {
  if (site.base == nullptr) return at::zeros({x_TD.size(0), site.b_NF.size(1)}, x_TD.options());
  const auto identity = at::eye(site.base->in_features(), x_TD.options());
  const auto bias_1F = site.base->forward(at::zeros({1, site.base->in_features()}, x_TD.options()));
  const auto weight_DF = site.base->forward(identity) - bias_1F;
  return at::matmul(x_TD, weight_DF) + bias_1F;
}

}  // namespace

std::vector<at::Tensor> mixture_linear_loop(const at::Tensor& x_TD, const MixtureGroup& group,
                                            const std::vector<MixtureSite>& sites) {
  std::vector<at::Tensor> outputs;
  for (const auto& site : sites) {
    auto y_TF = frozen(site, x_TD);
    for (std::int64_t n = 0; n < site.directions(); ++n) {  // rank-one experts' directions
      const auto direction = site.first + n;
      auto c_T = at::full({x_TD.size(0)}, site.scale, x_TD.options());
      if (group.gate_TG.defined()) {
        c_T = c_T * group.gate_TG.select(1, group.column_N[direction].item<std::int64_t>());
      }
      if (group.z_ZN.defined()) {
        const auto z_Z = group.z_ZN.select(1, direction);
        c_T = c_T * (group.row_T.defined() ? z_Z.index_select(0, group.row_T) : z_Z);
      }
      const auto h_T = at::matmul(x_TD, group.a_ND[site.a_first() + n % site.a_rows()]);
      y_TF = y_TF + at::outer(h_T * c_T, site.b_NF[n]);
    }
    outputs.push_back(y_TF);
  }
  return outputs;
}

}  // namespace dfmoa::adapters
