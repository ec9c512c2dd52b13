// dfmoa::nf4_dequantize on a device: one launch over the whole matrix.
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/ops/nf4.h"
#include "src/ops/on_device.h"

namespace dfmoa::ops::DFMOA_CUDA_NAMESPACE {
namespace {

template <class Out>
void launch_nf4(const at::Tensor& codes, const at::Tensor& absmax, std::int64_t block,
                at::Tensor& out) {
  const LaunchScope scope(codes.device());
  kernels::DFMOA_CUDA_NAMESPACE::nf4_dequantize(
      codes.const_data_ptr<std::uint8_t>(), absmax.const_data_ptr<float>(), block, 0, out.numel(),
      static_cast<Out*>(out.data_ptr()), scope.target());
}

}  // namespace

at::Tensor nf4_dequantize(const at::Tensor& codes, const at::Tensor& absmax, std::int64_t block,
                          at::IntArrayRef shape, at::ScalarType dtype) {
  auto out = at::empty(shape, codes.options().dtype(dtype));
  check_nf4(codes, absmax, block, out.numel(), dtype);
  if (dtype == at::kFloat) {
    launch_nf4<float>(codes, absmax, block, out);
  } else if (dtype == at::kDouble) {
    launch_nf4<double>(codes, absmax, block, out);
  } else {
    launch_nf4<std::uint16_t>(codes, absmax, block, out);
  }
  return out;
}

}  // namespace dfmoa::ops::DFMOA_CUDA_NAMESPACE
