// The arithmetic of every reduction, on one process: the same order everywhere gives the same bits.
#pragma once

#include <cstdint>
#include <span>

#include "src/base/dtype.h"

namespace dfmoa::comm {

enum class Op { sum, max, min };

/// f64, f32, bf16, i64, i32.
[[nodiscard]] bool can_reduce(base::DType dtype);

/// out[i] = parts[0][i] op parts[1][i] op ..., in this order. bf16 is reduced in fp32 and rounded
/// once. A NaN in any part gives a NaN, for max and min too. `out` may be parts[0], no other part.
/// Throws ShapeError if there is no part or nothing reduces `dtype`.
void reduce_parts(void* out, std::span<const void* const> parts, std::int64_t count,
                  base::DType dtype, Op op);

}  // namespace dfmoa::comm
