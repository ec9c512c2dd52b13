// One run folder, one run: a lock that the kernel releases however its holder ends.
#pragma once

#include <filesystem>

#include "src/base/file.h"

namespace dfmoa::checkpoints {

/// Held by the first process of a run from its start to its end.
class RunLock {
 public:
  /// Creates and locks `run_folder`/lock and writes pid and host into it.
  /// Throws MachineError naming pid and host of the holder if the folder is in use, or with errno's
  /// words if the file cannot be written.
  explicit RunLock(const std::filesystem::path& run_folder);

 private:
  base::Descriptor file_;  // closing it releases the lock
};

}  // namespace dfmoa::checkpoints
