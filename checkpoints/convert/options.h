// What `convert` may be asked for.
#pragma once

#include <string>

#include "src/base/dtype.h"
#include "src/base/fields.h"

namespace dfmoa::checkpoints {

struct ConvertOptions {
  std::string dtype = "f32";
  bool nf4 = false;
  bool double_quant = false;

  void fields(base::FieldList& list) {
    list.add("dtype", dtype, "element type of the tensors that are not quantised")
        .one_of({"f32", "bf16"});
    list.add("nf4", nf4, "quantise the linears of every layer to NF4, as bitsandbytes does");
    list.add("double_quant", double_quant,
             "with nf4: 8 bits per block scale, 4.13 instead of 4.5 bits per weight");
  }

  /// Throws UsageError for a dtype other than f32 and bf16, and for double_quant without nf4.
  [[nodiscard]] base::DType checked_dtype() const;
};

}  // namespace dfmoa::checkpoints
