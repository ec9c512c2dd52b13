// Which instruction set the CPU kernels use, chosen at run time.
#pragma once

#include <string>

namespace dfmoa::kernels {

/// In rising order; every kernel gives the same result at each level, within its stated tolerance.
enum class CpuLevel { reference, avx2, avx512 };

/// The best level of this machine. The environment variable DFMOA_CPU=reference|avx2|avx512 lowers
/// it. Throws UsageError when DFMOA_CPU is another word or names a level the machine lacks.
[[nodiscard]] CpuLevel cpu_level();

/// The best level of this machine, whatever the environment says. avx2 includes FMA; avx512 means
/// F, BW, DQ and VL.
[[nodiscard]] CpuLevel machine_cpu_level();

/// Inverse of name_of, at most `best`. Throws UsageError as cpu_level does.
[[nodiscard]] CpuLevel cpu_level_from(const std::string& name, CpuLevel best);

/// "reference", "avx2", "avx512".
[[nodiscard]] std::string name_of(CpuLevel level);

}  // namespace dfmoa::kernels
