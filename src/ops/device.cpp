#include "src/ops/device.h"

#include <ATen/Context.h>
#include <ATen/Version.h>

#include <cstdlib>

#include "kernels/cpu_level.h"
#include "kernels/cuda/launch.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::ops {

namespace {

/// Sums on the GPU in one order. cuBLAS reads the variable when its first handle is made.
void repeat_bit_for_bit() {
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  auto& torch = at::globalContext();
  torch.setDeterministicAlgorithms(true, /*warn_only=*/false);
  torch.setDeterministicFillUninitializedMemory(false);  // a debugging aid that costs a pass
}

}  // namespace

at::Device choose_device(const std::string& name, int process, const std::string& option) {
  const bool is_built = kernels::cuda::is_built();
  const bool has_gpu = is_built && at::hasCUDA();
  if (name == "cpu" || (name == "auto" && !has_gpu)) return at::kCPU;
  if (name != "auto" && name != "cuda") {
    throw base::UsageError(base::text(option, " = ", name, ": expected auto, cpu or cuda"));
  }
  if (!is_built) {
    throw base::UsageError(
        option +
        " = cuda: this program was built without CUDA and can use no GPU; configure it with "
        "-DDFMOA_CUDA=ON, or choose cpu");
  }
  if (!has_gpu) {
    throw base::UsageError(
        option + " = cuda: this machine shows no GPU; choose cpu, or see what nvidia-smi says");
  }
  repeat_bit_for_bit();
  const auto gpus = static_cast<int>(at::getNumGPUs());
  return {at::kCUDA, static_cast<c10::DeviceIndex>(process % gpus)};
}

std::string cpu_instructions() {
  return base::text(kernels::name_of(kernels::cpu_level()), ", torch ", at::get_cpu_capability());
}

std::string describe_device(const std::string& name, at::Device device) {
  if (!device.is_cpu()) return device.str();
  return name == "auto" ? "the CPU (auto: no GPU that this program can use)" : "the CPU";
}

}  // namespace dfmoa::ops
