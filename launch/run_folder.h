// The folder of a run: its lock, its resolved configuration, where it ran.
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoints/run_lock.h"
#include "distributed/comm/communicator.h"
#include "src/train/config.h"

namespace dfmoa::launch {

/// The folder of a run, locked by process 0 for as long as the object lives.
class RunFolder {
 public:
  /// Creates and locks the folder. Throws MachineError on every process, naming the first that
  /// cannot, unless process 0 can and all processes can write into the folder that it has locked.
  RunFolder(const std::filesystem::path& folder, comm::Communicator& comm);

  /// Writes config.ini and environment.json: once it is certain that this configuration runs here.
  /// Throws as the constructor does.
  void describe(const train::RunConfig& config, comm::Communicator& comm) const;

 private:
  std::filesystem::path folder_;
  std::unique_ptr<checkpoints::RunLock> lock_;
};

}  // namespace dfmoa::launch
