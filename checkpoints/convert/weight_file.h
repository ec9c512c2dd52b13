// Writes model.safetensors piece by piece from wherever the weights come from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "src/base/dtype.h"

namespace dfmoa::checkpoints {

struct SourceTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  bool is_linear = false;
  /// Rows [begin, end) to out, (end - begin, columns) fp32; a tensor of one extent is one row.
  /// Called on another thread, one call at a time.
  std::function<void(std::int64_t begin, std::int64_t end, float* out)> read;
};

struct WeightForm {
  base::DType dtype = base::DType::f32;  ///< f32 or bf16, of what is not quantised
  bool nf4 = false;                      ///< linears
  bool double_quant = false;
  std::string source{};  ///< names the origin in errors
};

/// One thread reads and quantises the next piece while this one writes; at no time is more than two
/// pieces of a tensor in memory. Quantising starts from the fp32 values, whatever `form.dtype`.
/// Throws ContentError that names source and tensor for NaN, infinity and values beyond the dtype,
/// MachineError if the file cannot be written.
void write_weights(const std::filesystem::path& path, std::span<const SourceTensor> tensors,
                   const WeightForm& form);

}  // namespace dfmoa::checkpoints
