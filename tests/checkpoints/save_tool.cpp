// A run in small: resumes from the newest checkpoint of a folder, computes, saves every step.
//   save_tool RUN UNTIL [PROCESSES]   ends with exit code 0 and the hash of its state
#include <atomic>
#include <iostream>
#include <mutex>

#include "checkpoints/reader.h"
#include "checkpoints/run_lock.h"
#include "checkpoints/writer.h"
#include "distributed/comm/local.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "tests/checkpoints/running_state.h"

namespace {

using namespace dfmoa;

/// Every process computes everything and saves its share of it.
void run(const std::filesystem::path& checkpoints, std::int64_t until, comm::Communicator& comm) {
  base::Logger log(comm.process() == 0);
  checkpoints::RunningState state;
  if (const auto newest = checkpoints::find_newest(checkpoints, log)) {
    newest->load(state.tree());
    state.step = newest->step();
    log.info(base::text("resumed at step ", state.step));
  }
  comm.barrier("resume");  // nobody saves while another still reads
  while (state.step < until) {
    state.advance();
    checkpoints::save_checkpoint(checkpoints,
                                 state.spread_tree(comm.process(), comm.num_processes()),
                                 state.step, comm, {.keep_last = 1, .keep_every = 0});
  }
  if (comm.process() == 0) std::cout << "hash " << state.hash() << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: save_tool RUN UNTIL [PROCESSES]\n";
    return 2;
  }
  const std::filesystem::path folder = argv[1];
  std::atomic<int> failed = 0;
  std::mutex printing;
  try {
    const checkpoints::RunLock lock(folder);
    comm::run_local(argc > 3 ? std::stoi(argv[3]) : 1, [&](comm::Communicator& comm) {
      try {
        run(folder / "checkpoints", std::stoll(argv[2]), comm);
      } catch (const std::exception& error) {
        const std::lock_guard hold(printing);
        std::cerr << "process " << comm.process() << ": " << base::describe(error) << std::endl;
        ++failed;
      }
    });
  } catch (const std::exception& error) {
    std::cerr << base::describe(error) << std::endl;
    return 1;
  }
  return failed == 0 ? 0 : 1;
}
