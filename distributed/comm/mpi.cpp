#include "distributed/comm/mpi.h"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::comm {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 30;  // MPI counts are int

void check(int status, const char* doing) {
  if (status == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> words{};
  int length = 0;
  MPI_Error_string(status, words.data(), &length);
  throw base::MachineError(base::text(doing, ": ", words.data()));
}

int world_size() {
  int size = 0;
  check(MPI_Comm_size(MPI_COMM_WORLD, &size), "MPI_Comm_size");
  return size;
}

int world_process() {
  int process = 0;
  check(MPI_Comm_rank(MPI_COMM_WORLD, &process), "MPI_Comm_rank");
  return process;
}

class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator() : Communicator(world_process(), world_size()) {}

 private:
  void do_all_gather(const void* in, std::size_t bytes_each, void* out) override {
    const auto processes = static_cast<std::size_t>(num_processes());
    const auto step = std::max<std::size_t>(kChunk / processes, 1);
    std::vector<std::byte> part;
    for (std::size_t done = 0; done < bytes_each; done += step) {
      const auto size = std::min(step, bytes_each - done);
      part.resize(size * processes);
      check(MPI_Allgather(static_cast<const char*>(in) + done, static_cast<int>(size), MPI_BYTE,
                          part.data(), static_cast<int>(size), MPI_BYTE, MPI_COMM_WORLD),
            "MPI_Allgather");
      for (std::size_t p = 0; p < processes; ++p) {
        std::memcpy(static_cast<char*>(out) + p * bytes_each + done, part.data() + p * size, size);
      }
    }
  }

  /// Reduce-scatter by an exchange, then an all-gather: the sum of an element is formed by one
  /// process in process order, so it is bitwise the same everywhere and in every run, which
  /// MPI_Allreduce does not promise.
  void do_all_reduce(void* data, std::int64_t count, base::DType dtype, Op op) override {
    const auto processes = static_cast<std::int64_t>(num_processes());
    if (processes == 1 || count == 0) return;
    const auto size = static_cast<std::int64_t>(base::size_of(dtype));
    const auto each = (count + processes - 1) / processes;
    const auto extent = [&](std::int64_t p) {
      return std::clamp<std::int64_t>(count - p * each, 0, each) * size;
    };
    std::vector<std::int64_t> send;
    for (std::int64_t p = 0; p < processes; ++p) send.push_back(extent(p));
    const auto mine = extent(process());
    const std::vector<std::int64_t> receive(static_cast<std::size_t>(processes), mine);
    std::vector<std::byte> parts(static_cast<std::size_t>(processes * each * size));
    do_all_to_all(data, send, parts.data(), receive);
    for (std::int64_t p = 1; p < processes; ++p) {
      reduce_into(parts.data(), parts.data() + p * mine, mine / size, dtype, op);
    }
    parts.resize(static_cast<std::size_t>(each * size));
    std::vector<std::byte> whole(static_cast<std::size_t>(processes * each * size));
    do_all_gather(parts.data(), parts.size(), whole.data());
    std::memcpy(data, whole.data(), static_cast<std::size_t>(count * size));
  }

  void do_all_to_all(const void* send, std::span<const std::int64_t> send_bytes, void* receive,
                     std::span<const std::int64_t> receive_bytes) override {
    // Point to point in chunks: counts beyond an int, and parts of zero bytes send nothing.
    std::vector<MPI_Request> requests;
    auto* in = static_cast<char*>(receive);
    const auto* out = static_cast<const char*>(send);
    for (int p = 0; p < num_processes(); ++p) {
      const auto bytes = static_cast<std::size_t>(receive_bytes[static_cast<std::size_t>(p)]);
      for (std::size_t done = 0; done < bytes; done += kChunk) {
        const auto size = static_cast<int>(std::min(kChunk, bytes - done));
        check(MPI_Irecv(in + done, size, MPI_BYTE, p, 0, MPI_COMM_WORLD, &requests.emplace_back()),
              "MPI_Irecv");
      }
      in += bytes;
    }
    for (int p = 0; p < num_processes(); ++p) {
      const auto bytes = static_cast<std::size_t>(send_bytes[static_cast<std::size_t>(p)]);
      for (std::size_t done = 0; done < bytes; done += kChunk) {
        const auto size = static_cast<int>(std::min(kChunk, bytes - done));
        check(MPI_Isend(out + done, size, MPI_BYTE, p, 0, MPI_COMM_WORLD, &requests.emplace_back()),
              "MPI_Isend");
      }
      out += bytes;
    }
    check(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE),
          "MPI_Waitall");
  }

  void do_broadcast(void* data, std::size_t bytes, int root) override {
    for (std::size_t done = 0; done < bytes; done += kChunk) {
      check(MPI_Bcast(static_cast<char*>(data) + done,
                      static_cast<int>(std::min(kChunk, bytes - done)), MPI_BYTE, root,
                      MPI_COMM_WORLD),
            "MPI_Bcast");
    }
  }

  void do_barrier() override { check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier"); }
};

}  // namespace

MpiEnvironment::MpiEnvironment() {
  int provided = MPI_THREAD_SINGLE;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_FUNNELED) {
    throw base::MachineError(
        base::text("MPI gives thread level ", provided, ", expected FUNNELED"));
  }
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

MpiEnvironment::~MpiEnvironment() {
  MPI_Finalize();
}

std::unique_ptr<Communicator> make_mpi_world() {
  return std::make_unique<MpiCommunicator>();
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
