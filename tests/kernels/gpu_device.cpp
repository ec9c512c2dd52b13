// The CUDA kernels on a GPU. Memory comes from torch's allocator.
#include <ATen/ATen.h>

#include "tests/kernels/forms.h"
#include "tests/support/gpu.h"

namespace dfmoa::kernels_test {

std::vector<Form> all_forms() {
  return {{"gpu", kernels::CpuLevel::reference, /*on_device=*/true}};
}

std::vector<Form> fast_forms() {
  return all_forms();
}

std::string device::missing() {
  return tests::missing_gpu();
}

std::shared_ptr<void> device::order_of(const Form&) {
  return nullptr;
}

std::shared_ptr<void> device::allocate(std::size_t bytes) {
  const auto size = static_cast<std::int64_t>(std::max<std::size_t>(bytes, 1));
  const auto tensor = at::empty({size}, at::TensorOptions(at::kByte).device(at::kCUDA));
  return {tensor.data_ptr(), [tensor](void*) {}};
}

void device::copy_in(void* to, const void* from, std::size_t bytes) {
  const auto size = static_cast<std::int64_t>(bytes);
  const at::TensorOptions options(at::kByte);
  at::from_blob(to, {size}, options.device(at::kCUDA))
      .copy_(at::from_blob(const_cast<void*>(from), {size}, options));
}

void device::copy_out(void* to, const void* from, std::size_t bytes) {
  const auto size = static_cast<std::int64_t>(bytes);
  const at::TensorOptions options(at::kByte);
  at::from_blob(to, {size}, options)
      .copy_(at::from_blob(const_cast<void*>(from), {size}, options.device(at::kCUDA)));
}

}  // namespace dfmoa::kernels_test
