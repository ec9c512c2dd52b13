// The last 4,096 collectives of one process in a mapped file, written before each starts and after
// it ends: what a killed or stopped process was doing is read from it, nothing has to be dumped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "distributed/comm/record.h"

namespace dfmoa::comm {

inline constexpr std::int64_t kRingEntries = 4096;

/// `folder`/collectives_00003.ring.
[[nodiscard]] std::filesystem::path ring_path(const std::filesystem::path& folder, int process);

class RingWriter {
 public:
  /// Creates or empties the file. Throws MachineError with errno's words.
  RingWriter(const std::filesystem::path& path, int process, int num_processes);
  ~RingWriter();
  RingWriter(const RingWriter&) = delete;
  RingWriter& operator=(const RingWriter&) = delete;

  /// `number` counts the collectives of this process from 1; op is kept to 15 and tag to 71 bytes.
  void begin(std::int64_t number, const Record& record) noexcept;
  /// Its process is not inside it any more, it is in flight; and waits for it.
  void leave(std::int64_t number) noexcept;
  void enter(std::int64_t number) noexcept;
  void end(std::int64_t number) noexcept;

 private:
  void mark(std::int64_t number, std::int64_t state) noexcept;

  std::byte* data_ = nullptr;
};

struct RingEntry {
  std::int64_t number = 0;
  Record record;
  bool has_ended = false;
  bool is_in_flight = false;  ///< started, and its process neither starts it nor waits for it
};

struct Ring {
  int process = 0;
  int num_processes = 0;
  std::vector<RingEntry> entries;  ///< by ascending number
};

/// Also while its process runs.
/// Throws UsageError if there is no such file, ContentError if it is not a ring.
[[nodiscard]] Ring read_ring(const std::filesystem::path& path);

}  // namespace dfmoa::comm
