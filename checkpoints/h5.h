// The part of HDF5 that checkpoints use, over its C API: one file, datasets by path, attributes of
// the root. HDF5's own header stays in the .cpp file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "src/base/dtype.h"
#include "src/base/handle.h"
#include "src/base/state_tree.h"

namespace dfmoa::checkpoints::h5 {

using Shape = std::vector<std::int64_t>;

struct DatasetInfo {
  base::DType dtype = base::DType::f32;
  Shape shape;
  friend bool operator==(const DatasetInfo&, const DatasetInfo&) = default;
};

/// Where the bytes of a dataset lie in the file.
struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

struct FileTraits {
  using type = std::int64_t;  // hid_t
  static constexpr type invalid() noexcept { return -1; }
  static void close(type file) noexcept;  // the twin of File::close that never throws
};

/// Chunk of a dataset: about 1 MiB, never larger than the extents, never empty.
[[nodiscard]] Shape chunk_of(const Shape& shape, std::size_t element_bytes);

/// One HDF5 file. Every function throws MachineError with the sentence of HDF5's error stack.
class File {
 public:
  /// A new, empty file of format V110 without time stamps: same content, same bytes.
  [[nodiscard]] static File create(const std::filesystem::path& path);
  /// An existing file, read-only.
  [[nodiscard]] static File open(const std::filesystem::path& path);

  /// Writes everything and closes. After a failure the process leaves without HDF5's own clean-up.
  void close();

  /// Creates the groups on the way and the dataset, chunked, with a Fletcher32 checksum per chunk.
  /// Returns where its bytes lie. `data` may be null if the shape holds no element.
  std::vector<Extent> write_dataset(const std::string& name, const DatasetInfo& info,
                                    const void* data);
  /// `data` holds as many bytes as `info` says; the caller has compared `info` with the file's.
  void read_dataset(const std::string& name, const DatasetInfo& info, void* data) const;
  /// Every dataset by its path without the leading slash.
  [[nodiscard]] std::map<std::string, DatasetInfo> datasets() const;

  void write_value(const std::string& name, const base::StateValue& value);
  /// All attributes of the root: 64-bit integers, doubles, strings of fixed or variable length.
  [[nodiscard]] std::map<std::string, base::StateValue> values() const;

 private:
  File(std::filesystem::path path, std::int64_t id) : path_(std::move(path)), id_(id) {}

  std::filesystem::path path_;
  base::UniqueHandle<FileTraits> id_;
};

}  // namespace dfmoa::checkpoints::h5
