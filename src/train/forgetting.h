// What training cost the base model: its perplexity on text of its own kind, before and after.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/data/packing.h"
#include "src/data/sample.h"
#include "src/model/transformer.h"

namespace dfmoa::train {

struct Forgetting {
  double base_perplexity = 1;  ///< of the base without adapters
  double perplexity = 1;       ///< of the model
  std::int64_t tokens = 0;     ///< predicted
};

/// A file of text as rows of at most `tokens` tokens: lines of {"text"} where its name ends in
/// .jsonl or .jsonl.zst, each with its end token, else one text (also .zst). A longer text is cut
/// into pieces that do not see each other; every token but a text's first is predicted. With
/// `halves` the first half of a piece is read only and marked as what gates of scope span read.
/// Throws UsageError for a missing file, ContentError for one without a token to predict, for a
/// line of another shape, and for text that is not UTF-8.
[[nodiscard]] std::vector<data::PackedRow> rows_of_text(const std::string& path,
                                                        const data::SampleReader& reader,
                                                        std::int64_t tokens, bool halves);

/// Both perplexities on the same rows, which are at most as long as the model's positions.
/// Throws MachineError for a loss that is not finite.
[[nodiscard]] Forgetting measure_forgetting(const model::Transformer& model,
                                            const std::vector<data::PackedRow>& rows);

}  // namespace dfmoa::train
