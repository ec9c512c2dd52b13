// One micro-batch on its device: a packed row of documents, none of which sees another.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "src/gates/documents.h"
#include "src/ops/rotary.h"

namespace dfmoa::data {
struct PackedRow;
}

namespace dfmoa::model {

/// A row that stands once per expert, copy after copy, in a model that mixes their logits.
struct ExpertCopies {
  gates::Documents documents;  ///< of the first copy: what routers read
  at::Tensor gate_TE;          ///< 1 for the expert of each token's copy, else 0
};

/// A row of zero tokens is legal: an empty slot of a step. With copies, T counts the tokens of all,
/// while rows that bear loss are told of the first: those of the mixed hidden stream.
struct PackedRows {
  at::Tensor token_T;     ///< int64
  at::Tensor position_T;  ///< int64, restarts with every document
  at::Tensor loss_row_X;  ///< int64: tokens that bear loss
  at::Tensor target_X;    ///< int64: their targets
  gates::Documents documents;
  ops::RotaryTable rotary;  ///< undefined where positions are learned
  std::optional<ExpertCopies> copies;

  /// Every document once.
  [[nodiscard]] const gates::Documents& read_by_routers() const {
    return copies ? copies->documents : documents;
  }
  [[nodiscard]] std::int64_t tokens() const { return token_T.size(0); }
  [[nodiscard]] std::int64_t loss_tokens() const { return loss_row_X.size(0); }
};

/// What `pack` needs to know of the model.
struct PackOptions {
  at::Tensor inverse_frequency;  ///< on the host; undefined where positions are learned
  at::TensorOptions options;     ///< compute type and device
  std::set<std::string> scopes;  ///< of the gates per document that will read the rows
  std::int64_t copies = 0;       ///< experts whose logits are mixed; 0: none are
};

/// Throws ContentError "file:line: ..." for a document in which a gate per document has no token to
/// read.
[[nodiscard]] PackedRows pack(const data::PackedRow& row, const PackOptions& options);

/// New tokens of several sequences, for decoding: sequence d continues at position start[d]; one
/// without new tokens takes no part. Where all start at 0, gates per document can be computed:
/// scope span reads spans[d], tokens of the sequence; the other scopes, and span without one, what
/// they read in training: the prompt without its last token, from which the answer is predicted.
/// Throws ContentError for such a gate without a token to read.
[[nodiscard]] PackedRows pack_sequences(
    const std::vector<std::vector<std::int32_t>>& tokens, const std::vector<std::int64_t>& start,
    const std::vector<std::pair<std::int64_t, std::int64_t>>& spans, const PackOptions& options);

}  // namespace dfmoa::model
