// From configuration to banks: which experts every block gets.
#pragma once

#include <vector>

#include "src/model/transformer.h"

namespace dfmoa::model {

/// One entry per block. Throws as Transformer::adapt.
[[nodiscard]] std::vector<BlockAdapters> plan_blocks(const AdapterPlan& plan,
                                                     const BaseModel& base);

}  // namespace dfmoa::model
