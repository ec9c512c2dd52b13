// The forms of a kernel that one suite runs over: every CPU level, and the CUDA source on the
// emulation, its threads in three orders.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "kernels/cuda/launch.h"
#include "kernels/gate_scale.h"
#include "kernels/nf4.h"
#include "tests/support/cuda_emulation/emulator.h"

namespace dfmoa::kernels_test {

struct Form {
  std::string name;
  kernels::CpuLevel level = kernels::CpuLevel::reference;
  std::optional<cuda_emulation::Settings> emulated;  ///< set: CUDA, whatever the level
};

inline std::vector<Form> cpu_forms() {
  using kernels::CpuLevel;
  std::vector<Form> forms;
  for (const CpuLevel level : {CpuLevel::reference, CpuLevel::avx2, CpuLevel::avx512}) {
    forms.push_back({kernels::name_of(level), level, std::nullopt});
  }
  return forms;
}

inline std::vector<Form> all_forms() {
  using cuda_emulation::Order;
  std::vector<Form> forms = cpu_forms();
  const auto reference = kernels::CpuLevel::reference;
  forms.push_back({"cuda_forward", reference, cuda_emulation::Settings{Order::forward, 1}});
  forms.push_back({"cuda_reverse", reference, cuda_emulation::Settings{Order::reverse, 1}});
  forms.push_back({"cuda_random", reference, cuda_emulation::Settings{Order::random, 7}});
  return forms;
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
    if (GetParam().emulated) order_.emplace(*GetParam().emulated);
  }

 private:
  std::optional<cuda_emulation::OrderScope> order_;
};

template <class Out>
void run_nf4_dequantize(const Form& form, const std::uint8_t* codes, const float* absmax,
                        std::int64_t block, std::int64_t begin, std::int64_t end, Out* out) {
  if (form.emulated) {
    kernels::emulated::nf4_dequantize(codes, absmax, block, begin, end, out, {});
  } else {
    kernels::nf4_dequantize(codes, absmax, block, begin, end, out, form.level);
  }
}

}  // namespace dfmoa::kernels_test
