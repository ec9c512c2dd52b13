#include "distributed/mesh.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::distributed {

Mesh::Mesh(comm::Communicator& world, std::int64_t expert_processes) : world_(world) {
  if (expert_processes < 1 || world.num_processes() % expert_processes != 0) {
    throw base::UsageError(base::text("configuration parallel.expert = ", expert_processes,
                                      ": expected a divisor of the ", world.num_processes(),
                                      " processes"));
  }
  const auto size = static_cast<int>(expert_processes);
  experts_ = world.split(world.process() / size, "mesh/experts");
  copies_ = world.split(world.process() % size, "mesh/copies");
}

}  // namespace dfmoa::distributed
