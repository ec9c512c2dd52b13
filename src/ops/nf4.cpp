#include "src/ops/nf4.h"

#include <torch/library.h>

#include "kernels/cpu_level.h"
#include "kernels/nf4.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/ops/on_device.h"

namespace dfmoa::ops {
namespace {

constexpr std::int64_t kPanel = 64 * 4096;  // elements per task: 1 MiB of fp32

template <class Out>
void fill(const at::Tensor& codes, const at::Tensor& absmax, std::int64_t block, at::Tensor& out) {
  const auto level = kernels::cpu_level();
  const auto count = out.numel();
  auto* to = static_cast<Out*>(out.data_ptr());
  const auto panels = (count + kPanel - 1) / kPanel;
  at::parallel_for(0, panels, 1, [&](std::int64_t first, std::int64_t last) {
    const auto begin = first * kPanel;
    kernels::nf4_dequantize(codes.const_data_ptr<std::uint8_t>(), absmax.const_data_ptr<float>(),
                            block, begin, std::min(last * kPanel, count), to + begin, level);
  });
}

at::Tensor nf4_dequantize_cpu(const at::Tensor& codes, const at::Tensor& absmax, std::int64_t block,
                              at::IntArrayRef shape, at::ScalarType dtype) {
  auto out = at::empty(shape, codes.options().dtype(dtype));
  check_nf4(codes, absmax, block, out.numel(), dtype);
  if (dtype == at::kFloat) {
    fill<float>(codes, absmax, block, out);
  } else if (dtype == at::kDouble) {
    fill<double>(codes, absmax, block, out);
  } else {
    fill<std::uint16_t>(codes, absmax, block, out);
  }
  return out;
}

}  // namespace

void check_nf4(const at::Tensor& codes, const at::Tensor& absmax, std::int64_t block,
               std::int64_t count, at::ScalarType dtype) {
  if (codes.device() != absmax.device()) {
    throw base::ShapeError(base::text("nf4_dequantize: absmax lies on ", absmax.device(),
                                      ", codes on ", codes.device(), ", expected one device"));
  }
  if (codes.scalar_type() != at::kByte || absmax.scalar_type() != at::kFloat || block <= 0 ||
      kPanel % block != 0 || codes.numel() != (count + 1) / 2 ||
      absmax.numel() != (count + block - 1) / block) {
    throw base::ShapeError(base::text("nf4_dequantize: ", codes.numel(), " bytes of codes and ",
                                      absmax.numel(), " scales for ", count,
                                      " weights in blocks of ", block));
  }
  if (dtype == at::kFloat || dtype == at::kDouble || dtype == at::kBFloat16) return;
  throw base::ShapeError(
      base::text("nf4_dequantize: to ", c10::toString(dtype), ", expected fp32, bf16 or fp64"));
}

TORCH_LIBRARY_FRAGMENT(dfmoa, library) {
  library.def(
      "nf4_dequantize(Tensor codes, Tensor absmax, int block, int[] shape, ScalarType dtype)"
      " -> Tensor");
}
TORCH_LIBRARY_IMPL(dfmoa, CPU, library) {
  library.impl("nf4_dequantize", nf4_dequantize_cpu);
}
TORCH_LIBRARY_IMPL(dfmoa, CUDA, library) {
  library.impl("nf4_dequantize", cuda::nf4_dequantize);
}

at::Tensor nf4_dequantize(const at::Tensor& codes, const at::Tensor& absmax, std::int64_t block,
                          at::IntArrayRef shape, at::ScalarType dtype) {
  static const auto op = c10::Dispatcher::singleton()
                             .findSchemaOrThrow("dfmoa::nf4_dequantize", "")
                             .typed<at::Tensor(const at::Tensor&, const at::Tensor&, std::int64_t,
                                               at::IntArrayRef, at::ScalarType)>();
  return op.call(codes, absmax, block, shape, dtype);
}

}  // namespace dfmoa::ops
