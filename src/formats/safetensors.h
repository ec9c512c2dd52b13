// safetensors: u64 little-endian header length, JSON header, then the tensors' bytes back to back.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/file.h"
#include "src/formats/file_writer.h"
#include "src/formats/tensor_view.h"

namespace dfmoa::formats {

using TensorMap = std::map<std::string, TensorView, std::less<>>;
using Metadata = std::map<std::string, std::string>;

/// One mapped file; nothing is copied, the views live as long as the object.
/// BOOL tensors are given as U8.
class SafetensorsFile {
 public:
  /// Throws UsageError if there is no such file; ContentError, naming file and tensor, for a header
  /// over 100 MB or beyond the file's end, malformed JSON, a name written twice, an element type we
  /// do not know, offsets outside the file, bytes that disagree with dtype and shape, overlaps,
  /// holes, and bytes that belong to no tensor.
  explicit SafetensorsFile(const std::filesystem::path& path);

  /// In order of name.
  [[nodiscard]] const TensorMap& tensors() const { return tensors_; }
  [[nodiscard]] const Metadata& metadata() const { return metadata_; }
  [[nodiscard]] const std::filesystem::path& path() const { return file_->path(); }

 private:
  std::unique_ptr<base::MappedFile> file_;
  TensorMap tensors_;
  Metadata metadata_;
};

/// Writes tensor after tensor, so that at no time all of them need to be in memory. The tensors lie
/// in the file in the order in which they were declared; the first begins at a multiple of 8.
class SafetensorsWriter {
 public:
  /// Creates `path`.tmp and writes the header.
  /// Throws ShapeError if a name is empty, reserved or declared twice or an extent is negative,
  /// MachineError if the file cannot be written.
  SafetensorsWriter(const std::filesystem::path& path, std::span<const TensorSpec> tensors,
                    const Metadata& metadata = {{"format", "pt"}});

  /// The next bytes of tensor `name`: the whole tensor, or one piece after the other.
  /// Throws ShapeError if another tensor is due or the bytes exceed its shape, MachineError.
  void append(std::string_view name, std::span<const std::byte> bytes);

  /// The file takes its name; without it, nothing appears under `path`.
  /// Throws ShapeError if bytes are missing, MachineError.
  void finish();

 private:
  struct Due {
    std::string name;
    std::size_t bytes;
  };
  ReplacedFile file_;
  std::vector<Due> due_;
  std::size_t next_ = 0;
};

/// Writes all tensors straight from their bytes; the widest element types come first, then in
/// order of name, so that every tensor is aligned to its type.
/// Throws ShapeError as SafetensorsWriter, and if bytes disagree with dtype and shape;
/// MachineError.
void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const Metadata& metadata = {{"format", "pt"}});

}  // namespace dfmoa::formats
