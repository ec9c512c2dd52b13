#include "src/train/state.h"

#include <algorithm>

#include "checkpoints/stream.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/ops/dtype.h"
#include "src/train/cut_candidate.h"
#include "src/train/rank_budget.h"

namespace dfmoa::train {
namespace {

std::string dimension_ids_name(const model::Block& block, const model::DimensionMask& mask) {
  return base::text("layer/", block.layer(), "/dfa/", mask.name, "/dimension_id");
}

void add(base::StateTree& tree, const std::string& name, const at::Tensor& tensor, int owner = 0) {
  tree.add({name, ops::from_torch(tensor.scalar_type()), tensor.sizes().vec(),
            tensor.numel() > 0 ? const_cast<void*>(tensor.const_data_ptr()) : nullptr, owner});
}

/// Rows of a parameter that become arrays of a checkpoint.
struct ListedRows {
  std::string parameter;
  std::int64_t begin = 0;
  std::int64_t count = 0;
  int owner = 0;
  bool is_held = true;
  std::vector<std::int64_t> row{};  ///< shape of one row, where it is not held
};

/// Lists one block's arrays.
class BlockLister {
 public:
  BlockLister(const model::Block& block, const adapters::ParameterSet& held, bool moments,
              base::StateTree& tree, const distributed::BlockOwners* owners, base::DType dtype)
      : block_(block),
        held_(held),
        moments_(moments),
        tree_(tree),
        owners_(owners),
        dtype_(dtype) {}

  void add_rows(const std::string& name, const ListedRows& rows) {
    if (!rows.is_held) return add_elsewhere(name, rows);
    const auto index = held_.index_of(rows.parameter);
    const auto cut = [&](const at::Tensor& all) { return all.narrow(0, rows.begin, rows.count); };
    add(tree_, name, cut(held_.leaves()[index].detach()), rows.owner);
    if (!moments_) return;
    add(tree_, "optimizer/moment1/" + name, cut(held_.moment1(index)), rows.owner);
    add(tree_, "optimizer/moment2/" + name, cut(held_.moment2(index)), rows.owner);
  }

  void add_site(std::size_t g, std::size_t s) {
    const auto& group = block_.adapters().groups[g];
    const auto& whole = block_.whole().groups[g].sites[s];
    const auto& site = group.sites[s];
    const auto layer = base::text("layer/", block_.layer(), "/", site.site);
    if (site.shared_a) {
      add_rows(layer + "/shared/A", {group.name + "/A", site.a_first, site.a_rows()});
    }
    for (std::int64_t expert = 0; expert < site.experts(); ++expert) {
      const auto count = whole.rank_E[static_cast<std::size_t>(expert)];
      const auto begin = site.begin_of(expert);
      const auto owner =
          owners_ == nullptr ? 0 : owners_->units.at(distributed::unit_name(whole, expert));
      const bool is_held = site.rank_E[static_cast<std::size_t>(expert)] == count;
      const auto name = base::text(layer, "/expert/", expert);
      const auto rows = [&](const std::string& parameter, std::int64_t first,
                            const std::vector<std::int64_t>& row) {
        return ListedRows{group.name + parameter, first, count, owner, is_held, row};
      };
      if (!site.shared_a) {
        add_rows(name + "/A", rows("/A", site.a_begin_of(expert), {group.in_features}));
      }
      add_rows(name + "/B", rows("/" + site.site + "/b", begin, {site.out_features}));
      if (group.rank_gated) add_rows(name + "/rank_logit", rows("/logit", site.first + begin, {}));
      auto* ids = const_cast<std::int64_t*>(whole.direction_id_N.data()) + whole.begin_of(expert);
      tree_.add({name + "/direction_id", base::DType::i64, {count}, count > 0 ? ids : nullptr, 0});
    }
  }

  /// Adapters beside linears, and what gates attention: under their names inside the block.
  void add_others(const std::map<std::string, HostParameters::Mask>& masks) {
    const auto layer = base::text("layer/", block_.layer(), "/");
    for (const auto& side : block_.whole().sides) {
      const auto owner = owners_ == nullptr ? 0 : owners_->units.at(distributed::unit_name(side));
      for (const auto& spec : model::side_specs(side, block_.shape())) {
        const bool is_held = has(spec.name);
        add_rows(layer + spec.name, {spec.name,
                                     0,
                                     spec.shape[0],
                                     owner,
                                     is_held,
                                     {spec.shape.begin() + 1, spec.shape.end()}});
      }
    }
    for (const auto& spec : held_.specs()) {
      if (!spec.name.starts_with("dfa/")) continue;
      const auto whole = masks.find(spec.name);
      if (whole == masks.end()) {
        add_rows(layer + spec.name, {spec.name, 0, spec.shape[0]});
      } else {
        add_mask(layer + spec.name, whole->second);
      }
    }
    for (const auto& mask : block_.whole().attention.masks) {
      auto* ids = const_cast<std::int64_t*>(mask.dimension_id_N.data());
      tree_.add({dimension_ids_name(block_, mask),
                 base::DType::i64,
                 {mask.left()},
                 mask.left() > 0 ? ids : nullptr,
                 0});
    }
  }

  void add_routers(BlockEntropy& entropy) {
    const auto& routers = block_.whole().routers;
    for (std::size_t r = 0; r < routers.size(); ++r) {
      const auto name = base::text("layer/", block_.layer(), "/router/", routers[r].name);
      const auto folder = "router/" + routers[r].name + "/";
      for (const auto index : held_.indices_under(folder)) {
        const auto& spec = held_.specs()[index];
        add_rows(name + "/" + spec.name.substr(folder.size()), {spec.name, 0, spec.shape[0]});
      }
      entropy[r].list(tree_, name + "/entropy");
    }
  }

