// What is trained of a block, as far as one process holds it.
#pragma once

#include "src/adapters/parameter_set.h"
#include "src/model/block_adapters.h"

namespace dfmoa::model {

/// Banks and their tensors. An expert that lies elsewhere has rank 0 here.
struct TrainedPart {
  BlockAdapters adapters;
  adapters::ParameterSet parameters;
};

}  // namespace dfmoa::model
