// One transformer block with its adapters: norm, attention, norm, MLP, residuals.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "src/adapters/mixture_linear.h"
#include "src/adapters/rank_gate.h"
#include "src/gates/override.h"
#include "src/model/attention.h"
#include "src/model/base_model.h"
#include "src/model/expert_source.h"
#include "src/model/head_exchange.h"
#include "src/model/packed_rows.h"

namespace dfmoa::model {

using adapters::RankPhase;

/// Names the noise of a pass: the same key draws the same masks on every process.
struct StepKey {
  std::uint64_t seed = 0;
  std::int64_t step = 0;
  RankPhase phase = RankPhase::settled;
  RankPhase dimension_phase = RankPhase::settled;  ///< of the gates of head dimensions
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
  const TrainedPart* part = nullptr;       ///< fetched for this pass; null: what the block holds
  TokenExchange* tokens = nullptr;         ///< experts that are not in `part` get tokens sent
  HeadExchange* heads = nullptr;           ///< gated heads run elsewhere; null: here
};

struct BlockOutput {
  at::Tensor y_TD;
  at::Tensor statistics_U;  ///< all routers' vectors one after the other, fp64; U = 0: no router
  at::Tensor mix_TE;  ///< gates of the experts' logits; defined by the block of their router alone
};

class Block {
 public:
  Block(std::int64_t layer, const Architecture& architecture, const LayerWeights& weights);

  /// Installs adapters with zero up-projections, initialised from `seed`; of `whole`, this process
  /// holds what `held` leaves.
  void adapt(BlockAdapters whole, BlockAdapters held, std::uint64_t seed,
             at::TensorOptions options);
  /// Replaces banks and parameters, after a rank cut or while reading a checkpoint.
  void replace(BlockAdapters whole, TrainedPart held);
  /// After ids of kept dimensions were changed in place: those that a checkpoint holds.
  void index_dimensions();

  /// Pure: same arguments and parameters, same bits.
  /// Shapes  x_TD (T, D) -> y_TD (T, D).
  [[nodiscard]] BlockOutput forward(const at::Tensor& x_TD, const Pass& pass) const;

  [[nodiscard]] adapters::ParameterSet& parameters() { return held_.parameters; }
  [[nodiscard]] const adapters::ParameterSet& parameters() const { return held_.parameters; }
  /// What this process holds of the block, the same as `whole` unless experts are sharded.
  [[nodiscard]] const BlockAdapters& adapters() const { return held_.adapters; }
  [[nodiscard]] const TrainedPart& held() const { return held_; }
  /// The banks of all processes.
  [[nodiscard]] const BlockAdapters& whole() const { return whole_; }
  [[nodiscard]] BlockShape shape() const;
  [[nodiscard]] std::int64_t layer() const { return layer_; }
  /// Length of statistics_U.
  [[nodiscard]] std::int64_t statistics_size() const;

 private:
  struct Gating;  // the gates that this pass has computed so far
  [[nodiscard]] const TrainedPart& part(const Pass& pass) const {
    return pass.part != nullptr ? *pass.part : held_;
  }
  void run_router(std::size_t index, const at::Tensor& input_TD, Gating& gating,
                  const Pass& pass) const;
  /// The gates of the experts of a group (T, G), undefined where every gate is 1.
  [[nodiscard]] at::Tensor group_gates(int group, const at::Tensor& x_TD, Gating& gating,
                                       const Pass& pass) const;
  /// What the adapters of a group share beside their gates: A and its rank gates, one row of these
  /// for each of `documents` under noise.
  [[nodiscard]] adapters::MixtureGroup group_operand(const adapters::GroupBank& bank,
                                                     const std::vector<std::int64_t>& documents,
                                                     const Pass& pass) const;
  [[nodiscard]] std::vector<at::Tensor> group_linear(int group, const at::Tensor& x_TD,
                                                     Gating& gating, const Pass& pass) const;
  /// The same with the experts where their tokens were sent.
  [[nodiscard]] std::vector<at::Tensor> remote_linear(
      int group, const at::Tensor& x_TD, const at::Tensor& gate_TG,
      const std::vector<adapters::MixtureSite>& sites, const Pass& pass) const;
  [[nodiscard]] bool gates_documents(const adapters::GroupBank& bank, const Pass& pass) const;

  // block_attention.cpp
  struct Masks;  // the dimension gates of this pass
  [[nodiscard]] Masks dimension_gates(const Pass& pass) const;
  [[nodiscard]] at::Tensor attention(const std::vector<at::Tensor>& qkv, const Gating& gating,
                                     const Pass& pass) const;
  [[nodiscard]] at::Tensor literal_attention(const at::Tensor& x_TD, const Gating& gating,
                                             const Pass& pass) const;
  [[nodiscard]] at::Tensor attend(const at::Tensor& q_THC, const at::Tensor& k_TKC,
                                  const at::Tensor& v_TKC, const Pass& pass) const;
  /// (T, H), undefined without a router of heads.
  [[nodiscard]] at::Tensor head_gates(const Gating& gating) const;
  void add_prompts(at::Tensor& out_THC, const at::Tensor& q_THC, const Gating& gating,
                   const Pass& pass) const;
  void add_parallels(at::Tensor& mlp_TD, const at::Tensor& x_TD, const Gating& gating,
                     const Pass& pass) const;

  std::int64_t layer_;
  const Architecture& architecture_;
  const LayerWeights& weights_;
  BlockAdapters whole_;
  TrainedPart held_;
};

}  // namespace dfmoa::model
