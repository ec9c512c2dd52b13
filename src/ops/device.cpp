#include "src/ops/device.h"

#include "kernels/cuda/launch.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::ops {

at::Device choose_device(const std::string& name, int process) {
  const bool is_built = kernels::cuda::is_built();
  const bool has_gpu = is_built && at::hasCUDA();
  if (name == "cpu" || (name == "auto" && !has_gpu)) return at::kCPU;
  if (name != "auto" && name != "cuda") {
    throw base::UsageError(base::text("train.device = ", name, ": expected auto, cpu or cuda"));
  }
  if (!is_built) {
    throw base::UsageError(
        "train.device = cuda: this program was built without CUDA and can use no GPU; configure it "
        "with -DDFMOA_CUDA=ON, or train with device = cpu");
  }
  if (!has_gpu) {
    throw base::UsageError(
        "train.device = cuda: this machine shows no GPU; train with device = cpu, or see what "
        "nvidia-smi says");
  }
  const auto gpus = static_cast<int>(at::getNumGPUs());
  return {at::kCUDA, static_cast<c10::DeviceIndex>(process % gpus)};
}

std::string describe_device(const std::string& name, at::Device device) {
  if (!device.is_cpu()) return device.str();
  return name == "auto" ? "the CPU (auto: no GPU that this program can use)" : "the CPU";
}

}  // namespace dfmoa::ops
