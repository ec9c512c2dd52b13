// A base model with its adapters: embed, blocks, head. The trainer walks the blocks itself.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "src/adapters/config.h"
#include "src/data/packing.h"
#include "src/gates/config.h"
#include "src/model/block.h"

namespace dfmoa::model {

/// Every [adapter.NAME], [router.NAME] and [rank.NAME] of a run, by name, and its [dfa].
struct AdapterPlan {
  std::map<std::string, adapters::AdapterConfig> adapters;
  std::map<std::string, gates::RouterConfig> routers;
  std::map<std::string, adapters::RankGateConfig> rank_gates;
  DfaConfig dfa;
};

struct HeadResult {
  at::Tensor ce_sum;  ///< () fp64: nats, summed over the loss-bearing tokens, not yet read
  at::Tensor nll_X;   ///< (X) fp64
  at::Tensor best_X;  ///< (X) most likely token
  at::Tensor dx_TD;   ///< gradient of ce_sum * inverse_n_loss, undefined unless wanted
};

/// What a process holds of a block's banks; empty: all of them.
using HeldBanks =
    std::function<BlockAdapters(const BlockAdapters& whole, const BlockShape&, std::int64_t layer)>;

class Transformer {
 public:
  explicit Transformer(std::shared_ptr<const BaseModel> base);

  /// Installs adapters as planned, initialised from `seed`.
  /// Throws UsageError for a site or layer that matches nothing, an unknown router or rank gate,
  /// two adapters on one linear, gates that do not fit their experts, or another router beside one
  /// that mixes logits. `held`: see Block::adapt.
  void adapt(const AdapterPlan& plan, std::uint64_t seed, const HeldBanks& held = {});
  /// Where experts are from now on; null: in the blocks. The source outlives its use.
  void use_experts(ExpertSource* experts) { experts_ = experts; }
  [[nodiscard]] ExpertSource* experts() const { return experts_; }

  /// Throws ContentError "file:line: ..." for a document longer than the model's positions, with a
  /// token outside its embedding, or in which a gate per document has no token to read.
  [[nodiscard]] PackedRows pack(const data::PackedRow& row) const;
  /// As model::pack_sequences. Throws ContentError also for a sequence that is longer than the
  /// model's positions.
  [[nodiscard]] PackedRows pack_sequences(
      const std::vector<std::vector<std::int32_t>>& tokens, const std::vector<std::int64_t>& start,
      const std::vector<std::pair<std::int64_t, std::int64_t>>& spans = {}) const;

  /// Shapes  -> (T, D).
  [[nodiscard]] at::Tensor embed(const PackedRows& rows) const;
  [[nodiscard]] std::vector<Block>& blocks() { return blocks_; }
  [[nodiscard]] const std::vector<Block>& blocks() const { return blocks_; }
  /// The stream that head and logits read, from what left the top block: itself, or, in a model
  /// that mixes logits, the copies' final-normed streams mixed by `gate_TE`.
  [[nodiscard]] at::Tensor mix(const at::Tensor& x_TD, const at::Tensor& gate_TE) const;
  /// Final norm (of a stream that is not mixed), vocabulary head and cross-entropy on the
  /// loss-bearing rows only, in chunks.
  [[nodiscard]] HeadResult head(const at::Tensor& x_TD, const PackedRows& rows,
                                double inverse_n_loss, bool want_gradient) const;

  /// The gates that `hidden` runs under from now on; training is not touched.
  /// Throws UsageError for other gates than soft where there is no router, or where a router has
  /// not the experts that are asked for.
  void override_gates(gates::Override gates);

  /// The base alone, which it shares with this model.
  [[nodiscard]] Transformer without_adapters() const { return Transformer(base_); }
  /// Whether some router reads the prompt of its document, or a span of it.
  [[nodiscard]] bool reads_prompts() const {
    return scopes_.size() > (scopes_.contains("first_token") ? 1U : 0U);
  }

  /// Whether experts are passes of their own (RouterConfig::mix).
  [[nodiscard]] bool mixes_logits() const { return copies_ > 0; }

  /// All blocks without gradients, mixed.
  [[nodiscard]] at::Tensor hidden(const PackedRows& rows, DecodeCache* cache = nullptr,
                                  GateSink* sink = nullptr) const;
  /// Logits (X, V) of the given rows of the hidden stream.
  [[nodiscard]] at::Tensor logits(const at::Tensor& x_TD, const at::Tensor& row_X) const;

  /// Lowest adapted block; num_layers where nothing is adapted.
  [[nodiscard]] std::int64_t lowest_adapted() const;
  [[nodiscard]] std::int64_t trainable_parameters() const;
  [[nodiscard]] const BaseModel& base() const { return *base_; }
  [[nodiscard]] at::ScalarType dtype() const { return base_->embedding_VD.scalar_type(); }

 private:
  [[nodiscard]] PackOptions pack_options() const;
  [[nodiscard]] at::Tensor normed(const at::Tensor& x_XD) const;
  void check(const data::PackedRow& row) const;

  std::shared_ptr<const BaseModel> base_;
  std::vector<Block> blocks_;
  gates::Override gates_;
  std::set<std::string> scopes_;  // of all gates per document
  std::int64_t copies_ = 0;       // experts whose logits are mixed
  ExpertSource* experts_ = nullptr;
};

}  // namespace dfmoa::model
