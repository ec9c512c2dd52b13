#include "src/gates/router.h"

#include <cmath>

#include "src/base/error.h"
#include "src/base/random.h"
#include "src/base/text.h"

namespace dfmoa::gates {
namespace {

/// Row r of a start that depends on nothing but its key.
template <class Draw>
at::Tensor keyed_rows(at::IntArrayRef shape, std::uint64_t seed, std::uint64_t layer,
                      std::uint64_t part, std::uint64_t name, Draw&& draw) {
  auto rows = at::empty(shape, at::kDouble);
  auto* out = rows.data_ptr<double>();
  for (std::int64_t r = 0; r < shape[0]; ++r) {
    const base::KeyedRandom random(seed, {part, layer, name, static_cast<std::uint64_t>(r)});
    for (std::int64_t d = 0; d < shape[1]; ++d)
      *out++ = draw(random, static_cast<std::uint64_t>(d));
  }
  return rows;
}

at::Tensor uniform_rows(const at::Tensor& like, std::uint64_t seed, std::uint64_t layer,
                        std::uint64_t part, std::uint64_t name) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(like.size(1)));
  return keyed_rows(like.sizes(), seed, layer, part, name,
                    [bound](const base::KeyedRandom& random, std::uint64_t d) {
                      return bound * (2.0 * random.uniform(d) - 1.0);
                    });
}

at::Tensor logits(const RouterConfig& config, const at::Tensor& input_UD,
                  const RouterParameters& parameters) {
  if (config.network == "linear") return at::mm(input_UD, parameters.weight_EJ.t());
  const auto hidden_UJ = at::silu(at::mm(input_UD, parameters.hidden_gate_JD.t())) *
                         at::mm(input_UD, parameters.hidden_up_JD.t());
  return at::mm(hidden_UJ, parameters.weight_EJ.t());
}

void check_shapes(const RouterConfig& config, const at::Tensor& x_TD,
                  const RouterParameters& parameters, const Documents& documents) {
  const auto& first = config.network == "linear" ? parameters.weight_EJ : parameters.hidden_gate_JD;
  if (x_TD.dim() == 2 && first.defined() && first.dim() == 2 && x_TD.size(1) == first.size(1) &&
      x_TD.size(0) == documents.tokens()) {
    return;
  }
  throw base::ShapeError(base::text("router: x is ", x_TD.sizes(), ", its weight ",
                                    first.defined() ? base::text(first.sizes()) : "(none)",
                                    ", tokens ", documents.tokens(),
                                    ": expected (T, D) and (E, D)"));
}

}  // namespace

std::vector<RouterTensor> router_tensors(const RouterConfig& config, std::int64_t experts,
                                         std::int64_t in_features) {
  using P = RouterParameters;
  const bool is_linear = config.network == "linear";
  const auto hidden = 4 * experts;
  std::vector<RouterTensor> tensors;
  tensors.push_back({"weight", {experts, is_linear ? in_features : hidden}, &P::weight_EJ});
  if (!is_linear) {
    tensors.push_back({"hidden_gate", {hidden, in_features}, &P::hidden_gate_JD});
    tensors.push_back({"hidden_up", {hidden, in_features}, &P::hidden_up_JD});
  }
  if (config.has_threshold()) {
    tensors.push_back({"threshold", {1, in_features}, &P::threshold_1D});
    tensors.push_back({"threshold_bias", {1}, &P::threshold_1});
  }
  return tensors;
}

void initialise(const RouterConfig& config, const RouterParameters& parameters, std::uint64_t seed,
                std::int64_t layer, const std::string& name) {
  const at::NoGradGuard no_grad;
  const auto number = static_cast<std::uint64_t>(layer);
  const auto key = base::key_word(name);
  const auto part = base::key_word("router");
  const auto& weight_EJ = parameters.weight_EJ;
  if (config.start() == "normal") {
    weight_EJ.copy_(keyed_rows(weight_EJ.sizes(), seed, number, part, key,
                               [&](const base::KeyedRandom& random, std::uint64_t d) {
                                 return config.init_scale * random.normal(d);
                               }));
  } else if (config.start() == "uniform") {
    weight_EJ.copy_(uniform_rows(weight_EJ, seed, number, part, key));
  }
  if (!parameters.hidden_gate_JD.defined()) return;
  parameters.hidden_gate_JD.copy_(uniform_rows(parameters.hidden_gate_JD, seed, number,
                                               base::key_word("router_hidden_gate"), key));
  parameters.hidden_up_JD.copy_(
      uniform_rows(parameters.hidden_up_JD, seed, number, base::key_word("router_hidden_up"), key));
}

Gates route(const RouterConfig& config, const at::Tensor& x_TD, const RouterParameters& parameters,
            const Documents& documents, RunningSum* carried) {
  check_shapes(config, x_TD, parameters, documents);
  const bool per_document = config.is_per_document();
  auto input_UD = x_TD;
  if (per_document) input_UD = at::mm(documents.pool_DT.at(config.scope), x_TD);
  if (config.scope == "running_mean") input_UD = running_mean(x_TD, documents, carried);
  at::Tensor threshold_U1;
  if (config.has_threshold()) {
    threshold_U1 = at::addmm(parameters.threshold_1, input_UD, parameters.threshold_1D.t());
  }
  const auto selection =
      select(config, logits(config, input_UD, parameters).div(config.temperature), threshold_U1);
  return {per_document ? selection.w_UE.index_select(0, documents.row_T) : selection.w_UE,
          selection.w_UE, statistics_of(config, selection)};
}

}  // namespace dfmoa::gates
