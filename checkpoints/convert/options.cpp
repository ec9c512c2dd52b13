#include "checkpoints/convert/options.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {

base::DType ConvertOptions::checked_dtype() const {
  if (double_quant && !nf4) {
    throw base::UsageError("convert: double_quant is on and nf4 is off, expected both");
  }
  if (dtype == "f32") return base::DType::f32;
  if (dtype == "bf16") return base::DType::bf16;
  throw base::UsageError(base::text("convert: dtype is '", dtype, "', expected f32 or bf16"));
}

}  // namespace dfmoa::checkpoints
