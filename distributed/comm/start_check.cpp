#include "distributed/comm/start_check.h"

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "src/base/text.h"

namespace dfmoa::comm {
namespace {

/// The first line in which two texts differ, as each has it.
std::pair<std::string, std::string> first_difference(const std::string& one,
                                                     const std::string& two) {
  const auto mine = base::split(one, '\n');
  const auto others = base::split(two, '\n');
  for (std::size_t line = 0;; ++line) {
    const auto& a = line < mine.size() ? mine[line] : "nothing more";
    const auto& b = line < others.size() ? others[line] : "nothing more";
    if (a != b || line >= std::max(mine.size(), others.size())) return {a, b};
  }
}

int number_of(const std::string& text) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : -1;
}

}  // namespace

void require_alike(Communicator& comm, const Alike& alike) {
  const auto all = comm.gather_text(alike.lines, "start/" + alike.name);
  for (std::size_t p = 1; p < all.size(); ++p) {
    if (all[p] == all[0]) continue;
    const auto [theirs, first] = first_difference(all[p], all[0]);
    throw base::Error(alike.code,
                      base::text(alike.name, " differs between processes: process ", p, " has ",
                                 theirs, ", process 0 has ", first, ": ", alike.remedy));
  }
}

void on_every_process(Communicator& comm, std::string_view tag, const std::function<void()>& body) {
  std::string failure;  // exit code, blank, sentence
  try {
    body();
  } catch (const base::Error& error) {  // told to every process below
    failure = base::text(static_cast<int>(error.code()), " ", error.what());
  }
  const auto failures = comm.gather_text(failure, tag);
  for (std::size_t p = 0; p < failures.size(); ++p) {
    const auto blank = failures[p].find(' ');
    if (blank == std::string::npos) continue;
    const auto code = static_cast<base::ExitCode>(number_of(failures[p].substr(0, blank)));
    const auto who = failures.size() > 1 ? base::text("process ", p, ": ") : std::string();
    throw base::Error(code, who + failures[p].substr(blank + 1));
  }
}

void check_num_processes(int num_processes, const Environment& environment) {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"}) {
    const char* started = environment(name);
    if (started == nullptr) continue;
    if (number_of(started) == num_processes) return;
    throw base::UsageError(base::text(
        name, " = ", started, ", but this run has ", num_processes,
        num_processes == 1 ? " process" : " processes",
        ": the launcher and MPI do not know of each other, and each process would train by itself; "
        "start it with mpirun or srun --mpi=pmix, or alone outside of that job"));
  }
}

}  // namespace dfmoa::comm
