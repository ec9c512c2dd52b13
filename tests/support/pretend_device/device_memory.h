// The memory of the pretend accelerator: a part of host memory that faults when host code reads or
// writes it, as a GPU's memory does.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

namespace dfmoa::pretend {

class DeviceMemory {
 public:
  /// The one device of the program.
  static DeviceMemory& instance();

  /// Memory full of 0xFF bytes (NaN), aligned to 64; null for no bytes. Throws std::bad_alloc.
  [[nodiscard]] void* take(std::size_t bytes);
  void give_back(void* pointer);

  /// Between the two, code runs on the device: its memory can be reached. Calls nest.
  void open();
  void close();
  class Access {
   public:
    Access() { instance().open(); }
    ~Access() { instance().close(); }
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;
  };

 private:
  DeviceMemory();

  std::mutex mutex_;
  std::byte* begin_ = nullptr;
  std::size_t end_ = 0;                                  // first byte that was never used
  std::map<std::size_t, std::vector<std::byte*>> free_;  // size class -> blocks
  std::map<void*, std::size_t> size_of_;
  int open_ = 0;
};

}  // namespace dfmoa::pretend
