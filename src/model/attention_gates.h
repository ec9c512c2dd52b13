// Differentiable fuzzy attention: gates on the heads of a block and on their dimensions.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "src/base/fields.h"

namespace dfmoa::model {

/// [dfa]
struct DfaConfig {
  std::string router;
  std::string rank_gate;
  std::vector<std::string> dimensions{"qk", "v"};
  std::string layers = "all";
  std::string attention = "pretrained";

  void fields(base::FieldList& list);

  [[nodiscard]] bool is_literal() const { return attention == "literal"; }
  [[nodiscard]] bool is_on() const { return !router.empty() || !rank_gate.empty() || is_literal(); }
};

/// Trained gates of head dimensions: of queries and keys together ("qk"), or of values ("v");
/// literal attention has them apart ("q", "k", "v").
struct DimensionMask {
  std::string name;
  std::int64_t rows = 0;      ///< query heads, or KV heads where the queries of a group share it
  std::int64_t channels = 0;  ///< of a row: C, or C / 2 where a rotary pair shares it
  std::vector<std::int64_t> dimension_id_N;  ///< row * channels + channel, kept by a shrink
  at::Tensor index_N{};  ///< dimension_id_N where the gates are, made by `index`

  [[nodiscard]] std::int64_t total() const { return rows * channels; }
  [[nodiscard]] std::int64_t left() const {
    return static_cast<std::int64_t>(dimension_id_N.size());
  }
  [[nodiscard]] std::string parameter() const { return "dfa/" + name + "/logit"; }
  /// Makes index_N; to be called again whenever dimension_id_N has changed.
  void index(at::Device device);
  /// The gates of all dimensions: those that a shrink has removed are 0. Undefined stays so unless
  /// some were removed: then the rest is 1.
  /// Shapes  z_ZN (Z, left) -> (Z, rows * channels).
  /// Throws  ShapeError unless `index` was called for as many dimensions as are left.
  [[nodiscard]] at::Tensor spread(const at::Tensor& z_ZN, at::TensorOptions options) const;
};

/// The gates of one block's attention, as configured.
struct AttentionGates {
  int router = -1;  ///< of the heads, among the block's routers
  std::vector<DimensionMask> masks;
  std::string rank_gate;  ///< name of the masks' [rank.NAME] ...
  std::string kind;       ///< ... and its kind
  bool literal = false;   ///< q, k, v and o are new and trained, the pretrained ones rest

  [[nodiscard]] bool empty() const { return router < 0 && masks.empty() && !literal; }
  /// The model's own attention, gated: its heads may run at their owners.
  [[nodiscard]] bool gates_pretrained() const { return !empty() && !literal; }
  /// Kind norm cuts by magnitude and trains no gate.
  [[nodiscard]] bool has_logits() const { return !masks.empty() && kind != "norm"; }
};

/// Multiplies every token's heads by the gates of their dimensions, and by those of the heads. Rows
/// of the mask serve groups of heads, channels of a mask of C / 2 rotary pairs (c, c + C / 2).
/// Shapes  x_THC (T, H, C), z_ZN as `spread` gives it (undefined: all 1), row_T (T) the row of each
///         token, undefined for one row, gate_TH (T, H), undefined: all 1 -> (T, H, C).
[[nodiscard]] at::Tensor gate_dimensions(const at::Tensor& x_THC, const DimensionMask& mask,
                                         const at::Tensor& z_ZN, const at::Tensor& row_T,
                                         const at::Tensor& gate_TH = {});

}  // namespace dfmoa::model
