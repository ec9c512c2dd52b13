// The documents of a packed row, as gates and attention need them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace dfmoa::gates {

struct Documents {
  std::vector<std::int64_t> begin{0};    ///< first token of every document, and the end
  std::vector<std::int64_t> id;          ///< global number of every document
  std::vector<std::int64_t> prompt_end;  ///< first token whose target bears loss
  std::vector<std::int64_t> span_begin;  ///< tokens of the marked instruction; empty: not marked
  std::vector<std::int64_t> span_end;
  std::vector<std::string> where;  ///< "file:line" of every document, or empty
  at::Tensor row_T;                ///< (T) int32: document of each token
  at::Tensor begin_tensor;         ///< (documents + 1) int32: `begin`
  at::Tensor whole_tensor;         ///< (2) int32: all tokens as one row, 0 and their number
  /// By scope (documents, T): row d averages what a gate of this scope reads of document d.
  std::map<std::string, at::Tensor> pool_DT;

  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(id.size()); }
  [[nodiscard]] std::int64_t tokens() const { return begin.back(); }
};

/// Fills the tensors from the vectors. `scopes`: those of gates per document that will read them,
/// each from span (the marked instruction, else as prompt_mean), prompt_mean (every token before
/// the first that bears loss), last_prompt (the last of those) and first_token.
/// Throws ContentError for a document in which such a gate has no token to read.
void finish(Documents& documents, const std::set<std::string>& scopes, at::TensorOptions options);

/// Sums until now of the sequences of a batch that is being decoded.
struct RunningSum {
  at::Tensor sum_DD;  ///< (sequences, D)
  std::vector<std::int64_t> count;
};

/// Row t is the mean of its document's rows until t. With `carried`, which grows, documents go on
/// from earlier calls.
/// Shapes  x_TD (T, D) -> (T, D).
[[nodiscard]] at::Tensor running_mean(const at::Tensor& x_TD, const Documents& documents,
                                      RunningSum* carried = nullptr);

}  // namespace dfmoa::gates
