// Whether this program can use a GPU of this machine.
#pragma once

#include <ATen/Context.h>

#include <string>

#include "kernels/cuda/launch.h"

namespace dfmoa::tests {

/// The reason to skip a GPU test; empty where there is a GPU.
inline std::string missing_gpu() {
  if (!kernels::cuda::is_built()) return "this program was built without CUDA";
  if (!at::hasCUDA()) return "this machine shows no GPU";
  return "";
}

}  // namespace dfmoa::tests
