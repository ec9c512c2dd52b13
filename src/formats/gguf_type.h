// GGUF tensor types that we read, and how many elements and bytes a block of each holds.
#pragma once

#include <cstdint>
#include <string>

namespace dfmoa::formats {

/// The numbers are the file's.
enum class GgufType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30
};

struct GgufBlock {
  GgufType type;
  const char* name;       ///< "Q4_1"
  std::int64_t elements;  ///< consecutive elements of a row that share a block
  std::int64_t bytes;     ///< bytes of the block
};

[[nodiscard]] const GgufBlock& block_of(GgufType type);

/// Null for a type that we do not read.
[[nodiscard]] const GgufBlock* find_block(std::uint32_t type_number);

/// "F32, F16, ...", for sentences.
[[nodiscard]] std::string gguf_type_names();

}  // namespace dfmoa::formats
