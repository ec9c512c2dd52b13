#include "src/model/block.h"

#include "src/base/random.h"
#include "src/base/text.h"
#include "src/model/block_gating.h"
#include "src/model/families.h"
#include "src/model/family_ops.h"

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

Block::Block(std::int64_t layer, const Architecture& architecture, const LayerWeights& weights)
    : layer_(layer), architecture_(architecture), weights_(weights) {}

BlockShape Block::shape() const {
  return {architecture_.hidden, architecture_.heads, architecture_.kv_heads,
          architecture_.head_dim};
}

void Block::adapt(BlockAdapters whole, BlockAdapters held, std::uint64_t seed,
                  at::TensorOptions options) {
  adapters::ParameterSet parameters(parameter_specs(held, shape()), options);
  initialise(held, shape(), parameters, seed, layer_);
  replace(std::move(whole), {std::move(held), std::move(parameters)});
}

void Block::replace(BlockAdapters whole, TrainedPart held) {
  whole_ = std::move(whole);
  held_ = std::move(held);
  if (!held_.parameters.empty()) {
    const auto device = held_.parameters.flat_gradient().device();
    place_columns(whole_, device);
    place_columns(held_.adapters, device);
  }
  index_dimensions();
}

void Block::index_dimensions() {
  for (auto* banks : {&whole_, &held_.adapters}) {
    for (auto& mask : banks->attention.masks) mask.index(weights_.attention_norm_D.device());
  }
}

std::int64_t Block::statistics_size() const {
  std::int64_t size = 0;
  for (const auto& router : whole_.routers) {
    size += router.layout().size();
  }
  return size;
}

void Block::run_router(std::size_t index, const at::Tensor& input_TD, Gating& gating,
                       const Pass& pass) const {
  const auto& [adapters, parameters] = part(pass);
  const auto& router = adapters.routers[index];
  const auto& documents = pass.rows.read_by_routers();
  const auto x_TD = pass.rows.copies ? input_TD.narrow(0, 0, documents.tokens()) : input_TD;
  const auto key = std::pair(layer_, router.name);
  // While decoding, a gate that reads the prompt is computed once and kept.
  const bool kept = pass.cache != nullptr && router.config.is_per_document();
  if (kept && pass.cache->gate_DE.contains(key)) {
    gating.w[index] = pass.cache->gate_DE.at(key).index_select(0, documents.row_T);
  } else {
    auto* carried = pass.cache != nullptr ? &pass.cache->running[key] : nullptr;
    auto gates =
        gates::route(router.config, x_TD, router_parameters(adapters, router, shape(), parameters),
                     documents, carried);
    if (kept) pass.cache->gate_DE.emplace(key, gates.w_UE);
    gating.w[index] = gates.w_TE;
    gating.statistics[index] = gates.statistics_U;
  }
  if (pass.gates != nullptr && !router.of_heads) {
    auto& w_TE = gating.w[index];
    w_TE = pass.gates->apply(key, router.config, w_TE);
    const auto tau_T1 =
        router.config.has_threshold() ? at::zeros({w_TE.size(0), 1}, w_TE.options()) : at::Tensor();
    gating.statistics[index] = gates::statistics_of(router.config, {w_TE, w_TE, tau_T1});
  }
  if (pass.sink != nullptr) {
    pass.sink->gates(layer_, router.name, gating.w[index].detach(), documents);
  }
}

bool Block::gates_documents(const adapters::GroupBank& bank, const Pass& pass) const {
  return bank.rank_gated && adapters::is_per_document(whole_.rank_kind, pass.key.phase);
}

at::Tensor Block::group_gates(int group, const at::Tensor& x_TD, Gating& gating,
                              const Pass& pass) const {
  std::vector<at::Tensor> columns;
  if (whole_.copies > 0) columns.push_back(pass.rows.copies.value().gate_TE);
  for (std::size_t r = 0; r < whole_.routers.size(); ++r) {
    const auto& router = whole_.routers[r];
    const auto reads = router.group;
    if (reads == group) run_router(r, x_TD, gating, pass);
    const bool serves =
        (reads == group || reads < 0) && !router.of_heads && !router.config.mixes_logits();
    if (serves) columns.push_back(gating.w[r]);
  }
  if (whole_.has_ungated && !columns.empty()) {
    columns.push_back(at::ones({x_TD.size(0), 1}, x_TD.options()));
  }
  if (columns.empty()) return {};
  return columns.size() == 1 ? columns[0] : at::cat(columns, 1);
}

adapters::MixtureGroup Block::group_operand(const adapters::GroupBank& bank,
                                            const std::vector<std::int64_t>& documents,
                                            const Pass& pass) const {
  const auto& parameters = part(pass).parameters;
  adapters::MixtureGroup operand;
  operand.a_ND = parameters.leaf(bank.name + "/A");
  operand.column_N = bank.column_N;
  if (!bank.rank_gated) return operand;
  const auto noise = [&] {
    std::vector<at::Tensor> parts;
    for (const auto& site : bank.sites) {
      parts.push_back(
          adapters::gate_noise({pass.key.seed, static_cast<std::uint64_t>(pass.key.step),
                                static_cast<std::uint64_t>(layer_), base::key_word(site.site)},
                               documents, site.direction_id_N));
    }
    return at::cat(parts, 1);
  };
  operand.z_ZN = adapters::rank_gates(whole_.rank_kind, parameters.leaf(bank.name + "/logit"),
                                      pass.key.phase, noise);
  return operand;
}

