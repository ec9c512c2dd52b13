// What processes tell each other, over plain memory: no tensor, no device, no topology.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "distributed/comm/pending.h"
#include "distributed/comm/recorder.h"
#include "distributed/comm/reduce.h"
#include "src/base/dtype.h"

namespace dfmoa::comm {

/// Every process must issue the same collectives in the same order with the same counts. Each is
/// recorded before it starts and after it ends. Reductions add in process order: bitwise equal run
/// to run, and on every process.
/// Throws MachineError, in a Context that names the collective, when the back end fails, another
/// process has failed, or the processes' calls are seen to differ; ShapeError for arguments that
/// no process may give.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;
  [[nodiscard]] int process() const { return process_; }
  [[nodiscard]] int num_processes() const { return num_processes_; }

  /// In place. f64, f32, bf16 (reduced in fp32, rounded once), i64, i32. In a world of one nothing
  /// is to be added: `data` is not looked at.
  void all_reduce(void* data, std::int64_t count, base::DType dtype, Op op, std::string_view tag);
  /// `out` holds num_processes * count_each elements, in process order.
  void all_gather(const void* in, std::int64_t count_each, void* out, base::DType dtype,
                  std::string_view tag);
  /// `in` holds num_processes * count_each elements; this process gets part number process().
  void reduce_scatter(const void* in, void* out, std::int64_t count_each, base::DType dtype, Op op,
                      std::string_view tag);
  /// Ragged: counts in elements, one per process, parts side by side.
  void all_to_all(const void* send, std::span<const std::int64_t> send_counts, void* receive,
                  std::span<const std::int64_t> receive_counts, base::DType dtype,
                  std::string_view tag);
  void broadcast(void* data, std::int64_t count, base::DType dtype, int root, std::string_view tag);
  void barrier(std::string_view tag);

  /// The same, started only. Any number may be in flight, here and on communicators that share this
  /// one's recorder. All processes start them in the same order; each may wait for them in an order
  /// of its own, but a broadcast, barrier or split lies, for every process, before or after a wait.
  [[nodiscard]] Pending start_all_reduce(void* data, std::int64_t count, base::DType dtype, Op op,
                                         std::string_view tag);
  [[nodiscard]] Pending start_all_gather(const void* in, std::int64_t count_each, void* out,
                                         base::DType dtype, std::string_view tag);
  [[nodiscard]] Pending start_reduce_scatter(const void* in, void* out, std::int64_t count_each,
                                             base::DType dtype, Op op, std::string_view tag);
  [[nodiscard]] Pending start_all_to_all(const void* send,
                                         std::span<const std::int64_t> send_counts, void* receive,
                                         std::span<const std::int64_t> receive_counts,
                                         base::DType dtype, std::string_view tag);

  /// The processes that give the same `color` >= 0, in the order they have here. The part shares
  /// this communicator's recorder, ring included, and may outlive it. Processes of parts of
  /// different sizes record different sequences.
  [[nodiscard]] std::unique_ptr<Communicator> split(int color, std::string_view tag);

  /// True only if every process says so: asked before anything that cannot be undone.
  [[nodiscard]] bool agree(bool ok, std::string_view tag);
  /// Everybody's text, in process order.
  [[nodiscard]] std::vector<std::string> gather_text(const std::string& mine, std::string_view tag);

  /// Of this process: a part has the one of the communicator that it was split from.
  [[nodiscard]] Recorder& recorder() { return *recorder_; }
  /// From now on every collective is also written to a ring file in this existing folder
  /// (ring_file.h), those of parts included. Throws MachineError if the file cannot be made,
  /// ShapeError on a part: its process numbers are not the run's.
  void keep_ring(const std::filesystem::path& folder);

 protected:
  Communicator(int process, int num_processes)
      : process_(process),
        num_processes_(num_processes),
        recorder_(std::make_shared<Recorder>()),
        is_part_(false) {}
  /// A part of `whole`.
  Communicator(int process, int num_processes, const Communicator& whole)
      : process_(process),
        num_processes_(num_processes),
        recorder_(whole.recorder_),
        is_part_(true) {}
  /// The collective that is being started.
  [[nodiscard]] const Record& current() const { return recorder_->records().back(); }

 private:
  /// These may return null: nothing is left to wait for. Spans do not outlive the call.
  virtual std::unique_ptr<InFlight> do_all_gather(const void* in, std::size_t bytes_each,
                                                  void* out) = 0;
  virtual std::unique_ptr<InFlight> do_all_reduce(void* data, std::int64_t count, base::DType dtype,
                                                  Op op) = 0;
  virtual std::unique_ptr<InFlight> do_all_to_all(const void* send,
                                                  std::span<const std::int64_t> send_bytes,
                                                  void* receive,
                                                  std::span<const std::int64_t> receive_bytes) = 0;
  virtual void do_broadcast(void* data, std::size_t bytes, int root) = 0;
  virtual void do_barrier() = 0;
  virtual std::unique_ptr<Communicator> do_split(int color) = 0;

  [[nodiscard]] Pending start(Record call, const Pending::Start& body);
  void carry_out(Record call, const std::function<void()>& body);

  int process_;
  int num_processes_;
  std::shared_ptr<Recorder> recorder_;
  bool is_part_;
};

}  // namespace dfmoa::comm
