#include "kernels/cpu_level.h"

#include <array>
#include <cstdlib>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::kernels {

CpuLevel machine_cpu_level() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    return CpuLevel::reference;
  }
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return avx512 ? CpuLevel::avx512 : CpuLevel::avx2;
}

CpuLevel cpu_level_from(const std::string& name, CpuLevel best) {
  constexpr std::array kLevels = {CpuLevel::reference, CpuLevel::avx2, CpuLevel::avx512};
  for (const CpuLevel level : kLevels) {
    if (name != name_of(level)) continue;
    if (level > best) {
      throw base::UsageError(
          base::text("DFMOA_CPU=", name, ": this machine offers ", name_of(best), " at most"));
    }
    return level;
  }
  throw base::UsageError(base::text("DFMOA_CPU=", name, ": expected reference, avx2 or avx512"));
}

CpuLevel cpu_level() {
  // Read once: a level that changed inside a run would change the results' last bits.
  static const CpuLevel level = [] {
    const char* wanted = std::getenv("DFMOA_CPU");
    const CpuLevel best = machine_cpu_level();
    return wanted == nullptr ? best : cpu_level_from(wanted, best);
  }();
  return level;
}

std::string name_of(CpuLevel level) {
  switch (level) {
    case CpuLevel::reference:
      return "reference";
    case CpuLevel::avx2:
      return "avx2";
    case CpuLevel::avx512:
      return "avx512";
  }
  throw base::ShapeError(base::text("CPU level ", static_cast<int>(level), " has no name"));
}

}  // namespace dfmoa::kernels
