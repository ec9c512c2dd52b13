// A frozen linear of the base model: y = x W^T + bias, and dx = dy W. Nothing of it is trained.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>

namespace dfmoa::adapters {

/// Immutable, shared by every process thread of a host.
class BaseLinear {
 public:
  virtual ~BaseLinear() = default;

  /// Shapes  x_TD (T, D) -> (T, F), in x's type.
  [[nodiscard]] virtual at::Tensor forward(const at::Tensor& x_TD) const = 0;
  /// Shapes  dy_TF (T, F) -> (T, D).
  [[nodiscard]] virtual at::Tensor backward(const at::Tensor& dy_TF) const = 0;
  /// Rows [first, first + count) of weight and bias as a linear of its own, over the same memory.
  [[nodiscard]] virtual std::shared_ptr<const BaseLinear> rows(std::int64_t first,
                                                               std::int64_t count) const = 0;
  /// The same linear with its weight and bias on `device`.
  [[nodiscard]] virtual std::shared_ptr<const BaseLinear> to(at::Device device) const = 0;
  /// Bytes held for weight and bias.
  [[nodiscard]] virtual std::int64_t bytes() const = 0;
  [[nodiscard]] std::int64_t in_features() const { return in_features_; }
  [[nodiscard]] std::int64_t out_features() const { return out_features_; }

 protected:
  BaseLinear(std::int64_t in_features, std::int64_t out_features)
      : in_features_(in_features), out_features_(out_features) {}

 private:
  std::int64_t in_features_;
  std::int64_t out_features_;
};

/// Weight (F, D) as it is, bias (F) or undefined.
[[nodiscard]] std::shared_ptr<const BaseLinear> dense_linear(at::Tensor weight_FD,
                                                             at::Tensor bias_F);

/// Codes (uint8) and absmax (fp32) of an (F, D) weight; bias (F) or undefined. Every use
/// dequantises anew: the dense copy lives for one GEMM, and is never whole for few rows of x.
[[nodiscard]] std::shared_ptr<const BaseLinear> nf4_linear(at::Tensor codes, at::Tensor absmax,
                                                           std::int64_t block,
                                                           std::int64_t out_features,
                                                           std::int64_t in_features,
                                                           at::Tensor bias_F);

}  // namespace dfmoa::adapters
