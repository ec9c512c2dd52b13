// The forms of a kernel that one suite runs over: every CPU level.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/cpu_level.h"

namespace dfmoa::kernels_test {

struct Form {
  std::string name;
  kernels::CpuLevel level = kernels::CpuLevel::reference;
};

inline std::vector<Form> all_forms() {
  using kernels::CpuLevel;
  std::vector<Form> forms;
  for (const CpuLevel level : {CpuLevel::reference, CpuLevel::avx2, CpuLevel::avx512}) {
    forms.push_back({kernels::name_of(level), level});
  }
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
  }
};

}  // namespace dfmoa::kernels_test
