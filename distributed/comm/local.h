// Processes inside one program: the world of one, and a world of threads for tests.
#pragma once

#include <functional>
#include <memory>

#include "distributed/comm/communicator.h"

namespace dfmoa::comm {

/// A world of one process.
[[nodiscard]] std::unique_ptr<Communicator> make_single();

/// Runs `body` on `num_processes` threads, each with its communicator. If one of them throws, or
/// returns while others are in a collective, theirs throw, and the first exception reaches the
/// caller.
void run_local(int num_processes, const std::function<void(Communicator&)>& body);

}  // namespace dfmoa::comm
