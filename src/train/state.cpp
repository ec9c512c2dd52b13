#include "src/train/state.h"

#include <numeric>

#include "src/base/error.h"
#include "src/base/hash.h"
#include "src/base/text.h"
#include "src/ops/dtype.h"
#include "src/train/rank_budget.h"

namespace dfmoa::train {
namespace {

void add(base::StateTree& tree, const std::string& name, const at::Tensor& tensor) {
  tree.add({name, ops::from_torch(tensor.scalar_type()), tensor.sizes().vec(),
            tensor.numel() > 0 ? const_cast<void*>(tensor.const_data_ptr()) : nullptr, 0});
}

/// Parameter `index` of a block and, if wanted, its moments; rows [begin, begin + count) of them.
void add_rows(base::StateTree& tree, const adapters::ParameterSet& parameters,
              const std::string& parameter, const std::string& name, std::int64_t begin,
              std::int64_t count, bool moments) {
  const auto index = parameters.index_of(parameter);
  add(tree, name, parameters.leaves()[index].detach().narrow(0, begin, count));
  if (!moments) return;
  add(tree, "optimizer/moment1/" + name, parameters.moment1(index).narrow(0, begin, count));
  add(tree, "optimizer/moment2/" + name, parameters.moment2(index).narrow(0, begin, count));
}

std::string expert_name(const model::Block& block, const adapters::SiteBank& site,
                        std::int64_t expert) {
  return base::text("layer/", block.layer(), "/", site.site, "/expert/", expert);
}

std::string dimension_ids_name(const model::Block& block, const model::DimensionMask& mask) {
  return base::text("layer/", block.layer(), "/dfa/", mask.name, "/dimension_id");
}

void list_site(const model::Block& block, const adapters::ParameterSet& parameters,
               const adapters::GroupBank& group, const adapters::SiteBank& site, bool moments,
               base::StateTree& tree) {
  if (site.shared_a) {
    add_rows(tree, parameters, group.name + "/A",
             base::text("layer/", block.layer(), "/", site.site, "/shared/A"), site.a_first,
             site.a_rows(), moments);
  }
  for (std::int64_t expert = 0; expert < site.experts(); ++expert) {
    const auto begin = site.begin_of(expert);
    const auto count = site.rank_E[static_cast<std::size_t>(expert)];
    const auto name = expert_name(block, site, expert);
    if (!site.shared_a) {
      add_rows(tree, parameters, group.name + "/A", name + "/A", site.a_begin_of(expert), count,
               moments);
    }
    add_rows(tree, parameters, group.name + "/" + site.site + "/b", name + "/B", begin, count,
             moments);
    if (group.rank_gated) {
      add_rows(tree, parameters, group.name + "/logit", name + "/rank_logit", site.first + begin,
               count, moments);
    }
    auto* ids = const_cast<std::int64_t*>(site.direction_id_N.data()) + begin;
    tree.add({name + "/direction_id", base::DType::i64, {count}, count > 0 ? ids : nullptr, 0});
  }
}

/// Adapters beside linears, and what gates attention: under their names inside the block.
void list_others(const model::Block& block, const adapters::ParameterSet& parameters, bool moments,
                 base::StateTree& tree) {
  const auto layer = base::text("layer/", block.layer(), "/");
  for (const auto& spec : parameters.specs()) {
    const bool is_other = spec.name.starts_with("parallel/") || spec.name.starts_with("prompt/") ||
                          spec.name.starts_with("dfa/");
    if (!is_other) continue;
    add_rows(tree, parameters, spec.name, layer + spec.name, 0, spec.shape[0], moments);
  }
  for (const auto& mask : block.adapters().attention.masks) {
    auto* ids = const_cast<std::int64_t*>(mask.dimension_id_N.data());
    tree.add({dimension_ids_name(block, mask),
              base::DType::i64,
              {mask.left()},
              mask.left() > 0 ? ids : nullptr,
              0});
  }
}

}  // namespace

HostParameters list_model(model::Transformer& model, std::vector<BlockEntropy>& entropy,
                          bool moments, base::StateTree& tree) {
  HostParameters host;
  for (auto& block : model.blocks()) {
    host.push_back(block.parameters().on_host());
    const auto& parameters = host.back();
    for (const auto& group : block.adapters().groups) {
      for (const auto& site : group.sites) {
        list_site(block, parameters, group, site, moments, tree);
      }
    }
    list_others(block, parameters, moments, tree);
    const auto& routers = block.adapters().routers;
    for (std::size_t r = 0; r < routers.size(); ++r) {
      const auto name = base::text("layer/", block.layer(), "/router/", routers[r].name);
      const auto folder = "router/" + routers[r].name + "/";
      for (const auto index : parameters.indices_under(folder)) {
        const auto& spec = parameters.specs()[index];
        add_rows(tree, parameters, spec.name, name + "/" + spec.name.substr(folder.size()), 0,
                 spec.shape[0], moments);
      }
      entropy[static_cast<std::size_t>(block.layer())][r].list(tree, name + "/entropy");
    }
  }
  return host;
}

void take_parameters(model::Transformer& model, const HostParameters& parameters) {
  for (std::size_t layer = 0; layer < parameters.size(); ++layer) {
    auto& block = model.blocks()[layer];
    block.parameters().take(parameters[layer]);
    block.index_dimensions();
  }
}

namespace {

/// Numbers that the checkpoint holds under `name`, at most `most` of them.
std::int64_t held_by(const checkpoints::Checkpoint& checkpoint, const std::string& name,
                     std::int64_t most, const char* what) {
  const auto found = checkpoint.datasets().find(name);
  if (found == checkpoint.datasets().end() || found->second.shape.empty() ||
      found->second.shape[0] > most) {
    throw base::ContentError(base::text("checkpoint ", checkpoint.folder().string(), ": ", name,
                                        " is missing or holds more than the ", most, " ", what,
                                        " of the configuration"));
  }
  return found->second.shape[0];
}

void match_directions(model::Block& block, const checkpoints::Checkpoint& checkpoint) {
  bool shrunk = false;
  KeptDirections keep;
  for (const auto& group : block.adapters().groups) {
    auto& sites = keep.emplace_back();
    for (const auto& site : group.sites) {
      auto& kept = sites.emplace_back();
      for (std::int64_t expert = 0; expert < site.experts(); ++expert) {
        const auto rank = site.rank_E[static_cast<std::size_t>(expert)];
        const auto left = held_by(checkpoint, expert_name(block, site, expert) + "/direction_id",
                                  rank, "directions");
        for (std::int64_t r = 0; r < left; ++r) kept.push_back(site.begin_of(expert) + r);
        shrunk = shrunk || left < rank;
      }
    }
  }
  if (shrunk) keep_directions(block, keep);
}

void match_dimensions(model::Block& block, const checkpoints::Checkpoint& checkpoint) {
  bool shrunk = false;
  KeptDimensions keep;
  for (const auto& mask : block.adapters().attention.masks) {
    const auto left =
        held_by(checkpoint, dimension_ids_name(block, mask), mask.left(), "dimensions");
    auto& kept = keep.emplace_back(static_cast<std::size_t>(left));
    std::iota(kept.begin(), kept.end(), std::int64_t{0});
    shrunk = shrunk || left < mask.left();
  }
  if (shrunk) keep_dimensions(block, keep);
}

}  // namespace

void match_ranks(model::Transformer& model, const checkpoints::Checkpoint& checkpoint) {
  for (auto& block : model.blocks()) {
    if (block.adapters().empty()) continue;
    match_directions(block, checkpoint);
    match_dimensions(block, checkpoint);
  }
}

std::string parameters_hash(model::Transformer& model, std::vector<BlockEntropy>& entropy) {
  base::StateTree tree;
  const auto host = list_model(model, entropy, /*moments=*/false, tree);
  base::Hash128 hash;
  for (const auto& [name, entry] : tree.entries()) {
    hash.add_text(name);
    hash.add(entry.data, entry.bytes());
  }
  return hash.hex();
}

std::vector<BlockEntropy> make_entropy(const model::Transformer& model) {
  std::vector<BlockEntropy> all;
  for (const auto& block : model.blocks()) {
    auto& entropy = all.emplace_back();
    for (const auto& router : block.adapters().routers) {
      entropy.emplace_back(router.config, router.experts);
    }
  }
  return all;
}

}  // namespace dfmoa::train
