// Collectives over MPI between their start and their end. Included by the MPI back end only.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "distributed/comm/pending.h"
#include "distributed/comm/reduce.h"

namespace dfmoa::comm {

/// Throws MachineError with MPI's words unless `status` is MPI_SUCCESS.
void check_mpi(int status, const char* doing);

/// A step that a process does for others as well as for itself, once what it waits for has come.
class Step {
 public:
  virtual ~Step() = default;
  /// True once it is done. Keeps what it throws for its own wait.
  virtual bool try_step() noexcept = 0;
};

/// The steps of this process that others may depend on. Whoever waits for anything takes them
/// meanwhile: else two processes that wait in different orders would wait for each other.
class Steps {
 public:
  void add(Step& step) { steps_.push_back(&step); }
  void remove(const Step& step) { std::erase(steps_, &step); }
  [[nodiscard]] bool empty() const { return steps_.empty(); }
  void try_all() {
    std::erase_if(steps_, [](Step* step) { return step->try_step(); });
  }

 private:
  std::vector<Step*> steps_;
};

/// An MPI communicator and what everything in flight on it shares.
class MpiGroup {
 public:
  /// Owns `comm`. Its errors are returned, not fatal.
  MpiGroup(MPI_Comm comm, std::size_t chunk_bytes, std::shared_ptr<Steps> steps);
  ~MpiGroup();
  MpiGroup(const MpiGroup&) = delete;
  MpiGroup& operator=(const MpiGroup&) = delete;

  [[nodiscard]] MPI_Comm comm() const { return comm_; }
  [[nodiscard]] int process() const { return process_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] std::size_t chunk_bytes() const { return chunk_bytes_; }
  [[nodiscard]] const std::shared_ptr<Steps>& steps() const { return steps_; }
  /// The next of so many that none returns while its last user is in flight. One for each phase of
  /// every started collective: no two ever take each other's messages.
  [[nodiscard]] int next_tag();

 private:
  MPI_Comm comm_;
  std::size_t chunk_bytes_;
  std::shared_ptr<Steps> steps_;
  int process_ = 0;
  int size_ = 0;
  int largest_tag_ = 0;
  int tag_ = 0;
};

/// A run of bytes that goes to or comes from one process.
template <class Byte>
struct Part {
  int process;
  Byte* data;
  std::int64_t bytes;
};

/// Point to point in pieces of at most `chunk_bytes`, because MPI counts are int; parts of zero
/// bytes send nothing. A peer that sends another number of bytes is an error, never a short read.
/// All receives are posted before the first send.
class Transfer final : public InFlight {
 public:
  Transfer(std::shared_ptr<MpiGroup> group, int tag) : group_(std::move(group)), tag_(tag) {}
  /// Cancels what has not come and lets go of what has not left.
  ~Transfer() override;

  void receive(const Part<char>& part);
  void send(const Part<const char>& part);
  /// True once everything has come and left; does not wait. Throws as `finish`.
  bool is_done();
  void finish() override;

 private:
  struct Expected {
    int process;
    int bytes;
  };

  /// Posts one message for every piece; `post(offset, bytes, request)` returns MPI's status.
  template <class Post>
  void in_chunks(std::int64_t bytes, const char* doing, Post&& post);
  /// Up to the end, or to the first message that `may_wait` forbids to wait for.
  bool advance(bool may_wait);
  [[nodiscard]] std::string short_message(std::size_t i, const MPI_Status& status) const;

  std::shared_ptr<MpiGroup> group_;
  int tag_;
  std::vector<MPI_Request> requests_;
  std::vector<Expected> expected_;  // of the first requests: the receives
  std::size_t done_ = 0;
  std::string problem_;
};

/// Every element is reduced by one process, in process order, and sent back: bitwise the same
/// everywhere and in every run, which MPI_Allreduce does not promise.
class AllReduce final : public InFlight, private Step {
 public:
  AllReduce(const std::shared_ptr<MpiGroup>& group, void* data, std::int64_t count,
            base::DType dtype, Op op);
  ~AllReduce() override;
  void finish() override;

 private:
  [[nodiscard]] std::int64_t first(int process) const;
  [[nodiscard]] std::int64_t extent(int process) const {
    return first(process + 1) - first(process);
  }
  bool try_step() noexcept override;
  /// Reduces the own part and starts to send it back.
  void reduce();

  std::shared_ptr<MpiGroup> group_;
  char* data_;
  std::int64_t count_;
  base::DType dtype_;
  Op op_;
  std::vector<char> received_;  // the transfers write into it: they go first
  Transfer there_;
  Transfer back_;
  bool is_reduced_ = false;
  std::exception_ptr failure_;
};

}  // namespace dfmoa::comm
