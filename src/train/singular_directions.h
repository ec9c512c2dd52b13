// What a cut of kind svd does before it chooses.
#pragma once

#include "src/model/transformer.h"

namespace dfmoa::train {

/// Turns the directions of every expert with a rank gate into the singular directions of its
/// update, largest first: sum_n b_n a_n^T stays, the a_n and the b_n become orthogonal with
/// |a_n| = |b_n|, so that the directions of largest |a_n| |b_n| are the best approximation of their
/// number (Eckart and Young 1936). Adam's moments turn with them: the first exactly, the second as
/// if the gradients of the old directions were independent. Directions that the update has no use
/// for (more than its numerical rank) become 0; an update of 0 stays as it is.
/// Computed in fp64 on the host: the same on every process.
void to_singular_directions(model::Transformer& model);

}  // namespace dfmoa::train