 private:
  [[nodiscard]] bool has(const std::string& parameter) const {
    return std::any_of(held_.specs().begin(), held_.specs().end(),
                       [&](const auto& spec) { return spec.name == parameter; });
  }

  /// An array that another process holds.
  void add_elsewhere(const std::string& name, const ListedRows& rows) {
    std::vector<std::int64_t> shape{rows.count};
    shape.insert(shape.end(), rows.row.begin(), rows.row.end());
    const auto add_one = [&](const std::string& path) {
      tree_.add({path, dtype_, shape, nullptr, rows.owner});
    };
    add_one(name);
    if (!moments_) return;
    add_one("optimizer/moment1/" + name);
    add_one("optimizer/moment2/" + name);
  }

  void add_mask(const std::string& name, const HostParameters::Mask& mask) {
    add(tree_, name, mask.value_N);
    if (!moments_) return;
    add(tree_, "optimizer/moment1/" + name, mask.moment1_N);
    add(tree_, "optimizer/moment2/" + name, mask.moment2_N);
  }

  const model::Block& block_;
  const adapters::ParameterSet& held_;
  bool moments_;
  base::StateTree& tree_;
  const distributed::BlockOwners* owners_;  // null: everything lies in every process
  base::DType dtype_;                       // of parameters, held here or not
};

/// Positions of the held dimensions among all that are left.
at::Tensor positions_of(const model::DimensionMask& held, const model::DimensionMask& whole) {
  std::vector<std::int64_t> positions;
  for (const auto id : held.dimension_id_N) {
    positions.push_back(position_of(id, whole.dimension_id_N));
  }
  return torch::tensor(positions, torch::kLong);
}

/// Every owner's gates of the masks of one block.
std::map<std::string, HostParameters::Mask> gather_masks(const model::Block& block,
                                                         const adapters::ParameterSet& held,
                                                         comm::Communicator& owners) {
  const at::NoGradGuard no_grad;
  std::map<std::string, HostParameters::Mask> masks;
  if (!block.whole().attention.has_logits()) return masks;
  for (std::size_t m = 0; m < block.whole().attention.masks.size(); ++m) {
    const auto& whole = block.whole().attention.masks[m];
    const auto index_N = positions_of(block.adapters().attention.masks[m], whole);
    const auto index = held.index_of(whole.parameter());
    const auto& leaf = held.leaves()[index];
    const auto all_3N = at::zeros({3, whole.left()}, leaf.options());
    all_3N.index_copy_(1, index_N,
                       at::stack({leaf.detach(), held.moment1(index), held.moment2(index)}));
    owners.all_reduce(all_3N.mutable_data_ptr(), all_3N.numel(),
                      ops::from_torch(all_3N.scalar_type()), comm::Op::sum, "state/masks");
    masks[whole.parameter()] = {all_3N[0], all_3N[1], all_3N[2]};
  }
  return masks;
}

}  // namespace

HostParameters list_model(model::Transformer& model, std::vector<BlockEntropy>& entropy,
                          bool moments, base::StateTree& tree,
                          distributed::ExpertTransport* transport) {
  HostParameters host;
  const bool is_sharded = transport != nullptr && transport->is_sharded();
  for (auto& block : model.blocks()) {
    host.held.push_back(block.parameters().on_host());
    auto& masks = host.masks.emplace_back();
    if (block.whole().empty()) continue;
    if (is_sharded) masks = gather_masks(block, host.held.back(), transport->mesh().experts());
    BlockLister lister(block, host.held.back(), moments, tree,
                       is_sharded ? transport->owners(block.layer()) : nullptr,
                       ops::from_torch(model.dtype()));
    const auto& groups = block.whole().groups;
    for (std::size_t g = 0; g < groups.size(); ++g) {
      for (std::size_t s = 0; s < groups[g].sites.size(); ++s) lister.add_site(g, s);
    }
    lister.add_others(masks);
    lister.add_routers(entropy[static_cast<std::size_t>(block.layer())]);
  }
  return host;
}

void take_parameters(model::Transformer& model, const HostParameters& parameters) {
  const at::NoGradGuard no_grad;
  for (std::size_t layer = 0; layer < parameters.held.size(); ++layer) {
    auto& block = model.blocks()[layer];
    block.parameters().take(parameters.held[layer]);
    for (std::size_t m = 0; m < block.whole().attention.masks.size(); ++m) {
      const auto& whole = block.whole().attention.masks[m];
      const auto found = parameters.masks[layer].find(whole.parameter());
      if (found == parameters.masks[layer].end()) continue;
      const auto index_N = positions_of(block.adapters().attention.masks[m], whole);
      const auto index = block.parameters().index_of(whole.parameter());
      const auto take = [&](const at::Tensor& to, const at::Tensor& from_N) {
        to.copy_(from_N.index_select(0, index_N));
      };
      take(block.parameters().leaves()[index], found->second.value_N);
      take(block.parameters().moment1(index), found->second.moment1_N);
      take(block.parameters().moment2(index), found->second.moment2_N);
    }
  }
}

std::string parameters_hash(model::Transformer& model, std::vector<BlockEntropy>& entropy,
                            distributed::ExpertTransport& transport) {
  base::StateTree tree;
  const auto host = list_model(model, entropy, /*moments=*/false, tree, &transport);
  return checkpoints::hash_of(tree, transport.mesh().world());
}

std::vector<BlockEntropy> make_entropy(const model::Transformer& model) {
  std::vector<BlockEntropy> all;
  for (const auto& block : model.blocks()) {
    auto& entropy = all.emplace_back();
    for (const auto& router : block.whole().routers) {
      entropy.emplace_back(router.config, router.experts);
    }
  }
  return all;
}

}  // namespace dfmoa::train
