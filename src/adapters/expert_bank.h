// Which directions a block holds: sites, experts, ranks and ids, grouped by shared input.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "src/adapters/parameter_set.h"

namespace dfmoa::adapters {

/// The experts of one adapted linear. Directions lie expert after expert.
struct SiteBank {
  std::string site;                          ///< q, k, v, o, gate, up, down
  std::string adapter;                       ///< name of its [adapter.NAME]
  std::string rank_gate;                     ///< name of its [rank.NAME], or empty
  std::vector<std::int64_t> rank_E;          ///< directions of every expert, 0 allowed
  std::vector<std::int64_t> direction_id_N;  ///< expert * initial rank + r, kept by a shrink
  std::int64_t initial_rank = 0;
  bool shared_a = false;     ///< all experts read the same rows of A
  bool own_gates = false;    ///< no other linear shares its gates: its experts are its own
  std::int64_t first = 0;    ///< first direction inside the group
  std::int64_t a_first = 0;  ///< first row of the group's A
  std::int64_t column = 0;   ///< gate column of expert 0
  double scale = 1.0;
  std::int64_t out_features = 0;

  [[nodiscard]] std::int64_t experts() const { return static_cast<std::int64_t>(rank_E.size()); }
  [[nodiscard]] std::int64_t directions() const {
    return static_cast<std::int64_t>(direction_id_N.size());
  }
  /// First direction of expert e inside the site.
  [[nodiscard]] std::int64_t begin_of(std::int64_t expert) const;
  /// Experts that read the same rows of A: those that have directions.
  [[nodiscard]] std::int64_t sharers() const {
    return shared_a ? std::max<std::int64_t>(directions() / initial_rank, 1) : 1;
  }
  /// Only the experts that `is_kept` names keep their directions.
  void keep_experts(const std::function<bool(std::int64_t expert)>& is_kept);
  /// Rows of A that the site has, and the first one of expert e.
  [[nodiscard]] std::int64_t a_rows() const { return shared_a ? initial_rank : directions(); }
  [[nodiscard]] std::int64_t a_begin_of(std::int64_t expert) const {
    return shared_a ? a_first : a_first + begin_of(expert);
  }
};

/// Adapted sites that read the same input and share one A.
struct GroupBank {
  std::string name;  ///< attention_in (q k v), attention_out (o), mlp_in (gate up), mlp_out (down)
  std::int64_t in_features = 0;
  std::vector<SiteBank> sites;
  bool rank_gated = false;  ///< a logit per direction is among the parameters
  at::Tensor column_N;      ///< (N) int32, made by `index`

  [[nodiscard]] std::int64_t directions() const;
  [[nodiscard]] std::int64_t a_rows() const;
  /// Sets every site's `first` and `a_first`, and column_N.
  void index();
};

/// Parameters of the groups: NAME/A (N, or fewer where A is shared, D), NAME/SITE/b (N, F), then
/// NAME/logit (N).
[[nodiscard]] std::vector<ParameterSpec> adapter_specs(const std::vector<GroupBank>& groups);
[[nodiscard]] std::vector<ParameterSpec> rank_gate_specs(const std::vector<GroupBank>& groups);

/// A kaiming-uniform (a = sqrt 5) keyed by (seed, layer, site, direction id); b = 0; logits 2.4
/// (`literal`: 0). Independent of processes and of which other sites exist.
void initialise(const std::vector<GroupBank>& groups, ParameterSet& parameters, std::uint64_t seed,
                std::int64_t layer, double logit_start);

}  // namespace dfmoa::adapters
