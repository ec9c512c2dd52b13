// A model's trained tensors as named state: what a checkpoint holds, whoever wrote it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "checkpoints/reader.h"
#include "src/base/state_tree.h"
#include "src/train/step.h"

namespace dfmoa::train {

/// Every block's values and moments in host memory.
using HostParameters = std::vector<adapters::ParameterSet>;

/// Entries layer/L/SITE/expert/E/{A,B,direction_id,rank_logit},
/// layer/L/router/NAME/{weight,entropy} and, with `moments`, the same under optimizer/moment1 and
/// optimizer/moment2. Returns the tensors in host memory that the entries point to: keep them while
/// `tree` is used. Where the model computes there they are its own, valid until the next rank cut.
HostParameters list_model(model::Transformer& model, std::vector<BlockEntropy>& entropy,
                          bool moments, base::StateTree& tree);

/// After a tree was loaded into: the model computes with these parameters, and with the ids of
/// dimensions that were read, from now on.
void take_parameters(model::Transformer& model, const HostParameters& parameters);

/// Shrinks the model's banks to the ranks that a checkpoint holds.
/// Throws ContentError where it holds no such expert, or more directions than the configuration.
void match_ranks(model::Transformer& model, const checkpoints::Checkpoint& checkpoint);

/// XXH3-128 over every trained tensor's bytes in name order: equal means bitwise equal.
[[nodiscard]] std::string parameters_hash(model::Transformer& model,
                                          std::vector<BlockEntropy>& entropy);

/// One entropy weight per router.
[[nodiscard]] std::vector<BlockEntropy> make_entropy(const model::Transformer& model);

}  // namespace dfmoa::train
