// The forms of a kernel that one suite runs over. The test program that holds the suite says which:
// every CPU level and the CUDA source on the emulation, or the CUDA kernels on a GPU.
#pragma once

#include <gtest/gtest.h>

#include "kernels/cuda/launch.h"
#include "kernels/gate_scale.h"
#include "kernels/nf4.h"
#include "tests/kernels/device.h"

namespace dfmoa::kernels_test {

namespace cuda_form = kernels::DFMOA_CUDA_NAMESPACE;  ///< the launchers of this program

struct Form {
  std::string name;
  kernels::CpuLevel level = kernels::CpuLevel::reference;
  bool on_device = false;  ///< true: CUDA, whatever the level
};

[[nodiscard]] std::vector<Form> all_forms();
/// Those that a suite of millions of elements can wait for.
[[nodiscard]] std::vector<Form> fast_forms();

inline std::vector<Form> cpu_forms() {
  using kernels::CpuLevel;
  std::vector<Form> forms;
  for (const CpuLevel level : {CpuLevel::reference, CpuLevel::avx2, CpuLevel::avx512}) {
    forms.push_back({kernels::name_of(level), level, false});
  }
  return forms;
}

/// In messages and in ctest's list.
inline void PrintTo(const Form& form, std::ostream* out) {
  *out << form.name;
}

inline std::string form_name(const testing::TestParamInfo<Form>& info) {
  return info.param.name;
}

/// A form that this machine cannot run is skipped aloud.
class FormTest : public testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    if (GetParam().level > kernels::machine_cpu_level()) {
      GTEST_SKIP() << "this machine has no " << kernels::name_of(GetParam().level);
    }
    if (!GetParam().on_device) return;
    if (const auto reason = device::missing(); !reason.empty()) GTEST_SKIP() << reason;
    order_ = device::order_of(GetParam());
  }

 private:
  std::shared_ptr<void> order_;
};

}  // namespace dfmoa::kernels_test
