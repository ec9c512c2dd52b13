// Processes started by mpirun or srun, over host memory.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "distributed/comm/communicator.h"

namespace dfmoa::comm {

/// MPI_Init_thread(FUNNELED) now and MPI_Finalize at the end: one object in main(). Only the thread
/// that made it may use its communicators.
class MpiEnvironment {
 public:
  /// Throws MachineError if MPI does not start or gives less than FUNNELED.
  MpiEnvironment();
  ~MpiEnvironment();
  MpiEnvironment(const MpiEnvironment&) = delete;
  MpiEnvironment& operator=(const MpiEnvironment&) = delete;

  [[nodiscard]] bool is_first_process() const;

  /// For a process that failed. True as soon as every process has called it: all failed, one may
  /// speak for them and all may leave. False after `patience`: others are still at work and have to
  /// be aborted. To be called once, whatever the world was doing.
  [[nodiscard]] bool all_failed(std::chrono::milliseconds patience) const;

 private:
  struct Farewell;
  std::unique_ptr<Farewell> farewell_;
};

/// MPI counts are int: nothing larger goes in one message.
inline constexpr std::size_t kLargestChunk = std::size_t{1} << 30;

/// All processes of the job, who call this together. MPI must have been started. Longer messages
/// are cut into chunks. Throws ShapeError unless 0 < chunk_bytes <= kLargestChunk.
[[nodiscard]] std::unique_ptr<Communicator> make_mpi_world(std::size_t chunk_bytes = kLargestChunk);

/// Ends every process of the job. Does not return.
[[noreturn]] void abort_mpi(int exit_code);

/// True under mpirun or srun: MPI is only started there, a plain start needs no launcher.
[[nodiscard]] bool started_by_launcher();

}  // namespace dfmoa::comm
