// The trainable part of a block, as configured: banks of experts, adapters beside them, routers,
// gates of attention.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "src/adapters/expert_bank.h"
#include "src/gates/router.h"
#include "src/model/attention_gates.h"

namespace dfmoa::model {

/// A router of a block.
struct BlockRouter {
  std::string name;  ///< of its [router.NAME], with "/SITE" for input per_site
  gates::RouterConfig config;
  std::int64_t experts = 0;
  int group = -1;                   ///< the group whose input it reads; -1: the block's first norm
  bool of_heads = false;            ///< its gates are of attention heads, not of experts
  std::vector<std::string> labels;  ///< what each gate is of, where that is not an expert's number

  [[nodiscard]] gates::StatisticsLayout layout() const { return config.layout(experts); }
};

/// A parallel or a prompt adapter.
struct SideAdapter {
  std::string name;  ///< of its [adapter.NAME]
  std::string kind;
  std::int64_t width = 0;
  int router = -1;  ///< -1: its gate is 1
  std::int64_t column = 0;

  [[nodiscard]] std::string parameter(const std::string& part) const {
    return kind + "/" + name + "/" + part;
  }
};

/// The input groups of a block, in order.
inline constexpr std::array<const char*, 4> kGroups{"attention_in", "attention_out", "mlp_in",
                                                    "mlp_out"};

struct BlockAdapters {
  std::array<adapters::GroupBank, 4> groups;  ///< in the order of kGroups; sites may be empty
  std::vector<SideAdapter> sides;
  std::vector<BlockRouter> routers;
  AttentionGates attention;
  std::string rank_kind;     ///< kind of the adapters' rank gates, empty without
  bool has_ungated = false;  ///< some adapted site has no router: the last gate column is 1
  /// Experts whose logits are mixed: each is on in its own copy of a row, off in the others, and
  /// the one router of the model belongs to the lowest such block. 0: gates act inside the linears.
  std::int64_t copies = 0;

  [[nodiscard]] bool empty() const;
};

/// Of a block's statistics the vector of each router, in the order of `routers`.
[[nodiscard]] std::vector<std::span<const double>> statistics_by_router(
    const std::vector<BlockRouter>& routers, std::span<const double> statistics_U);

/// Extents of a block that its trained tensors depend on.
struct BlockShape {
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
};

/// The trained tensors of an adapter beside linears.
[[nodiscard]] std::vector<adapters::ParameterSpec> side_specs(const SideAdapter& side,
                                                              const BlockShape& shape);

/// All trained tensors of the block, ordered by group.
[[nodiscard]] std::vector<adapters::ParameterSpec> parameter_specs(const BlockAdapters& adapters,
                                                                   const BlockShape& shape);

/// Their values before the first update: up-projections 0, the rest keyed by (seed, layer, name).
void initialise(const BlockAdapters& adapters, const BlockShape& shape,
                adapters::ParameterSet& parameters, std::uint64_t seed, std::int64_t layer);

/// The tensors of one router among the parameters of its block.
[[nodiscard]] gates::RouterParameters router_parameters(const BlockAdapters& adapters,
                                                        const BlockRouter& router,
                                                        const BlockShape& shape,
                                                        const adapters::ParameterSet& parameters);

}  // namespace dfmoa::model
