#include "distributed/comm/mpi.h"

#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::comm {
namespace {

std::string words_of(int status) {
  std::array<char, MPI_MAX_ERROR_STRING> words{};
  int length = 0;
  MPI_Error_string(status, words.data(), &length);
  return {words.data(), static_cast<std::size_t>(length)};
}

void check(int status, const char* doing) {
  if (status != MPI_SUCCESS) throw base::MachineError(base::text(doing, ": ", words_of(status)));
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

/// A run of bytes that goes to or comes from one process.
template <class Byte>
struct Part {
  int process;
  Byte* data;
  std::int64_t bytes;
};
using Incoming = Part<char>;
using Outgoing = Part<const char>;

/// Point to point in pieces of at most `chunk_bytes`, because MPI counts are int; parts of zero
/// bytes send nothing. A peer that sends another number of bytes is an error, never a short read.
class Transfer {
 public:
  explicit Transfer(std::size_t chunk_bytes) : chunk_(static_cast<std::int64_t>(chunk_bytes)) {}

  void receive(const Incoming& part) {
    for (std::int64_t done = 0; done < part.bytes; done += chunk_) {
      const auto size = static_cast<int>(std::min(chunk_, part.bytes - done));
      expected_.push_back({part.process, size});
      check(MPI_Irecv(part.data + done, size, MPI_BYTE, part.process, 0, MPI_COMM_WORLD,
                      &requests_.emplace_back()),
            "MPI_Irecv");
    }
  }

  void send(const Outgoing& part) {
    for (std::int64_t done = 0; done < part.bytes; done += chunk_) {
      const auto size = static_cast<int>(std::min(chunk_, part.bytes - done));
      check(MPI_Isend(part.data + done, size, MPI_BYTE, part.process, 0, MPI_COMM_WORLD,
                      &requests_.emplace_back()),
            "MPI_Isend");
    }
  }

  /// Receives were issued before sends, so that expectations and requests share their index. One
  /// after the other, to the last: MPI_Waitall gives up at the first error and leaves requests
  /// that still write into memory of ours.
  void wait() {
    std::string problem;
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      MPI_Status status;
      const int result = MPI_Wait(&requests_[i], &status);
      if (!problem.empty()) continue;
      if (result != MPI_SUCCESS) problem = "MPI_Wait: " + words_of(result);
      if (result == MPI_SUCCESS && i < expected_.size()) problem = short_message(i, status);
    }
    if (!problem.empty()) throw base::MachineError(problem);
  }

 private:
  struct Expected {
    int process;
    int bytes;
  };

  /// Empty if as many bytes came as were expected.
  [[nodiscard]] std::string short_message(std::size_t i, const MPI_Status& status) const {
    int bytes = 0;
    check(MPI_Get_count(&status, MPI_BYTE, &bytes), "MPI_Get_count");
    if (bytes == expected_[i].bytes) return {};
    return base::text("process ", expected_[i].process, " sent ", bytes, " bytes, expected ",
                      expected_[i].bytes);
  }

  std::int64_t chunk_;
  std::vector<MPI_Request> requests_;
  std::vector<Expected> expected_;
};

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(std::size_t chunk_bytes)
      : Communicator(world_process(), world_size()), chunk_bytes_(chunk_bytes) {}

 private:
  void do_all_gather(const void* in, std::size_t bytes_each, void* out) override {
    const auto bytes = static_cast<std::int64_t>(bytes_each);
    auto* to = static_cast<char*>(out);
    if (bytes > 0) std::memmove(to + process() * bytes, in, bytes_each);
    Transfer transfer(chunk_bytes_);
    for_others([&](int p) { transfer.receive({p, to + p * bytes, bytes}); });
    for_others([&](int p) { transfer.send({p, to + process() * bytes, bytes}); });
    transfer.wait();
  }

