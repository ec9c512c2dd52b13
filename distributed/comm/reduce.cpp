#include "distributed/comm/reduce.h"

#include <cstring>

#include "src/base/error.h"

namespace dfmoa::comm {
namespace {

template <class Value>
struct Sum {
  Value operator()(Value a, Value b) const { return a + b; }
};
template <class Value>
struct Max {  // b != b: only a NaN, which must not get lost
  Value operator()(Value a, Value b) const { return b > a || b != b ? b : a; }
};
template <class Value>
struct Min {
  Value operator()(Value a, Value b) const { return b < a || b != b ? b : a; }
};

template <class Value, class Combine>
void reduce_values(Value* out, std::span<const void* const> parts, std::int64_t count,
                   Combine combine) {
  if (out != parts[0] && count > 0) {
    std::memcpy(out, parts[0], static_cast<std::size_t>(count) * sizeof(Value));
  }
  for (const void* const part : parts.subspan(1)) {
    const auto* values = static_cast<const Value*>(part);
    for (std::int64_t i = 0; i < count; ++i) out[i] = combine(out[i], values[i]);
  }
}

template <class Combine>
void reduce_bf16(std::uint16_t* out, std::span<const void* const> parts, std::int64_t count,
                 Combine combine) {
  const auto at = [](const void* part, std::int64_t i) {
    return base::from_bf16(static_cast<const std::uint16_t*>(part)[i]);
  };
  for (std::int64_t i = 0; i < count; ++i) {
    float value = at(parts[0], i);
    for (const void* const part : parts.subspan(1)) value = combine(value, at(part, i));
    out[i] = base::to_bf16(value);
  }
}

template <template <class> class Combine>
void reduce_typed(void* out, std::span<const void* const> parts, std::int64_t count,
                  base::DType dtype) {
  switch (dtype) {
    case base::DType::f64:
      return reduce_values(static_cast<double*>(out), parts, count, Combine<double>());
    case base::DType::f32:
      return reduce_values(static_cast<float*>(out), parts, count, Combine<float>());
    case base::DType::i64:
      return reduce_values(static_cast<std::int64_t*>(out), parts, count, Combine<std::int64_t>());
    case base::DType::i32:
      return reduce_values(static_cast<std::int32_t*>(out), parts, count, Combine<std::int32_t>());
    case base::DType::bf16:
      return reduce_bf16(static_cast<std::uint16_t*>(out), parts, count, Combine<float>());
    case base::DType::f16:
    case base::DType::u8:
      break;
  }
  throw base::ShapeError("reducing " + base::name_of(dtype) +
                         ": expected F64, F32, BF16, I64 or I32");
}

}  // namespace

bool can_reduce(base::DType dtype) {
  return dtype != base::DType::f16 && dtype != base::DType::u8;
}

void reduce_parts(void* out, std::span<const void* const> parts, std::int64_t count,
                  base::DType dtype, Op op) {
  if (parts.empty()) throw base::ShapeError("reducing: there is no part");
  switch (op) {
    case Op::sum:
      return reduce_typed<Sum>(out, parts, count, dtype);
    case Op::max:
      return reduce_typed<Max>(out, parts, count, dtype);
    case Op::min:
      return reduce_typed<Min>(out, parts, count, dtype);
  }
}

}  // namespace dfmoa::comm
