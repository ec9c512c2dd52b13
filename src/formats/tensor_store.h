// The weights of a Hugging Face directory, one file or many, as one set of named tensors.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "src/formats/safetensors.h"

namespace dfmoa::formats {

/// `model.safetensors`, else `model.safetensors.index.json` and its shards; all of them mapped.
class TensorStore {
 public:
  /// Throws UsageError if the folder holds neither file; ContentError, by name, for an index that
  /// names a missing shard, a place outside the folder, or a tensor that its shard lacks, for a
  /// shard's tensor that the index does not place there, and as SafetensorsFile.
  [[nodiscard]] static TensorStore open(const std::filesystem::path& folder);

  /// Null if there is none. The view lives as long as the store.
  [[nodiscard]] const TensorView* find(std::string_view name) const;
  /// Throws ContentError that names the tensor, the folder and the nearest name there is.
  [[nodiscard]] const TensorView& get(std::string_view name) const;
  /// In order of name, whatever file they lie in.
  [[nodiscard]] std::vector<std::string> names() const;
  /// The files that hold the tensors.
  [[nodiscard]] std::vector<std::filesystem::path> paths() const;
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

 private:
  explicit TensorStore(const std::filesystem::path& folder) : folder_(folder) {}
  void open_shards(const std::filesystem::path& index);
  void add_shard(const std::string& shard, const std::map<std::string, std::string>& shard_of);

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  TensorMap tensors_;
};

}  // namespace dfmoa::formats
