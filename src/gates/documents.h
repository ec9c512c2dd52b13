// The documents of a packed row, as gates and attention need them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace dfmoa::gates {

struct Documents {
  std::vector<std::int64_t> begin{0};    ///< first token of every document, and the end
  std::vector<std::int64_t> id;          ///< global number of every document
  std::vector<std::int64_t> span_begin;  ///< tokens that a gate of scope span pools
  std::vector<std::int64_t> span_end;
  at::Tensor row_T;         ///< (T) int32: document of each token
  at::Tensor begin_tensor;  ///< (documents + 1) int32: `begin`
  at::Tensor whole_tensor;  ///< (2) int32: all tokens as one row, 0 and their number
  at::Tensor pool_DT;       ///< (documents, T): row d averages the span of document d

  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(id.size()); }
  [[nodiscard]] std::int64_t tokens() const { return begin.back(); }
};

/// Fills the tensors from the vectors. Throws ContentError for a document whose span is empty or
/// outside it (only where `pooled`: a router of scope span will read it).
void finish(Documents& documents, bool pooled, at::TensorOptions options);

}  // namespace dfmoa::gates
