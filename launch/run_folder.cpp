#include "launch/run_folder.h"

#include <unistd.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "launch/version.h"
#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"

namespace dfmoa::launch {
namespace {

std::string environment_json(const comm::Communicator& comm) {
  char host[256] = {};
  ::gethostname(host, sizeof(host) - 1);
  const nlohmann::json json{{"host", host},
                            {"processes", comm.num_processes()},
                            {"versions", base::split(version_text(), '\n')}};
  return json.dump(2) + "\n";
}

/// Runs `body` on process 0; what it throws is thrown by every process.
void on_first_process(comm::Communicator& comm, const char* tag,
                      const std::function<void()>& body) {
  std::string failure;
  base::ExitCode code = base::ExitCode::machine;
  if (comm.process() == 0) {
    try {
      body();
    } catch (const base::Error& error) {  // told to every process below
      failure = error.what();
      code = error.code();
    }
  }
  const auto failures = comm.gather_text(failure, tag);
  if (!failures[0].empty()) throw base::Error(code, failures[0]);
}

}  // namespace

RunFolder::RunFolder(const std::filesystem::path& folder, const train::RunConfig& config,
                     comm::Communicator& comm)
    : folder_(folder) {
  const auto texts = comm.gather_text(config.ini(), "start/config");
  for (std::size_t p = 1; p < texts.size(); ++p) {
    if (texts[p] != texts[0]) {
      throw base::UsageError(base::text("process ", p,
                                        " has another configuration than process 0: "
                                        "every process needs the same file and --set"));
    }
  }
  on_first_process(comm, "start/lock", [&] {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw base::MachineError("creating " + folder.string() + ": " + error.message());
    lock_ = std::make_unique<checkpoints::RunLock>(folder);
  });
}

void RunFolder::describe(const train::RunConfig& config, comm::Communicator& comm) const {
  on_first_process(comm, "start/describe", [&] {
    base::replace_file(folder_ / "config.ini", config.ini());
    base::replace_file(folder_ / "environment.json", environment_json(comm));
  });
}

}  // namespace dfmoa::launch
