// Statistics vectors of a router with four experts and ten units.
#pragma once

#include <vector>

#include "src/gates/statistics.h"

namespace dfmoa::gates {

using Statistics = std::vector<double>;

inline constexpr StatisticsLayout kFour{4};
inline const Statistics kUneven{6.1, 2.2, 1.3, 0.4, 9, 6, 4, 1, 8.5, 5.25, 10};
inline const Statistics kCollapsed{10, 1e-9, 1e-9, 1e-9, 10, 0, 0, 0, 1e-7, 1e-7, 10};
inline const Statistics kEven{2.5, 2.5, 2.5, 2.5, 5, 5, 5, 5, 13.8, 6.9, 10};

}  // namespace dfmoa::gates
