// Packed rows: several documents side by side, none of which attends to another.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/data/sample.h"

namespace dfmoa::data {

/// One micro-batch. Vectors per token have T elements, per document one element a document.
struct PackedRow {
  std::vector<std::int64_t> token_T;
  std::vector<std::int64_t> position_T;         ///< restarts with every document
  std::vector<std::int64_t> target_T;           ///< next token of the same document; -1: no loss
  std::vector<std::int64_t> document_begin{0};  ///< first token of every document, and the end
  std::vector<std::int64_t> document_id;        ///< global
  std::vector<std::int64_t> prompt_end;         ///< first token whose target bears loss
  std::vector<std::int64_t> span_begin;  ///< tokens of the marked instruction; empty: not marked
  std::vector<std::int64_t> span_end;
  std::vector<std::string> task;
  std::vector<std::string> where;  ///< "file:line"
  std::int64_t first_token = 0;    ///< global index of token 0 = row * tokens of a row

  [[nodiscard]] std::int64_t tokens() const { return document_begin.back(); }
  [[nodiscard]] std::int64_t documents() const {
    return static_cast<std::int64_t>(document_id.size());
  }
  [[nodiscard]] std::int64_t loss_tokens() const;

  /// Appends tokens [begin, end) of the sample as one document. Its last token keeps its target
  /// when the sample goes on, so that cutting a sample into pieces loses no target. Throws
  /// ShapeError unless 0 <= begin < end <= tokens of the sample.
  void append(const Sample& sample, std::int64_t id, std::int64_t begin, std::int64_t end);
};

}  // namespace dfmoa::data
