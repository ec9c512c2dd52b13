#include "src/train/expert_ranks.h"

#include "src/adapters/rank_gate.h"
#include "src/base/text.h"
#include "src/train/rank_budget.h"

namespace dfmoa::train {
namespace {

/// What the figures of one group are taken from, on the host.
struct HostGroup {
  at::Tensor a_ND;
  at::Tensor z_N;      // undefined: every gate is 1
  at::Tensor alive_N;  // undefined: gates without noise
};

HostGroup read_group(const model::Block& block, const adapters::GroupBank& group) {
  HostGroup host{block.parameters().leaf(group.name + "/A").to(at::kCPU), {}, {}};
  if (!group.rank_gated) return host;
  host.z_N = evaluation_gates(block, group).to(at::kCPU);
  if (block.adapters().rank_kind != "hard_concrete") return host;
  host.alive_N =
      adapters::alive_probability(block.parameters().leaf(group.name + "/logit").to(at::kCPU));
  return host;
}

ExpertRank rank_of(const HostGroup& group, const at::Tensor& b_NF, const adapters::SiteBank& site,
                   std::int64_t expert) {
  ExpertRank found;
  found.expert = expert;
  found.rank = site.rank_E[static_cast<std::size_t>(expert)];
  if (found.rank == 0) return found;  // cut, or held elsewhere
  const auto begin = site.begin_of(expert);
  const auto row = site.first + begin;
  const auto a_rows = site.shared_a ? site.a_rows() : found.rank;
  const auto z = group.z_N.defined() ? group.z_N.narrow(0, row, found.rank) : at::Tensor();
  found.active = z.defined() ? (z != 0).sum().item<std::int64_t>() : found.rank;
  found.expected = group.alive_N.defined()
                       ? group.alive_N.narrow(0, row, found.rank).sum().item<double>()
                       : static_cast<double>(found.active);
  found.spectral = adapters::spectral_rank(group.a_ND.narrow(0, site.a_begin_of(expert), a_rows),
                                           b_NF.narrow(0, begin, found.rank), z);
  return found;
}

}  // namespace

namespace {

/// Experts of others have no directions here: they add nothing, and their owners all.
void add_owners(std::vector<ExpertRank>& all, distributed::ExpertTransport& transport) {
  std::vector<double> words;
  for (const auto& one : all) {
    words.insert(words.end(), {static_cast<double>(one.rank), static_cast<double>(one.active),
                               one.expected, one.spectral});
  }
  transport.mesh().experts().all_reduce(words.data(), static_cast<std::int64_t>(words.size()),
                                        base::DType::f64, comm::Op::sum, "figures/ranks");
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto* word = words.data() + 4 * i;
    all[i].rank = static_cast<std::int64_t>(word[0]);
    all[i].active = static_cast<std::int64_t>(word[1]);
    all[i].expected = word[2];
    all[i].spectral = word[3];
  }
}

}  // namespace

std::vector<ExpertRank> expert_ranks(const model::Transformer& model,
                                     distributed::ExpertTransport* transport) {
  const at::NoGradGuard no_grad;
  std::vector<ExpertRank> all;
  for (const auto& block : model.blocks()) {
    for (const auto& group : block.adapters().groups) {
      if (group.sites.empty()) continue;
      const auto host = read_group(block, group);
      for (const auto& site : group.sites) {
        const auto b_NF = block.parameters().leaf(group.name + "/" + site.site + "/b").to(at::kCPU);
        for (std::int64_t e = 0; e < site.experts(); ++e) {
          all.push_back(rank_of(host, b_NF, site, e));
          all.back().site = base::text("layer/", block.layer(), "/", site.site);
        }
      }
    }
  }
  if (transport != nullptr && transport->is_sharded()) add_owners(all, *transport);
  return all;
}

std::vector<DimensionRank> dimension_ranks(const model::Transformer& model) {
  const at::NoGradGuard no_grad;
  std::vector<DimensionRank> all;
  for (const auto& block : model.blocks()) {
    const auto& gates = block.adapters().attention;
    for (const auto& mask : gates.masks) {
      DimensionRank found{base::text("layer/", block.layer(), "/dfa/", mask.name), mask.total(),
                          mask.left(), static_cast<double>(mask.left())};
      if (gates.has_logits()) {
        const auto logit_N = block.parameters().leaf(mask.parameter()).to(at::kCPU);
        const auto z_N = adapters::settled_gates(gates.kind, logit_N);
        found.active = (z_N != 0).sum().item<std::int64_t>();
        found.expected = gates.kind == "hard_concrete"
                             ? adapters::alive_probability(logit_N).sum().item<double>()
                             : static_cast<double>(found.active);
      }
      all.push_back(std::move(found));
    }
  }
  return all;
}

}  // namespace dfmoa::train
