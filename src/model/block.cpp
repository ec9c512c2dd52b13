#include "src/model/block.h"

#include "src/adapters/rank_gate.h"
#include "src/base/random.h"
#include "src/model/families.h"
#include "src/ops/attention.h"
#include "src/ops/norm.h"
#include "src/ops/swiglu.h"

namespace dfmoa::model {
namespace {

/// Sites of every group, as positions in kSites.
const std::array<std::vector<std::size_t>, 4> kGroupSites{{{0, 1, 2}, {3}, {4, 5}, {6}}};

/// The banks' column numbers, made on the host, go where the gates are.
void place_columns(BlockAdapters& adapters, at::Device device) {
  for (auto& group : adapters.groups) {
    if (group.column_N.defined()) group.column_N = group.column_N.to(device);
  }
}

}  // namespace

bool BlockAdapters::empty() const {
  return std::all_of(groups.begin(), groups.end(),
                     [](const auto& group) { return group.sites.empty(); });
}

struct Block::Gating {
  std::vector<at::Tensor> w;           // one (T, E) per router, undefined until computed
  std::vector<at::Tensor> statistics;  // one per router
};

Block::Block(std::int64_t layer, const Architecture& architecture, const LayerWeights& weights)
    : layer_(layer), architecture_(architecture), weights_(weights) {}

void Block::adapt(BlockAdapters adapters, std::uint64_t seed, at::TensorOptions options) {
  adapters_ = std::move(adapters);
  place_columns(adapters_, options.device());
  const std::vector<adapters::GroupBank> groups(adapters_.groups.begin(), adapters_.groups.end());
  auto specs = adapters::adapter_specs(groups);
  for (const auto& router : adapters_.routers) {
    const auto in_features =
        router.group < 0 ? architecture_.hidden
                         : adapters_.groups[static_cast<std::size_t>(router.group)].in_features;
    specs.push_back(
        {"router/" + router.name, {router.experts, in_features}, adapters::ParameterGroup::router});
  }
  for (auto& spec : adapters::rank_gate_specs(groups)) specs.push_back(std::move(spec));
  parameters_ = adapters::ParameterSet(std::move(specs), options);
  adapters::initialise(groups, parameters_, seed, layer_,
                       adapters_.rank_kind == "literal" ? 0.0 : adapters::kLogitStart);
  const at::NoGradGuard no_grad;
  for (const auto& router : adapters_.routers) {
    if (!router.config.starts_random()) continue;
    auto weight_ED =
        at::empty({router.experts, parameters_.leaf("router/" + router.name).size(1)}, at::kDouble);
    auto* out = weight_ED.data_ptr<double>();
    for (std::int64_t e = 0; e < router.experts; ++e) {
      const base::KeyedRandom random(seed,
                                     {base::key_word("router"), static_cast<std::uint64_t>(layer_),
                                      base::key_word(router.name), static_cast<std::uint64_t>(e)});
      for (std::int64_t d = 0; d < weight_ED.size(1); ++d) {
        *out++ = router.config.init_scale * random.normal(static_cast<std::uint64_t>(d));
      }
    }
    parameters_.leaf("router/" + router.name).copy_(weight_ED);
  }
}

void Block::replace(BlockAdapters adapters, adapters::ParameterSet parameters) {
  adapters_ = std::move(adapters);
  parameters_ = std::move(parameters);
  if (!parameters_.empty()) place_columns(adapters_, parameters_.flat_gradient().device());
}

std::int64_t Block::statistics_size() const {
  std::int64_t size = 0;
  for (const auto& router : adapters_.routers) {
    size += gates::StatisticsLayout{router.experts}.size();
  }
  return size;
}

void Block::run_router(std::size_t index, const at::Tensor& x_TD, Gating& gating,
                       const Pass& pass) const {
  const auto& router = adapters_.routers[index];
  const auto& documents = pass.rows.documents;
  const auto key = std::pair(layer_, router.name);
  // While decoding, a gate that reads the prompt is computed once and kept.
  const bool kept = pass.cache != nullptr && router.config.scope == "span";
  if (kept && pass.cache->gate_DE.contains(key)) {
    gating.w[index] = pass.cache->gate_DE.at(key).index_select(0, documents.row_T);
  } else {
    auto gates =
        gates::route(router.config, x_TD, parameters_.leaf("router/" + router.name), documents);
    if (kept) pass.cache->gate_DE.emplace(key, gates.w_UE);
    gating.w[index] = gates.w_TE;
    gating.statistics[index] = gates.statistics_U;
  }
  if (pass.gates != nullptr) {
    gating.w[index] = pass.gates->apply(key, router.config, gating.w[index]);
    gating.statistics[index] = gates::statistics_of({gating.w[index], gating.w[index]});
  }
  if (pass.sink != nullptr) {
    pass.sink->gates(layer_, router.name, gating.w[index].detach(), documents);
  }
}

at::Tensor Block::rank_gates(const adapters::GroupBank& group, const Pass& pass) const {
  if (!group.rank_gated) return {};
  const auto& logit_N = parameters_.leaf(group.name + "/logit");
  if (adapters_.rank_kind == "literal") return at::sigmoid(logit_N).unsqueeze(0);
  if (pass.key.phase == RankPhase::held) return {};
  if (pass.key.phase == RankPhase::settled) {
    return adapters::hard_concrete(logit_N).unsqueeze(0);
  }
  std::vector<at::Tensor> noise;
  for (const auto& site : group.sites) {
    noise.push_back(
        adapters::gate_noise({pass.key.seed, static_cast<std::uint64_t>(pass.key.step),
                              static_cast<std::uint64_t>(layer_), base::key_word(site.site)},
                             pass.rows.documents.id, site.direction_id_N));
  }
  return adapters::hard_concrete_noisy(logit_N, at::cat(noise, 1).to(logit_N.device()));
}

std::vector<at::Tensor> Block::group_linear(int group, const at::Tensor& x_TD, Gating& gating,
                                            const Pass& pass) const {
  const auto& bank = adapters_.groups[static_cast<std::size_t>(group)];
  adapters::MixtureGroup operand;
  if (!bank.sites.empty()) {
    std::vector<at::Tensor> columns;
    for (std::size_t r = 0; r < adapters_.routers.size(); ++r) {
      const auto reads = adapters_.routers[r].group;
      if (reads == group) run_router(r, x_TD, gating, pass);
      if (reads == group || reads < 0) columns.push_back(gating.w[r]);
    }
    if (adapters_.has_ungated && !columns.empty()) {
      columns.push_back(at::ones({x_TD.size(0), 1}, x_TD.options()));
    }
    operand.a_ND = parameters_.leaf(bank.name + "/A");
    if (!columns.empty()) operand.gate_TG = columns.size() == 1 ? columns[0] : at::cat(columns, 1);
    operand.z_ZN = rank_gates(bank, pass);
    operand.column_N = bank.column_N;
    const bool per_document = operand.z_ZN.defined() && pass.key.phase == RankPhase::noisy &&
                              adapters_.rank_kind != "literal";
    if (per_document) operand.row_T = pass.rows.documents.row_T;
    operand.row_begin =
        per_document ? pass.rows.documents.begin_tensor : pass.rows.documents.whole_tensor;
  }
  std::vector<adapters::MixtureSite> sites;
  for (const auto position : kGroupSites[static_cast<std::size_t>(group)]) {
    adapters::MixtureSite site{weights_.linears[position], {}, 0, 1.0};
    for (const auto& adapted : bank.sites) {
      if (adapted.site != kSites[position]) continue;
      site.b_NF = parameters_.leaf(bank.name + "/" + adapted.site + "/b");
      site.first = adapted.first;
      site.scale = adapted.scale;
    }
    sites.push_back(std::move(site));
  }
  return adapters::mixture_linear(x_TD, operand, sites);
}

at::Tensor Block::attention(const std::vector<at::Tensor>& qkv, const Pass& pass) const {
  const auto& a = architecture_;
  const auto q_THC = ops::rotate(qkv[0].view({-1, a.heads, a.head_dim}), pass.rows.rotary);
  const auto k_TKC = ops::rotate(qkv[1].view({-1, a.kv_heads, a.head_dim}), pass.rows.rotary);
  const auto v_TKC = qkv[2].view({-1, a.kv_heads, a.head_dim});
  const auto& begin = pass.rows.documents.begin;
  if (pass.cache == nullptr) return ops::packed_attention(q_THC, k_TKC, v_TKC, begin);
  return cached_attention(q_THC, k_TKC, v_TKC, begin,
                          pass.cache->layers[static_cast<std::size_t>(layer_)]);
}

BlockOutput Block::forward(const at::Tensor& x_TD, const Pass& pass) const {
  Gating gating{std::vector<at::Tensor>(adapters_.routers.size()),
                std::vector<at::Tensor>(adapters_.routers.size())};
  const auto eps = architecture_.norm_eps;
  const auto normed_TD = ops::rms_norm(x_TD, weights_.attention_norm_D, eps);
  for (std::size_t r = 0; r < adapters_.routers.size(); ++r) {
    if (adapters_.routers[r].group < 0) run_router(r, normed_TD, gating, pass);
  }
  const auto attended_TD =
      group_linear(1, attention(group_linear(0, normed_TD, gating, pass), pass), gating, pass)[0];
  const auto middle_TD = x_TD + attended_TD;
  const auto mlp_in_TD = ops::rms_norm(middle_TD, weights_.mlp_norm_D, eps);
  const auto gate_up = group_linear(2, mlp_in_TD, gating, pass);
  const auto mlp_TD = group_linear(3, ops::swiglu(gate_up[0], gate_up[1]), gating, pass)[0];
  const bool counted = !gating.statistics.empty() && gating.statistics[0].defined();
  return {middle_TD + mlp_TD,
          counted ? at::cat(gating.statistics) : at::zeros({0}, x_TD.options().dtype(at::kDouble))};
}

}  // namespace dfmoa::model
