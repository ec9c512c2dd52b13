#include "src/formats/gguf_type.h"

#include <array>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::formats {
namespace {

constexpr std::array<GgufBlock, 11> kBlocks{{{GgufType::f32, "F32", 1, 4},
                                             {GgufType::f16, "F16", 1, 2},
                                             {GgufType::bf16, "BF16", 1, 2},
                                             {GgufType::q8_0, "Q8_0", 32, 2 + 32},
                                             {GgufType::q4_0, "Q4_0", 32, 2 + 16},
                                             {GgufType::q4_1, "Q4_1", 32, 2 + 2 + 16},
                                             {GgufType::q5_0, "Q5_0", 32, 2 + 4 + 16},
                                             {GgufType::q5_1, "Q5_1", 32, 2 + 2 + 4 + 16},
                                             {GgufType::q4_k, "Q4_K", 256, 2 + 2 + 12 + 128},
                                             {GgufType::q5_k, "Q5_K", 256, 2 + 2 + 12 + 32 + 128},
                                             {GgufType::q6_k, "Q6_K", 256, 128 + 64 + 16 + 2}}};

}  // namespace

const GgufBlock* find_block(std::uint32_t type_number) {
  for (const auto& block : kBlocks) {
    if (static_cast<std::uint32_t>(block.type) == type_number) return &block;
  }
  return nullptr;
}

const GgufBlock& block_of(GgufType type) {
  if (const auto* block = find_block(static_cast<std::uint32_t>(type))) return *block;
  throw base::ShapeError(base::text("GGUF type ", static_cast<std::uint32_t>(type), " is none of ",
                                    gguf_type_names()));
}

std::string gguf_type_names() {
  std::vector<std::string> names;
  for (const auto& block : kBlocks) names.emplace_back(block.name);
  return base::join(names, ", ");
}

}  // namespace dfmoa::formats
