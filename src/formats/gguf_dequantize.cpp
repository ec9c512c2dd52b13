#include "src/formats/gguf_dequantize.h"

#include <array>
#include <cstring>

#include "src/base/dtype.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::formats {
namespace {

using Bytes = const unsigned char*;

template <class Number>
Number at(Bytes bytes) {
  Number value;
  std::memcpy(&value, bytes, sizeof(value));
  return value;
}

float half_at(Bytes bytes) {
  return base::from_f16(at<std::uint16_t>(bytes));
}

void from_f32(Bytes block, float* out) {
  *out = at<float>(block);
}
void from_f16(Bytes block, float* out) {
  *out = half_at(block);
}
void from_bf16(Bytes block, float* out) {
  *out = base::from_bf16(at<std::uint16_t>(block));
}

// Blocks of 32: fp16 scale d [, fp16 minimum m] [, fifth bits], codes. Code j of the first half
// lies in the low nibble of byte j, code j + 16 in the high one.

void from_q8_0(Bytes block, float* out) {
  const float d = half_at(block);
  for (int j = 0; j < 32; ++j) out[j] = d * static_cast<float>(at<std::int8_t>(block + 2 + j));
}

void from_q4_0(Bytes block, float* out) {
  const float d = half_at(block);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((block[2 + j] & 15) - 8);
    out[j + 16] = d * static_cast<float>((block[2 + j] >> 4) - 8);
  }
}

void from_q4_1(Bytes block, float* out) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(block[4 + j] & 15) + m;
    out[j + 16] = d * static_cast<float>(block[4 + j] >> 4) + m;
  }
}

/// Code of 5 bits: its low nibble, and bit `index` of the block's fifth bits.
int five_bits(int nibble, std::uint32_t fifth, int index) {
  return nibble | static_cast<int>((fifth >> index) & 1U) << 4;
}

void from_q5_0(Bytes block, float* out) {
  const float d = half_at(block);
  const auto fifth = at<std::uint32_t>(block + 2);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(five_bits(block[6 + j] & 15, fifth, j) - 16);
    out[j + 16] = d * static_cast<float>(five_bits(block[6 + j] >> 4, fifth, j + 16) - 16);
  }
}

void from_q5_1(Bytes block, float* out) {
  const float d = half_at(block);
  const float m = half_at(block + 2);
  const auto fifth = at<std::uint32_t>(block + 4);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(five_bits(block[8 + j] & 15, fifth, j)) + m;
    out[j + 16] = d * static_cast<float>(five_bits(block[8 + j] >> 4, fifth, j + 16)) + m;
  }
}

// Blocks of 256 in 8 groups of 32, each with a scale and a minimum of 6 bits, packed into 12 bytes.

struct ScaleAndMinimum {
  float scale;
  float minimum;
};

ScaleAndMinimum group_of(Bytes block, int group) {
  const Bytes packed = block + 4;
  int scale = 0;
  int minimum = 0;
  if (group < 4) {
    scale = packed[group] & 63;
    minimum = packed[group + 4] & 63;
  } else {  // low 4 bits in the third quartet, high 2 bits on top of the first and the second
    scale = (packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4;
    minimum = (packed[group + 4] >> 4) | (packed[group] >> 6) << 4;
  }
  return {half_at(block) * static_cast<float>(scale),
          half_at(block + 2) * static_cast<float>(minimum)};
}

void from_q4_k(Bytes block, float* out) {
  for (int group = 0; group < 8; ++group) {
    const auto [scale, minimum] = group_of(block, group);
    const Bytes codes = block + 16 + (group / 2) * 32;
    const int shift = (group % 2) * 4;
    for (int j = 0; j < 32; ++j) {
      *out++ = scale * static_cast<float>((codes[j] >> shift) & 15) - minimum;
    }
  }
}

void from_q5_k(Bytes block, float* out) {
  const Bytes fifth = block + 16;
  for (int group = 0; group < 8; ++group) {
    const auto [scale, minimum] = group_of(block, group);
    const Bytes codes = block + 48 + (group / 2) * 32;
    const int shift = (group % 2) * 4;
    for (int j = 0; j < 32; ++j) {
      const int code = five_bits((codes[j] >> shift) & 15, fifth[j], group);
      *out++ = scale * static_cast<float>(code) - minimum;
    }
  }
}

void from_q6_k(Bytes block, float* out) {  // low nibbles, high 2 bits, 16 scales, fp16 scale
  const Bytes scales = block + 192;
  const float d = half_at(block + 208);
  for (int group = 0; group < 8; ++group) {
    const int half = group / 4;
    const int quarter = group % 4;
    const Bytes low = block + half * 64 + (quarter % 2) * 32;
    const Bytes high = block + 128 + half * 32;
    for (int j = 0; j < 32; ++j) {
      const float scale = d * static_cast<float>(at<std::int8_t>(scales + group * 2 + j / 16));
      const int code = ((low[j] >> (quarter / 2 * 4)) & 15) | ((high[j] >> (quarter * 2)) & 3) << 4;
      *out++ = scale * static_cast<float>(code - 32);
    }
  }
}

/// The loop over blocks, compiled once per type so that each block's loop is inlined.
template <void (*from_block)(Bytes, float*)>
void each_block(Bytes bytes, std::int64_t blocks, const GgufBlock& layout, float* out) {
  for (std::int64_t i = 0; i < blocks; ++i) {
    from_block(bytes, out);
    bytes += layout.bytes;
    out += layout.elements;
  }
}

using Loop = void (*)(Bytes, std::int64_t, const GgufBlock&, float*);

Loop loop_of(GgufType type) {
  switch (type) {
    case GgufType::f32:
      return each_block<from_f32>;
    case GgufType::f16:
      return each_block<from_f16>;
    case GgufType::bf16:
      return each_block<from_bf16>;
    case GgufType::q8_0:
      return each_block<from_q8_0>;
    case GgufType::q4_0:
      return each_block<from_q4_0>;
    case GgufType::q4_1:
      return each_block<from_q4_1>;
    case GgufType::q5_0:
      return each_block<from_q5_0>;
    case GgufType::q5_1:
      return each_block<from_q5_1>;
    case GgufType::q4_k:
      return each_block<from_q4_k>;
    case GgufType::q5_k:
      return each_block<from_q5_k>;
    case GgufType::q6_k:
      return each_block<from_q6_k>;
  }
  throw base::ShapeError(
      base::text("dequantize: type ", static_cast<std::uint32_t>(type), " has no layout"));
}

}  // namespace

void dequantize(const GgufTensor& tensor, std::int64_t begin_row, std::int64_t end_row,
                float* out) {
  if (begin_row < 0 || end_row < begin_row || end_row > tensor.rows()) {
    throw base::ShapeError(base::text("dequantize: rows ", begin_row, " to ", end_row,
                                      " of tensor '", tensor.name, "', which has ", tensor.rows()));
  }
  const auto& layout = block_of(tensor.type);
  const auto blocks_per_row = tensor.columns() / layout.elements;
  const auto* bytes =
      reinterpret_cast<Bytes>(tensor.bytes.data()) + begin_row * blocks_per_row * layout.bytes;
  loop_of(tensor.type)(bytes, (end_row - begin_row) * blocks_per_row, layout, out);
}

}  // namespace dfmoa::formats
