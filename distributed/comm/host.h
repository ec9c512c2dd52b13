// Which processes of a run share one host.
#pragma once

#include <string>

#include "distributed/comm/communicator.h"

namespace dfmoa::comm {

/// As the system tells it. Throws MachineError where it does not.
[[nodiscard]] std::string host_name();

/// A process among those of its host.
struct HostPlace {
  int index = 0;
  int processes = 1;
};

/// Collective: of what every process says its host is, in process order.
[[nodiscard]] HostPlace place_on_host(Communicator& comm, const std::string& host);

}  // namespace dfmoa::comm
