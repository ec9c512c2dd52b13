// One micro-batch on its device: a packed row of documents, none of which sees another.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "src/gates/documents.h"
#include "src/ops/rotary.h"

namespace dfmoa::data {
struct PackedRow;
}

namespace dfmoa::model {

/// A row of zero tokens is legal: an empty slot of a step.
struct PackedRows {
  at::Tensor token_T;     ///< int64
  at::Tensor position_T;  ///< int64, restarts with every document
  at::Tensor loss_row_X;  ///< int64: tokens that bear loss
  at::Tensor target_X;    ///< int64: their targets
  gates::Documents documents;
  ops::RotaryTable rotary;  ///< undefined where positions are learned

  [[nodiscard]] std::int64_t tokens() const { return token_T.size(0); }
  [[nodiscard]] std::int64_t loss_tokens() const { return loss_row_X.size(0); }
};

/// What `pack` needs to know of the model.
struct PackOptions {
  at::Tensor inverse_frequency;  ///< on the host; undefined where positions are learned
  at::TensorOptions options;     ///< compute type and device
  bool pooled_gates = false;     ///< some router reads a span
};

/// Without a marked span, gates of scope span read the prompt but its last token, from which the
/// answer is predicted.
/// Throws ContentError "file:line: ..." for a document in which such a gate has no token to read.
[[nodiscard]] PackedRows pack(const data::PackedRow& row, const PackOptions& options);

/// New tokens of several sequences, for decoding: sequence d continues at position start[d]; one
/// without new tokens takes no part. Where all start at 0, gates of scope span can be computed:
/// they read spans[d], tokens of the sequence. Without spans, or for an empty one, they read what
/// they read in training: every token of the prompt but the last, from which the answer is
/// predicted. Throws ContentError for a gate of scope span without a token to read.
[[nodiscard]] PackedRows pack_sequences(
    const std::vector<std::vector<std::int32_t>>& tokens, const std::vector<std::int64_t>& start,
    const std::vector<std::pair<std::int64_t, std::int64_t>>& spans, const PackOptions& options);

}  // namespace dfmoa::model
