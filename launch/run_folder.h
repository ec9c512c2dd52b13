// The folder of a run: its lock, its resolved configuration, where it ran.
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoints/run_lock.h"
#include "distributed/comm/communicator.h"
#include "src/train/config.h"

namespace dfmoa::launch {

/// Creates the folder, locks it and writes config.ini and environment.json on process 0.
/// Throws on every process where one cannot, or where the processes' configurations differ.
class RunFolder {
 public:
  RunFolder(const std::filesystem::path& folder, const train::RunConfig& config,
            comm::Communicator& comm);

 private:
  std::unique_ptr<checkpoints::RunLock> lock_;
};

}  // namespace dfmoa::launch
