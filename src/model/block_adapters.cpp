#include "src/model/block_adapters.h"

#include <algorithm>
#include <cmath>

#include "src/adapters/rank_gate.h"
#include "src/base/random.h"

namespace dfmoa::model {
namespace {

using adapters::ParameterGroup;
using adapters::ParameterSpec;

std::vector<gates::RouterTensor> tensors_of(const BlockAdapters& adapters,
                                            const BlockRouter& router, const BlockShape& shape) {
  const auto in_features =
      router.group < 0 ? shape.hidden
                       : adapters.groups[static_cast<std::size_t>(router.group)].in_features;
  return gates::router_tensors(router.config, router.experts, in_features);
}

std::string router_parameter(const BlockRouter& router, const std::string& tensor) {
  return "router/" + router.name + "/" + tensor;
}

/// Rows uniform in +-1/sqrt(columns), as torch starts a Linear.
void fill_uniform(const at::Tensor& leaf, std::uint64_t seed, std::int64_t layer,
                  const std::string& name) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(leaf.size(1)));
  auto values = at::empty(leaf.sizes(), at::kDouble);
  auto* out = values.data_ptr<double>();
  const base::KeyedRandom random(
      seed, {base::key_word("block"), static_cast<std::uint64_t>(layer), base::key_word(name)});
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    out[i] = bound * (2.0 * random.uniform(static_cast<std::uint64_t>(i)) - 1.0);
  }
  leaf.copy_(values);
}

}  // namespace

std::vector<ParameterSpec> side_specs(const SideAdapter& side, const BlockShape& shape) {
  if (side.kind == "prompt") {
    return {{side.parameter("tokens"), {side.width, shape.hidden}},
            {side.parameter("head_gate"), {shape.heads}}};
  }
  return {{side.parameter("down"), {side.width, shape.hidden}},
          {side.parameter("down_bias"), {side.width}},
          {side.parameter("up"), {shape.hidden, side.width}},
          {side.parameter("up_bias"), {shape.hidden}}};
}

bool BlockAdapters::empty() const {
  return sides.empty() && attention.empty() &&
         std::all_of(groups.begin(), groups.end(),
                     [](const auto& group) { return group.sites.empty(); });
}

std::vector<ParameterSpec> parameter_specs(const BlockAdapters& adapters, const BlockShape& shape) {
  const std::vector<adapters::GroupBank> groups(adapters.groups.begin(), adapters.groups.end());
  auto specs = adapters::adapter_specs(groups);
  for (const auto& side : adapters.sides) {
    for (auto& spec : side_specs(side, shape)) specs.push_back(std::move(spec));
  }
  if (adapters.attention.literal) {
    const auto inner = shape.heads * shape.head_dim;
    for (const char* name : {"q", "k", "v"}) {
      specs.push_back({std::string("dfa/") + name + "/weight", {inner, shape.hidden}});
    }
    specs.push_back({"dfa/o/weight", {shape.hidden, inner}});
    specs.push_back({"dfa/o/bias", {shape.hidden}});
  }
  for (const auto& router : adapters.routers) {
    for (auto& tensor : tensors_of(adapters, router, shape)) {
      specs.push_back(
          {router_parameter(router, tensor.name), std::move(tensor.shape), ParameterGroup::router});
    }
  }
  for (auto& spec : adapters::rank_gate_specs(groups)) specs.push_back(std::move(spec));
  if (adapters.attention.has_logits()) {
    for (const auto& mask : adapters.attention.masks) {
      specs.push_back({mask.parameter(), {mask.left()}, ParameterGroup::dimension_gate});
    }
  }
  return specs;
}

void initialise(const BlockAdapters& adapters, const BlockShape& shape,
                adapters::ParameterSet& parameters, std::uint64_t seed, std::int64_t layer) {
  const at::NoGradGuard no_grad;
  const std::vector<adapters::GroupBank> groups(adapters.groups.begin(), adapters.groups.end());
  adapters::initialise(groups, parameters, seed, layer, adapters::gate_start(adapters.rank_kind));
  for (const auto& spec : parameters.specs()) {
    const bool starts_random = spec.name.starts_with("parallel/") ? spec.name.ends_with("/down")
                               : spec.name.starts_with("prompt/") ? spec.name.ends_with("/tokens")
                               : spec.name.starts_with("dfa/")    ? spec.name.ends_with("/weight")
                                                                  : false;
    if (starts_random) fill_uniform(parameters.leaf(spec.name), seed, layer, spec.name);
    if (spec.group == ParameterGroup::dimension_gate) {
      parameters.leaf(spec.name).fill_(adapters::gate_start(adapters.attention.kind));
    }
  }
  for (const auto& router : adapters.routers) {
    gates::initialise(router.config, router_parameters(adapters, router, shape, parameters), seed,
                      layer, router.name);
  }
}

std::vector<std::span<const double>> statistics_by_router(const std::vector<BlockRouter>& routers,
                                                          std::span<const double> statistics_U) {
  std::vector<std::span<const double>> vectors;
  std::size_t begin = 0;
  for (const auto& router : routers) {
    const auto size = static_cast<std::size_t>(router.layout().size());
    vectors.push_back(statistics_U.subspan(begin, size));
    begin += size;
  }
  return vectors;
}

gates::RouterParameters router_parameters(const BlockAdapters& adapters, const BlockRouter& router,
                                          const BlockShape& shape,
                                          const adapters::ParameterSet& parameters) {
  gates::RouterParameters found;
  for (const auto& tensor : tensors_of(adapters, router, shape)) {
    found.*tensor.member = parameters.leaf(router_parameter(router, tensor.name));
  }
  return found;
}

}  // namespace dfmoa::model
