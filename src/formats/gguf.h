// GGUF, llama.cpp's single-file model: header, typed metadata, tensor table, aligned tensor data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/file.h"
#include "src/formats/gguf_metadata.h"
#include "src/formats/gguf_type.h"

namespace dfmoa::formats {

/// A tensor as stored. The shape is row-major as in torch (the file lists it innermost first).
struct GgufTensor {
  std::string name;
  GgufType type = GgufType::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;

  /// Elements of the innermost extent; 1 for a scalar.
  [[nodiscard]] std::int64_t columns() const { return shape.empty() ? 1 : shape.back(); }
  /// Product of all other extents.
  [[nodiscard]] std::int64_t rows() const;
};

/// A mapped file of version 2 or 3, little-endian; the tensors live as long as the object.
class GgufFile {
 public:
  /// Throws UsageError if there is no such file; ContentError, with names and numbers, for another
  /// magic, version or byte order, a count, length or offset beyond the file, an unknown value or
  /// tensor type, a key or tensor written twice, an empty
  /// tensor, a row that is no whole number of blocks, an
  /// alignment that is no power of two, an unaligned offset, and tensors that overlap.
  explicit GgufFile(const std::filesystem::path& path);

  using Tensors = std::map<std::string, GgufTensor, std::less<>>;
  /// In order of name.
  [[nodiscard]] const Tensors& tensors() const { return tensors_; }
  /// Null if there is none.
  [[nodiscard]] const GgufTensor* find(std::string_view name) const;
  /// Throws ContentError that names file and tensor.
  [[nodiscard]] const GgufTensor& get(std::string_view name) const;
  [[nodiscard]] const GgufMetadata& metadata() const { return metadata_; }
  [[nodiscard]] const std::filesystem::path& path() const { return file_->path(); }

 private:
  std::unique_ptr<base::MappedFile> file_;
  GgufMetadata metadata_;
  Tensors tensors_;
};

}  // namespace dfmoa::formats
