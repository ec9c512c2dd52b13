// One transformer block with its adapters: norm, attention, norm, gated MLP, residuals.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "src/adapters/expert_bank.h"
#include "src/adapters/mixture_linear.h"
#include "src/gates/override.h"
#include "src/gates/router.h"
#include "src/model/attention.h"
#include "src/model/base_model.h"
#include "src/model/packed_rows.h"

namespace dfmoa::model {

/// How rank gates act in a pass.
enum class RankPhase {
  held,    ///< exactly 1, before `rank.start`
  noisy,   ///< hard-concrete noise, one mask per document
  settled  ///< evaluation form
};

/// Names the noise of a pass: the same key draws the same masks on every process.
struct StepKey {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  RankPhase phase = RankPhase::settled;
};

/// Told of every gate that a forward computes, for reports.
class GateSink {
 public:
  virtual ~GateSink() = default;
  virtual void gates(std::int64_t layer, const std::string& router, const at::Tensor& w_TE,
                     const gates::Documents& documents) = 0;
};

/// Everything of a forward beside the hidden stream.
struct Pass {
  const PackedRows& rows;
  StepKey key;
  DecodeCache* cache = nullptr;  ///< decoding: keys, values and prompt gates of the sequences
  GateSink* sink = nullptr;
  const gates::Override* gates = nullptr;  ///< what takes the place of the routers' gates
};

/// A router of this block.
struct BlockRouter {
  std::string name;  ///< of its [router.NAME], with "/SITE" for input per_site
  gates::RouterConfig config;
  std::int64_t experts = 0;
  int group = -1;  ///< the group whose input it reads; -1: the block's first norm
};

/// The input groups of a block, in order.
inline constexpr std::array<const char*, 4> kGroups{"attention_in", "attention_out", "mlp_in",
                                                    "mlp_out"};

/// The trainable part of a block, as configured.
struct BlockAdapters {
  std::array<adapters::GroupBank, 4> groups;  ///< in the order of kGroups; sites may be empty
  std::vector<BlockRouter> routers;
  std::string rank_kind;     ///< kind of the rank gates, empty without
  bool has_ungated = false;  ///< some adapted site has no router: the last gate column is 1

  [[nodiscard]] bool empty() const;
};

struct BlockOutput {
  at::Tensor y_TD;
  at::Tensor statistics_U;  ///< all routers' vectors one after the other, fp64; U = 0: no router
};

class Block {
 public:
  Block(std::int64_t layer, const Architecture& architecture, const LayerWeights& weights);

  /// Installs adapters with zero up-projections, initialised from `seed`.
  void adapt(BlockAdapters adapters, std::uint64_t seed, at::TensorOptions options);
  /// Replaces banks and parameters, after a rank cut or while reading a checkpoint.
  void replace(BlockAdapters adapters, adapters::ParameterSet parameters);

  /// Pure: same arguments and parameters, same bits.
  /// Shapes  x_TD (T, D) -> y_TD (T, D).
  [[nodiscard]] BlockOutput forward(const at::Tensor& x_TD, const Pass& pass) const;

  [[nodiscard]] adapters::ParameterSet& parameters() { return parameters_; }
  [[nodiscard]] const adapters::ParameterSet& parameters() const { return parameters_; }
  [[nodiscard]] const BlockAdapters& adapters() const { return adapters_; }
  [[nodiscard]] std::int64_t layer() const { return layer_; }
  /// Length of statistics_U.
  [[nodiscard]] std::int64_t statistics_size() const;

 private:
  struct Gating;  // the gates that this pass has computed so far
  void run_router(std::size_t index, const at::Tensor& x_TD, Gating& gating,
                  const Pass& pass) const;
  [[nodiscard]] std::vector<at::Tensor> group_linear(int group, const at::Tensor& x_TD,
                                                     Gating& gating, const Pass& pass) const;
  [[nodiscard]] at::Tensor rank_gates(const adapters::GroupBank& group, const Pass& pass) const;
  [[nodiscard]] at::Tensor attention(const std::vector<at::Tensor>& qkv, const Pass& pass) const;

  std::int64_t layer_;
  const Architecture& architecture_;
  const LayerWeights& weights_;
  BlockAdapters adapters_;
  adapters::ParameterSet parameters_;
};

}  // namespace dfmoa::model
