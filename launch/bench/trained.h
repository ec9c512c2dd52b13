// A base model with adapters, and the steps of it that are measured.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "distributed/comm/communicator.h"
#include "launch/bench/bench.h"
#include "src/train/optimizer.h"
#include "src/train/step.h"

namespace dfmoa::launch::bench {

/// One document of random tokens, every one but the last with a target; its prompt is its first
/// eighth.
[[nodiscard]] data::PackedRow full_row(std::int64_t tokens, std::int64_t vocabulary);

/// `--model` on an NF4 base.
[[nodiscard]] std::shared_ptr<const model::BaseModel> base_of(const BenchOptions& options);

/// E8 R8 on all sites behind one router of this kind.
[[nodiscard]] model::AdapterPlan experts_behind(const std::string& kind);

class Trained {
 public:
  Trained(std::shared_ptr<const model::BaseModel> base, const model::AdapterPlan& plan);

  /// Forward, backward, clipping, update.
  void step(const std::vector<data::PackedRow>& rows, bool keep);
  /// Forward and backward to the embedding without adapters: what no fine-tuning can avoid.
  void frozen_step(const data::PackedRow& row);

  [[nodiscard]] const model::Transformer& model() const { return model_; }
  [[nodiscard]] const model::Architecture& architecture() const { return base_->architecture; }
  /// Floating-point operations of one step on a full row, with and without adapters.
  [[nodiscard]] double flops(std::int64_t tokens, std::int64_t loss_tokens) const;

 private:
  std::shared_ptr<const model::BaseModel> base_;
  model::Transformer model_;
  std::vector<train::BlockEntropy> entropy_;
  std::unique_ptr<comm::Communicator> comm_;
  distributed::ExpertTransport transport_;
  train::Optimizer optimizer_{train::TrainConfig{}};
  std::int64_t updates_ = 0;
};

}  // namespace dfmoa::launch::bench
