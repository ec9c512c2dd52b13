// TensorBoard event files: TFRecord framing and hand-encoded protobuf, no protobuf library.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "src/base/file.h"

namespace dfmoa::formats {

/// CRC-32C (Castagnoli), the checksum of TFRecord.
[[nodiscard]] std::uint32_t crc32c(std::string_view bytes);

/// One new event file, `events.out.tfevents.SECONDS.HOST.PROCESS.N`, in a folder that it creates.
/// TensorBoard reads all event files of a folder together, so a resumed run adds its own file.
class EventWriter {
 public:
  /// Throws MachineError if folder or file cannot be created.
  explicit EventWriter(const std::filesystem::path& folder);

  /// One record, in the file when the call returns.
  /// Units   wall_time in seconds since 1970; TensorBoard keeps the value as fp32.
  /// Throws  MachineError.
  void scalar(std::string_view tag, std::int64_t step, float value, double wall_time);

  /// The records survive a crash of the machine. Throws MachineError.
  void flush();

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  void write_record(std::string_view event);

  std::filesystem::path path_;
  base::Descriptor file_;
};

}  // namespace dfmoa::formats
