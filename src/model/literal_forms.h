// What a run says at its start about parts that are as published instead of as docs/math.md
// corrects them, and about the repairs without which these could not run.
#pragma once

#include <string>
#include <vector>

#include "src/model/transformer.h"

namespace dfmoa::model {

/// One sentence a part; none for a configuration of corrected parts.
[[nodiscard]] std::vector<std::string> literal_forms(const AdapterPlan& plan);

}  // namespace dfmoa::model