  /// Every element is reduced by one process, in process order, and sent back: bitwise the same
  /// everywhere and in every run, which MPI_Allreduce does not promise.
  void do_all_reduce(void* data, std::int64_t count, base::DType dtype, Op op) override {
    if (num_processes() == 1) return;
    const auto size = static_cast<std::int64_t>(base::size_of(dtype));
    const auto each = (count + num_processes() - 1) / num_processes();
    auto* bytes = static_cast<char*>(data);
    const auto first = [&](int p) { return std::min(p * each, count) * size; };
    const auto extent = [&](int p) { return first(p + 1) - first(p); };
    const auto mine = extent(process());
    std::vector<char> received(static_cast<std::size_t>(num_processes() * mine));
    std::vector<const void*> parts;
    for (int p = 0; p < num_processes(); ++p) {
      parts.push_back(p == process() ? bytes + first(p) : received.data() + p * mine);
    }
    Transfer there(chunk_bytes_);
    for_others([&](int p) { there.receive({p, received.data() + p * mine, mine}); });
    for_others([&](int p) { there.send({p, bytes + first(p), extent(p)}); });
    there.wait();
    // The place of the own part is free: that part is read from `data`.
    auto* reduced = received.data() + process() * mine;
    reduce_parts(process() == 0 ? bytes + first(0) : reduced, parts, mine / size, dtype, op);
    if (process() != 0 && mine > 0) {
      std::memcpy(bytes + first(process()), reduced, static_cast<std::size_t>(mine));
    }
    Transfer back(chunk_bytes_);
    for_others([&](int p) { back.receive({p, bytes + first(p), extent(p)}); });
    for_others([&](int p) { back.send({p, bytes + first(process()), mine}); });
    back.wait();
  }

  void do_all_to_all(const void* send, std::span<const std::int64_t> send_bytes, void* receive,
                     std::span<const std::int64_t> receive_bytes) override {
    Transfer transfer(chunk_bytes_);
    auto* in = static_cast<char*>(receive);
    const auto* out = static_cast<const char*>(send);
    for (int p = 0; p < num_processes(); ++p) {
      const auto bytes = receive_bytes[static_cast<std::size_t>(p)];
      transfer.receive({p, in, bytes});
      in += bytes;
    }
    for (int p = 0; p < num_processes(); ++p) {
      const auto bytes = send_bytes[static_cast<std::size_t>(p)];
      transfer.send({p, out, bytes});
      out += bytes;
    }
    transfer.wait();
  }

  void do_broadcast(void* data, std::size_t bytes, int root) override {
    for (std::size_t done = 0; done < bytes; done += chunk_bytes_) {
      check(MPI_Bcast(static_cast<char*>(data) + done,
                      static_cast<int>(std::min(chunk_bytes_, bytes - done)), MPI_BYTE, root,
                      MPI_COMM_WORLD),
            "MPI_Bcast");
    }
  }

  void do_barrier() override { check(MPI_Barrier(MPI_COMM_WORLD), "MPI_Barrier"); }

  template <class Body>
  void for_others(Body&& body) const {
    for (int p = 0; p < num_processes(); ++p) {
      if (p != process()) body(p);
    }
  }

  std::size_t chunk_bytes_;
};

}  // namespace

/// A communicator of its own: on the world a collective of the failed process may be half done.
struct MpiEnvironment::Farewell {
  MPI_Comm comm = MPI_COMM_NULL;
};

MpiEnvironment::MpiEnvironment() : farewell_(std::make_unique<Farewell>()) {
  int provided = MPI_THREAD_SINGLE;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
  if (provided < MPI_THREAD_FUNNELED) {
    throw base::MachineError(
        base::text("MPI gives thread level ", provided, ", expected FUNNELED"));
  }
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check(MPI_Comm_dup(MPI_COMM_WORLD, &farewell_->comm), "MPI_Comm_dup");
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
  return std::make_unique<MpiCommunicator>(chunk_bytes);
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
