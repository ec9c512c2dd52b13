#include "distributed/comm/mpi.h"

#include <mpi.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "distributed/comm/mpi_in_flight.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::comm {
namespace {

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(const std::shared_ptr<MpiGroup>& group)
      : Communicator(group->process(), group->size()), group_(group) {}
  MpiCommunicator(const std::shared_ptr<MpiGroup>& group, const Communicator& whole)
      : Communicator(group->process(), group->size(), whole), group_(group) {}

 private:
  std::unique_ptr<InFlight> do_all_gather(const void* in, std::size_t bytes_each,
                                          void* out) override {
    const auto bytes = static_cast<std::int64_t>(bytes_each);
    auto* to = static_cast<char*>(out);
    if (bytes > 0) std::memmove(to + process() * bytes, in, bytes_each);
    auto transfer = std::make_unique<Transfer>(group_, group_->next_tag());
    for (int p = 0; p < num_processes(); ++p) {
      if (p != process()) transfer->receive({p, to + p * bytes, bytes});
    }
    for (int p = 0; p < num_processes(); ++p) {
      if (p != process()) transfer->send({p, to + process() * bytes, bytes});
    }
    return transfer;
  }

  std::unique_ptr<InFlight> do_all_reduce(void* data, std::int64_t count, base::DType dtype,
                                          Op op) override {
    if (num_processes() == 1) return nullptr;
    return std::make_unique<AllReduce>(group_, data, count, dtype, op);
  }

  std::unique_ptr<InFlight> do_all_to_all(const void* send,
                                          std::span<const std::int64_t> send_bytes, void* receive,
                                          std::span<const std::int64_t> receive_bytes) override {
    auto transfer = std::make_unique<Transfer>(group_, group_->next_tag());
    auto* in = static_cast<char*>(receive);
    const auto* out = static_cast<const char*>(send);
    for (int p = 0; p < num_processes(); ++p) {
      const auto bytes = receive_bytes[static_cast<std::size_t>(p)];
      transfer->receive({p, in, bytes});
      in += bytes;
    }
    for (int p = 0; p < num_processes(); ++p) {
      const auto bytes = send_bytes[static_cast<std::size_t>(p)];
      transfer->send({p, out, bytes});
      out += bytes;
    }
    return transfer;
  }

  void do_broadcast(void* data, std::size_t bytes, int root) override {
    for (std::size_t done = 0; done < bytes; done += group_->chunk_bytes()) {
      check_mpi(MPI_Bcast(static_cast<char*>(data) + done,
                          static_cast<int>(std::min(group_->chunk_bytes(), bytes - done)), MPI_BYTE,
                          root, group_->comm()),
                "MPI_Bcast");
    }
  }

  void do_barrier() override { check_mpi(MPI_Barrier(group_->comm()), "MPI_Barrier"); }

  std::unique_ptr<Communicator> do_split(int color) override {
    MPI_Comm part = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split(group_->comm(), color, process(), &part), "MPI_Comm_split");
    return std::make_unique<MpiCommunicator>(
        std::make_shared<MpiGroup>(part, group_->chunk_bytes(), group_->steps()), *this);
  }

  std::shared_ptr<MpiGroup> group_;
};

int world_process() {
  int process = 0;
  check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &process), "MPI_Comm_rank");
  return process;
}

}  // namespace

/// A communicator of its own: on the world a collective of the failed process may be half done.
struct MpiEnvironment::Farewell {
  MPI_Comm comm = MPI_COMM_NULL;
};

MpiEnvironment::MpiEnvironment() : farewell_(std::make_unique<Farewell>()) {
  int provided = MPI_THREAD_SINGLE;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_FUNNELED) {
    throw base::MachineError(
        base::text("MPI gives thread level ", provided, ", expected FUNNELED"));
  }
  check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &farewell_->comm), "MPI_Comm_dup");
}

MpiEnvironment::~MpiEnvironment() {
  MPI_Finalize();
}

bool MpiEnvironment::is_first_process() const {
  return world_process() == 0;
}

bool MpiEnvironment::all_failed(std::chrono::milliseconds patience) const {
  const auto end = std::chrono::steady_clock::now() + patience;
  MPI_Request request = MPI_REQUEST_NULL;
  int done = 0;
  if (MPI_Ibarrier(farewell_->comm, &request) != MPI_SUCCESS) return false;
  while (MPI_Test(&request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS && done == 0) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // leaves the core to the others
  }
  return done != 0;
}

std::unique_ptr<Communicator> make_mpi_world(std::size_t chunk_bytes) {
  if (chunk_bytes == 0 || chunk_bytes > kLargestChunk) {
    throw base::ShapeError(
        base::text("chunks of ", chunk_bytes, " bytes: expected 1 to ", kLargestChunk));
  }
  // Not MPI_COMM_WORLD itself: tags count from 0 on every communicator.
  MPI_Comm world = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &world), "MPI_Comm_dup");
  return std::make_unique<MpiCommunicator>(
      std::make_shared<MpiGroup>(world, chunk_bytes, std::make_shared<Steps>()));
}

void abort_mpi(int exit_code) {
  MPI_Abort(MPI_COMM_WORLD, exit_code);
  std::_Exit(exit_code);  // MPI_Abort is not declared to never return
}

bool started_by_launcher() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_RANK"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

}  // namespace dfmoa::comm