std::vector<at::Tensor> Block::remote_linear(int group, const at::Tensor& x_TD,
                                             const at::Tensor& gate_TG,
                                             const std::vector<adapters::MixtureSite>& sites,
                                             const Pass& pass) const {
  const auto& bank = part(pass).adapters.groups[static_cast<std::size_t>(group)];
  const bool per_document = gates_documents(bank, pass);
  const auto arrived =
      pass.tokens->send(*this, group, x_TD, gate_TG, pass.rows.documents, per_document);
  auto operand = group_operand(bank, arrived.document_id, pass);
  operand.gate_TG = arrived.gate_TG;
  if (per_document) operand.row_T = arrived.row_T;
  operand.row_begin = per_document ? arrived.row_begin : arrived.whole;
  std::vector<adapters::MixtureSite> frozen;
  std::vector<adapters::MixtureSite> adapted;
  for (const auto& site : sites) {
    frozen.push_back({site.base, {}, 0, 1.0});
    if (!site.b_NF.defined()) continue;
    adapted.push_back(site);
    adapted.back().base = nullptr;
  }
  // All that is added to one input travels back together.
  const auto added = pass.tokens->bring_back(
      arrived, at::cat(adapters::mixture_linear(arrived.x_TD, operand, adapted), 1));
  auto outputs = adapters::mixture_linear(x_TD, {}, frozen);
  std::int64_t column = 0;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!sites[i].b_NF.defined()) continue;
    const auto width = sites[i].b_NF.size(1);
    outputs[i] = outputs[i] + added.narrow(1, column, width);
    column += width;
  }
  return outputs;
}

std::vector<at::Tensor> Block::group_linear(int group, const at::Tensor& x_TD, Gating& gating,
                                            const Pass& pass) const {
  const auto& [adapters, parameters] = part(pass);
  const auto& bank = adapters.groups[static_cast<std::size_t>(group)];
  std::vector<adapters::MixtureSite> sites;
  for (const auto position : kGroupSites[static_cast<std::size_t>(group)]) {
    if (weights_.linears[position] == nullptr) continue;  // the family has no such linear
    adapters::MixtureSite site{weights_.linears[position], {}, 0, 1.0};
    for (const auto& adapted : bank.sites) {
      if (adapted.site != kSites[position]) continue;
      site.b_NF = parameters.leaf(bank.name + "/" + adapted.site + "/b");
      site.first = adapted.first;
      site.scale = adapted.scale;
      site.a_row = adapted.a_first;
      site.sharers = adapted.sharers();
    }
    sites.push_back(std::move(site));
  }
  if (bank.sites.empty()) return adapters::mixture_linear(x_TD, {}, sites);
  const auto gate_TG = group_gates(group, x_TD, gating, pass);
  if (pass.tokens != nullptr) return remote_linear(group, x_TD, gate_TG, sites, pass);
  const auto& documents = pass.rows.documents;
  auto operand = group_operand(bank, documents.id, pass);
  operand.gate_TG = gate_TG;
  const bool per_document = gates_documents(bank, pass);
  if (per_document) operand.row_T = documents.row_T;
  operand.row_begin = per_document ? documents.begin_tensor : documents.whole_tensor;
  return adapters::mixture_linear(x_TD, operand, sites);
}

BlockOutput Block::forward(const at::Tensor& x_TD, const Pass& pass) const {
  Gating gating{std::vector<at::Tensor>(whole_.routers.size()),
                std::vector<at::Tensor>(whole_.routers.size())};
  const auto normed_TD =
      norm(architecture_, x_TD, weights_.attention_norm_D, weights_.attention_norm_bias_D);
  for (std::size_t r = 0; r < whole_.routers.size(); ++r) {
    if (whole_.routers[r].group < 0) run_router(r, normed_TD, gating, pass);
  }
  at::Tensor attended_TD;
  if (whole_.attention.literal) {
    attended_TD = literal_attention(normed_TD, gating, pass);
  } else {
    const auto qkv = group_linear(0, normed_TD, gating, pass);
    attended_TD = group_linear(1, attention(qkv, gating, pass), gating, pass)[0];
  }
  const auto middle_TD = x_TD + attended_TD;
  const auto mlp_in_TD =
      norm(architecture_, middle_TD, weights_.mlp_norm_D, weights_.mlp_norm_bias_D);
  const auto inner_TF = activate(architecture_, group_linear(2, mlp_in_TD, gating, pass));
  auto mlp_TD = group_linear(3, inner_TF, gating, pass)[0];
  add_parallels(mlp_TD, mlp_in_TD, gating, pass);
  const bool counted = !gating.statistics.empty() && gating.statistics[0].defined();
  const bool mixes = whole_.copies > 0 && !gating.w.empty();
  return {middle_TD + mlp_TD,
          counted ? at::cat(gating.statistics) : at::zeros({0}, x_TD.options().dtype(at::kDouble)),
          mixes ? gating.w[0] : at::Tensor()};
}

}  // namespace dfmoa::model
