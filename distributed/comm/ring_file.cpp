#include "distributed/comm/ring_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <string>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"

namespace dfmoa::comm {
namespace {

constexpr std::array<char, 8> kMagic = {'D', 'F', 'M', 'O', 'A', 'R', 'N', '2'};

/// On disk as in memory: a ring is read on the machine that wrote it.
struct Header {
  std::array<char, 8> magic;
  std::int32_t process;
  std::int32_t num_processes;
};

struct Slot {
  std::int64_t number;  // 0: empty or being written; written last
  std::int64_t state;
  std::int64_t elements;
  std::int64_t dtype;
  std::int64_t processes;
  std::int64_t kept_elements;
  std::array<char, 16> op;
  std::array<char, 72> tag;
};

// What `state` says.
constexpr std::int64_t kInside = 0;
constexpr std::int64_t kEnded = 1;
constexpr std::int64_t kInFlight = 2;

constexpr std::size_t kHeaderBytes = 64;
constexpr std::size_t kRingBytes = kHeaderBytes + kRingEntries * sizeof(Slot);

template <std::size_t Size>
void put(std::array<char, Size>& to, const std::string& text) noexcept {
  to.fill('\0');
  std::memcpy(to.data(), text.data(), std::min(text.size(), Size - 1));
}

template <std::size_t Size>
std::string get(const std::array<char, Size>& from) {
  return {from.begin(), std::find(from.begin(), from.end() - 1, '\0')};
}

Slot* slot_of(std::byte* data, std::int64_t number) noexcept {
  const auto index = static_cast<std::size_t>((number - 1) % kRingEntries);
  return reinterpret_cast<Slot*>(data + kHeaderBytes + index * sizeof(Slot));
}

/// Ordered for a reader of the mapping: what comes before in the program is visible before.
void publish(std::int64_t& field, std::int64_t value) noexcept {
  std::atomic_ref<std::int64_t>(field).store(value, std::memory_order_release);
}

}  // namespace

std::filesystem::path ring_path(const std::filesystem::path& folder, int process) {
  const auto digits = std::to_string(process);
  const std::string zeros(digits.size() < 5 ? 5 - digits.size() : 0, '0');
  return folder / ("collectives_" + zeros + digits + ".ring");
}

RingWriter::RingWriter(const std::filesystem::path& path, int process, int num_processes) {
  const auto doing = "creating the ring file " + path.string();
  const base::Descriptor file(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file) base::throw_errno(doing);
  // Allocated now: on a full disk a store into a hole would end the process by SIGBUS later.
  if (const int error = ::posix_fallocate(file.get(), 0, kRingBytes); error != 0) {
    errno = error;
    base::throw_errno(doing);
  }
  void* map = ::mmap(nullptr, kRingBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (map == MAP_FAILED) base::throw_errno(doing);
  data_ = static_cast<std::byte*>(map);
  const Header header{kMagic, process, num_processes};
  std::memcpy(data_, &header, sizeof(header));
}

RingWriter::~RingWriter() {
  ::munmap(data_, kRingBytes);
}

void RingWriter::begin(std::int64_t number, const Record& record) noexcept {
  Slot* slot = slot_of(data_, number);
  publish(slot->number, 0);
  std::atomic_thread_fence(std::memory_order_release);
  slot->state = kInside;
  slot->elements = record.elements;
  slot->dtype = static_cast<std::int64_t>(record.dtype);
  slot->processes = record.processes;
  slot->kept_elements = record.kept_elements;
  put(slot->op, record.op);
  put(slot->tag, record.tag);
  publish(slot->number, number);
}

void RingWriter::leave(std::int64_t number) noexcept {
  mark(number, kInFlight);
}

void RingWriter::enter(std::int64_t number) noexcept {
  mark(number, kInside);
}

void RingWriter::end(std::int64_t number) noexcept {
  mark(number, kEnded);
}

void RingWriter::mark(std::int64_t number, std::int64_t state) noexcept {
  Slot* slot = slot_of(data_, number);
  // What was in flight while the ring went round has lost its place.
  if (slot->number == number) publish(slot->state, state);
}

Ring read_ring(const std::filesystem::path& path) {
  const auto content = base::read_file(path);
  Header header{};
  if (content.size() == kRingBytes) std::memcpy(&header, content.data(), sizeof(header));
  if (header.magic != kMagic) {
    throw base::ContentError(base::text("reading the ring file ", path.string(), ": ",
                                        content.size(), " bytes, expected ", kRingBytes,
                                        " that begin with DFMOARN2"));
  }
  Ring ring{header.process, header.num_processes, {}};
  for (std::size_t i = 0; i < static_cast<std::size_t>(kRingEntries); ++i) {
    Slot slot{};
    std::memcpy(&slot, content.data() + kHeaderBytes + i * sizeof(Slot), sizeof(Slot));
    if (slot.number == 0) continue;
    if (slot.dtype < 0 || slot.dtype > static_cast<std::int64_t>(base::DType::u8)) {
      throw base::ContentError(base::text("reading the ring file ", path.string(), ": entry ", i,
                                          " has element type ", slot.dtype));
    }
    Record record{get(slot.tag), get(slot.op), slot.elements, static_cast<base::DType>(slot.dtype)};
    record.processes = static_cast<int>(slot.processes);
    record.kept_elements = slot.kept_elements;
    ring.entries.push_back(
        {slot.number, std::move(record), slot.state == kEnded, slot.state == kInFlight});
  }
  std::sort(ring.entries.begin(), ring.entries.end(),
            [](const RingEntry& a, const RingEntry& b) { return a.number < b.number; });
  return ring;
}

}  // namespace dfmoa::comm
