// manifest.json of a checkpoint: what the folder must hold, with a checksum (XXH3-128) for every
// file and dataset. It is verified before HDF5 opens anything. FORMAT.md describes every key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "checkpoints/h5.h"

namespace dfmoa::checkpoints {

inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kDataName = "checkpoint.h5";
inline constexpr int kFormatMajor = 1;
inline constexpr int kFormatMinor = 1;

/// "1.1": the format this program writes.
[[nodiscard]] std::string format_version();

struct FileRecord {
  std::uint64_t bytes = 0;
  std::string hash;  ///< of the whole file
};

/// A run of bytes of checkpoint.h5 that belongs to one dataset: names the dataset of a bad byte.
struct StoredRecord {
  h5::Extent extent;
  std::string hash;
};

struct DatasetRecord {
  h5::DatasetInfo info;
  std::string hash;  ///< dataset_hash of name, element type, shape and values
  std::vector<StoredRecord> stored;
};

struct Manifest {
  std::int64_t step = 0;
  std::map<std::string, FileRecord> files;
  std::map<std::string, DatasetRecord> datasets;
  std::string format;  ///< version that was read; empty for one that is being written
};

/// XXH3-128 over name, element type, shape and the bytes in row-major order: two datasets that
/// were exchanged differ from their records even where their shapes agree.
[[nodiscard]] std::string dataset_hash(const std::string& name, const h5::DatasetInfo& info,
                                       const void* data);

/// The records of a file that is complete; fills `stored` hashes of `datasets` from its bytes.
[[nodiscard]] FileRecord record_file(const std::filesystem::path& path,
                                     std::map<std::string, DatasetRecord>& datasets);

/// The text of manifest.json. Its first line is the checksum of all that follows.
[[nodiscard]] std::string manifest_text(const Manifest& manifest);

/// Reads `folder`/manifest.json.
/// Throws ContentError if it is missing, damaged, malformed or of a newer format.
[[nodiscard]] Manifest read_manifest(const std::filesystem::path& folder);

/// Compares every file of the manifest with the bytes in `folder`.
/// Throws ContentError naming the file, its sizes or the damaged datasets.
void verify_files(const std::filesystem::path& folder, const Manifest& manifest);

}  // namespace dfmoa::checkpoints
