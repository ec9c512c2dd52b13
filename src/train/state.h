// A model's trained tensors as named state: what a checkpoint holds, whoever wrote it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "checkpoints/reader.h"
#include "src/base/state_tree.h"
#include "src/train/step.h"

namespace dfmoa::train {

/// Every block's values and moments in host memory, as far as this process holds them.
struct HostParameters {
  /// The gates of a mask of attention: one array of a checkpoint, whoever owns the heads.
  struct Mask {
    at::Tensor value_N, moment1_N, moment2_N;
  };
  std::vector<adapters::ParameterSet> held;
  std::vector<std::map<std::string, Mask>> masks;  ///< per block, by parameter; where sharded
};

/// Entries layer/L/SITE/expert/E/{A,B,direction_id,rank_logit},
/// layer/L/router/NAME/{weight,entropy} and, with `moments`, the same under optimizer/moment1 and
/// optimizer/moment2: of the whole model, with the process that owns them where experts are
/// sharded, and data where they are held. Returns the tensors in host memory that the entries point
/// to: keep them while `tree` is used. Where the model computes there they are its own, valid until
/// the next rank cut. Collective where experts are sharded.
HostParameters list_model(model::Transformer& model, std::vector<BlockEntropy>& entropy,
                          bool moments, base::StateTree& tree,
                          distributed::ExpertTransport* transport = nullptr);

/// After a tree was loaded into: the model computes with these parameters from now on.
void take_parameters(model::Transformer& model, const HostParameters& parameters);

/// Shrinks the model's banks to the directions and dimensions that a checkpoint holds.
/// Throws ContentError where it holds no such expert, or others than the configuration makes.
void match_ranks(model::Transformer& model, const checkpoints::Checkpoint& checkpoint);

/// XXH3-128 over every trained tensor's bytes in name order: equal means bitwise equal, and the
/// same for every number of processes. Collective.
[[nodiscard]] std::string parameters_hash(model::Transformer& model,
                                          std::vector<BlockEntropy>& entropy,
                                          distributed::ExpertTransport& transport);

/// One entropy weight per router.
[[nodiscard]] std::vector<BlockEntropy> make_entropy(const model::Transformer& model);

}  // namespace dfmoa::train
