#include "src/model/gate_means.h"

namespace dfmoa::model {

void GateMeans::gates(std::int64_t layer, const std::string& router, const at::Tensor& w_TE,
                      const gates::Documents&) {
  auto& sum = sums_[{layer, router}];
  const auto gate_E = w_TE.sum(0, /*keepdim=*/false, at::kDouble);
  sum.gate_E = sum.gate_E.defined() ? sum.gate_E + gate_E : gate_E;
  sum.tokens += w_TE.size(0);
}

std::map<gates::RouterKey, at::Tensor> GateMeans::mean_E() const {
  std::map<gates::RouterKey, at::Tensor> means;
  for (const auto& [key, sum] : sums_) {
    if (sum.tokens > 0) means[key] = sum.gate_E / static_cast<double>(sum.tokens);
  }
  return means;
}

void override_gates(Transformer& model, gates::Override gates,
                    const std::function<void(GateSink&)>& first_pass) {
  if (gates.kind == gates::Override::Kind::mean) {
    model.override_gates({});
    GateMeans means;
    first_pass(means);
    gates.mean_E = means.mean_E();
  }
  model.override_gates(std::move(gates));
}

}  // namespace dfmoa::model
