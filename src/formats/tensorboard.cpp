#include "src/formats/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/file_writer.h"

namespace dfmoa::formats {
namespace {

constexpr std::array<std::uint32_t, 256> crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0x82F63B78U : 0U);
    table[byte] = crc;
  }
  return table;
}

/// TFRecord stores checksums rotated and shifted, so that a record within a record is not mistaken.
std::uint32_t masked_crc(std::string_view bytes) {
  const auto crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8U;
}

template <class Number>
std::string raw(Number value) {
  static_assert(std::is_trivially_copyable_v<Number>);
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>((value & 0x7F) | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

/// A protobuf field's key: its number and how its value is laid out.
enum class Wire : std::uint64_t { varint = 0, fixed64 = 1, length = 2, fixed32 = 5 };
std::string field_key(std::uint64_t number, Wire wire) {
  return varint(number << 3 | static_cast<std::uint64_t>(wire));
}
std::string length_field(std::uint64_t number, std::string_view content) {
  return field_key(number, Wire::length) + varint(content.size()) + std::string(content);
}

// Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
std::string event_head(double wall_time, std::int64_t step) {
  return field_key(1, Wire::fixed64) + raw(wall_time) + field_key(2, Wire::varint) +
         varint(static_cast<std::uint64_t>(step));
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// The first file name of this second, host and process that nobody has taken.
std::pair<std::filesystem::path, base::Descriptor> create_file(const std::filesystem::path& folder,
                                                               double now) {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) base::throw_errno("asking the host's name");
  for (int number = 0;; ++number) {
    auto path = folder / base::text("events.out.tfevents.", static_cast<std::int64_t>(now), '.',
                                    host.data(), '.', ::getpid(), '.', number);
    base::Descriptor file(
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644));
    if (file) return {std::move(path), std::move(file)};
    if (errno != EEXIST) base::throw_errno(base::text("creating ", path.string()));
  }
}

}  // namespace

std::uint32_t crc32c(std::string_view bytes) {
  static constexpr auto kTable = crc_table();
  std::uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc = kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFFU] ^ (crc >> 8);
  }
  return ~crc;
}

EventWriter::EventWriter(const std::filesystem::path& folder) {
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  if (failure) {
    throw base::MachineError(base::text("creating ", folder.string(), ": ", failure.message()));
  }
  const auto now = seconds_now();
  std::tie(path_, file_) = create_file(folder, now);
  write_record(event_head(now, 0) + length_field(3, "brain.Event:2"));
}

void EventWriter::scalar(std::string_view tag, std::int64_t step, float value, double wall_time) {
  // Summary { repeated Value value = 1; }  Value { string tag = 1; float simple_value = 2; }
  const auto entry = length_field(1, tag) + field_key(2, Wire::fixed32) + raw(value);
  write_record(event_head(wall_time, step) + length_field(5, length_field(1, entry)));
}

void EventWriter::write_record(std::string_view event) {
  const auto length = raw(static_cast<std::uint64_t>(event.size()));
  const auto record =
      length + raw(masked_crc(length)) + std::string(event) + raw(masked_crc(event));
  write_all(file_.get(), std::as_bytes(std::span(record)), path_);
}

void EventWriter::flush() {
  if (::fsync(file_.get()) != 0) base::throw_errno(base::text("syncing ", path_.string()));
}

}  // namespace dfmoa::formats
