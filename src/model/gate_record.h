// The gates of one pass, router by router, for reports.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "src/model/transformer.h"

namespace dfmoa::model {

/// A router by the names under which a GateSink hears of it. It must exist.
[[nodiscard]] const BlockRouter& find_router(const Transformer& model, std::int64_t layer,
                                             const std::string& name);

/// Keeps what a forward tells. The model must outlive the record.
class GateRecord : public GateSink {
 public:
  struct Entry {
    std::int64_t layer = 0;
    const BlockRouter* router = nullptr;
    at::Tensor w_TE;  ///< fp64, on the host
  };

  explicit GateRecord(const Transformer& model) : model_(model) {}
  void gates(std::int64_t layer, const std::string& router, const at::Tensor& w_TE,
             const gates::Documents& documents) override;

  /// In the order of the blocks.
  [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }

  /// Mean gate of every expert over the routers that have it, and of every head over the routers
  /// of heads. Undefined where the model has no such router.
  /// Shapes  -> (T, largest E) or (T, H), fp64.
  [[nodiscard]] at::Tensor mean_of_experts() const { return mean(/*of_heads=*/false); }
  [[nodiscard]] at::Tensor mean_of_heads() const { return mean(/*of_heads=*/true); }

 private:
  [[nodiscard]] at::Tensor mean(bool of_heads) const;

  const Transformer& model_;
  std::vector<Entry> entries_;
};

}  // namespace dfmoa::model
