// The port between a block and where its experts are. Low here; distributed/expert_transport
// implements it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "src/gates/documents.h"
#include "src/model/head_exchange.h"
#include "src/model/trained_part.h"

namespace dfmoa::model {

class Block;

/// Tokens that came to the experts of this process, from itself and from others.
struct ArrivedTokens {
  at::Tensor x_TD;
  at::Tensor gate_TG;  ///< of experts that lie elsewhere unread; undefined: every gate is 1
  std::vector<std::int64_t> document_id;  ///< of every run of tokens of one document
  at::Tensor row_T;                       ///< (T) int32: run of each token
  at::Tensor row_begin;                   ///< (runs + 1) int32
  at::Tensor whole;                       ///< (2) int32: all tokens as one row
  std::shared_ptr<const void> route;      ///< the way back
};

/// Classical expert parallelism: tokens travel to experts, and what these add travels back.
class TokenExchange {
 public:
  virtual ~TokenExchange() = default;
  /// Under autograd; every process calls it for the same linears, with any number of tokens.
  /// `wants_documents`: some gate differs from document to document.
  [[nodiscard]] virtual ArrivedTokens send(const Block& block, int group, const at::Tensor& x_TD,
                                           const at::Tensor& gate_TG,
                                           const gates::Documents& documents,
                                           bool wants_documents) = 0;
  /// What experts everywhere add to the tokens that `send` took.
  /// Shapes  (arrived tokens, F) -> (T, F).
  [[nodiscard]] virtual at::Tensor bring_back(const ArrivedTokens& arrived,
                                              const at::Tensor& y_TF) = 0;
};

/// Where the experts of a block are while it runs.
class ExpertSource {
 public:
  virtual ~ExpertSource() = default;
  /// What `block` computes with, in its place until `release`. `next` runs after it: it may be
  /// fetched ahead. Every process fetches the same blocks in the same order.
  [[nodiscard]] virtual const TrainedPart& fetch(const Block& block, const Block* next) = 0;
  virtual void release(const Block& block) = 0;
  /// Null where experts come to the tokens.
  [[nodiscard]] virtual TokenExchange* tokens() = 0;
  /// Null where attention heads run where the tokens are.
  [[nodiscard]] virtual HeadExchange* heads() = 0;
};

}  // namespace dfmoa::model
