// world = copies of the model x processes that share the experts of one copy.
#pragma once

#include <cstdint>
#include <memory>

#include "distributed/comm/communicator.h"

namespace dfmoa::distributed {

/// process = copy * expert_processes + place: the processes of one copy are neighbours.
class Mesh {
 public:
  /// Collective. Throws UsageError unless `expert_processes` divides the size of the world.
  Mesh(comm::Communicator& world, std::int64_t expert_processes);

  [[nodiscard]] comm::Communicator& world() const { return world_; }
  /// Those that share the experts of one copy of the model.
  [[nodiscard]] comm::Communicator& experts() const { return *experts_; }
  /// Those that own the same experts, one of every copy.
  [[nodiscard]] comm::Communicator& copies() const { return *copies_; }

  /// Whether this process counts what it owns in a sum over the world.
  [[nodiscard]] bool speaks() const { return copies_->process() == 0; }

 private:
  comm::Communicator& world_;
  std::unique_ptr<comm::Communicator> experts_;
  std::unique_ptr<comm::Communicator> copies_;
};

}  // namespace dfmoa::distributed
