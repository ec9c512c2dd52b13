#include "launch/run_folder.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "distributed/comm/host.h"
#include "distributed/comm/start_check.h"
#include "launch/version.h"
#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"

namespace dfmoa::launch {
namespace {

std::string environment_json(const comm::Communicator& comm) {
  const nlohmann::json json{{"host", comm::host_name()},
                            {"processes", comm.num_processes()},
                            {"versions", base::split(version_text(), '\n')}};
  return json.dump(2) + "\n";
}

/// A file of this process in the run folder, for the time of the check.
class ProbeFile {
 public:
  explicit ProbeFile(std::filesystem::path path) : path_(std::move(path)) {}
  ProbeFile(const ProbeFile&) = delete;
  ProbeFile& operator=(const ProbeFile&) = delete;
  ~ProbeFile() {
    std::error_code ignored;  // what stays is overwritten by the next start
    std::filesystem::remove(path_, ignored);
  }
  void write(const std::string& content) const { base::write_file(path_, content); }

 private:
  std::filesystem::path path_;
};

/// A folder of the same name on another machine's own disk would split the run, and one that
/// cannot be written is better refused now than at the first checkpoint.
void probe(const std::filesystem::path& folder, comm::Communicator& comm) {
  const ProbeFile mine(folder / base::text("start.", comm.process()));
  const auto first = folder / "start.0";
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  const auto token = comm.gather_text(base::text(::getpid(), " ", now), "start/token")[0];
  comm::on_every_process(comm, "start/write", [&] {
    if (!std::filesystem::is_directory(folder)) {
      throw base::MachineError(base::text("the run folder ", folder.string(),
                                          " of process 0 is not seen here: every process needs it, "
                                          "on a file system that they share"));
    }
    mine.write(token);
  });
  comm::on_every_process(comm, "start/read", [&] {
    if (std::filesystem::exists(first) && base::read_file(first) == token) return;
    throw base::MachineError(base::text("the run folder ", folder.string(),
                                        " is another one here than that of process 0: every "
                                        "process needs the same, on a shared file system"));
  });
}

}  // namespace

RunFolder::RunFolder(const std::filesystem::path& folder, comm::Communicator& comm)
    : folder_(folder) {
  comm::on_every_process(comm, "start/lock", [&] {
    if (comm.process() != 0) return;
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw base::MachineError("creating " + folder.string() + ": " + error.message());
    lock_ = std::make_unique<checkpoints::RunLock>(folder);
  });
  probe(folder, comm);
}

void RunFolder::describe(const train::RunConfig& config, comm::Communicator& comm) const {
  comm::on_every_process(comm, "start/describe", [&] {
    if (comm.process() != 0) return;
    base::replace_file(folder_ / "config.ini", config.ini());
    base::replace_file(folder_ / "environment.json", environment_json(comm));
  });
}

}  // namespace dfmoa::launch
