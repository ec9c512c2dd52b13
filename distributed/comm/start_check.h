// What must hold before the collectives of a run mean anything: as many processes as were started,
// holding the same of everything they will not send each other.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "distributed/comm/communicator.h"
#include "src/base/error.h"

namespace dfmoa::comm {

/// Something that every process must hold alike.
struct Alike {
  std::string name;     ///< "the configuration": subject of the sentence
  std::string lines;    ///< what this process holds; the first line that differs is shown
  base::ExitCode code;  ///< of the program if they differ
  std::string remedy;   ///< what the user may look at
};

/// Throws Error on every process, in the same words, unless all hold the same lines.
void require_alike(Communicator& comm, const Alike& alike);

/// Runs `body` on every process at once. If it throws an Error on any, every process throws the
/// first one in process order, with that process's number.
void on_every_process(Communicator& comm, std::string_view tag, const std::function<void()>& body);

using Environment = std::function<const char*(const char*)>;

/// A launcher that MPI does not know of starts N programs of one process each, which would all be
/// process 0 of their own run. The first of OMPI_COMM_WORLD_SIZE, PMI_SIZE and SLURM_NTASKS that is
/// set tells: mpirun within a Slurm job may start fewer or more than Slurm has tasks.
/// Throws UsageError unless it names `num_processes`.
void check_num_processes(int num_processes, const Environment& environment);

}  // namespace dfmoa::comm
