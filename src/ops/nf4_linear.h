// A product with NF4 weights for few rows of x, as a decoding step has them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dfmoa::ops {

/// Whole blocks that cover a weight: of a slice of rows the first weight may stand inside one.
struct Nf4Blocks {
  at::Tensor codes;          ///< (ceil(count/2)) uint8
  at::Tensor absmax;         ///< (ceil(count/block)) fp32
  std::int64_t block = 0;    ///< weights a block
  std::int64_t skipped = 0;  ///< weights of the first block that belong to the rows before
  std::int64_t count = 0;    ///< weights of all blocks, the last of which may be short
};

/// Up to so many rows of x the product below is the faster form: a dense copy of the weight would
/// cost more than the multiplication.
inline constexpr std::int64_t kNf4FewRows = 16;

/// y = x W^T + bias on the CPU. W is never whole in memory: a panel of its rows at a time is
/// dequantised into the cache and multiplied there. The same bits for any number of threads.
///
/// Shapes  x_TD (T, D) fp32, bf16 or fp64; (F, D) weights, bias (F) or undefined -> (T, F).
/// Throws  ShapeError as nf4_dequantize does, where the blocks do not hold the matrix, and for an x
///         that is not on the CPU.
[[nodiscard]] at::Tensor nf4_linear(const at::Tensor& x_TD, const Nf4Blocks& weight,
                                    const at::Tensor& bias_F, std::int64_t out_features);

}  // namespace dfmoa::ops
