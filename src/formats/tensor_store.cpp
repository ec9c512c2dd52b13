#include "src/formats/tensor_store.h"

#include <set>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/json.h"

namespace dfmoa::formats {
namespace {

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

/// weight_map of an index: tensor -> file name.
std::map<std::string, std::string> shard_map(const std::filesystem::path& index) {
  const auto refuse = [&](const std::string& reason) {
    throw base::ContentError(base::text("reading ", index.string(), ": ", reason));
  };
  const auto value = parse_json(index);
  if (!value.is_object() || !value.contains("weight_map") || !value["weight_map"].is_object()) {
    refuse("there is no object 'weight_map'");
  }
  std::map<std::string, std::string> shard_of;
  for (const auto& [tensor, shard] : value["weight_map"].items()) {
    if (!shard.is_string()) refuse(base::text("tensor '", tensor, "' has no file name"));
    const auto& name = shard.get_ref<const std::string&>();
    if (name != std::filesystem::path(name).filename().string() || name.empty() || name == "." ||
        name == "..") {
      refuse(base::text("tensor '", tensor, "' lies in '", name,
                        "', expected a file name in the same folder"));
    }
    shard_of.emplace(tensor, name);
  }
  return shard_of;
}

}  // namespace

TensorStore TensorStore::open(const std::filesystem::path& folder) {
  TensorStore store(folder);
  if (std::filesystem::exists(folder / kSingle)) {
    store.tensors_ = store.files_.emplace_back(folder / kSingle).tensors();
  } else if (std::filesystem::exists(folder / kIndex)) {
    store.open_shards(folder / kIndex);
  } else {
    throw base::UsageError(base::text("opening the weights in ", folder.string(),
                                      ": there is neither ", kSingle, " nor ", kIndex));
  }
  return store;
}

void TensorStore::open_shards(const std::filesystem::path& index) {
  const auto shard_of = shard_map(index);
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : shard_of) {
    if (!std::filesystem::exists(folder_ / shard)) {
      throw base::ContentError(base::text("reading ", index.string(), ": tensor '", tensor,
                                          "' lies in '", shard, "', which is missing"));
    }
    shards.insert(shard);
  }
  for (const auto& shard : shards) add_shard(shard, shard_of);
  for (const auto& [tensor, shard] : shard_of) {
    if (tensors_.contains(tensor)) continue;
    throw base::ContentError(base::text("reading ", index.string(), ": tensor '", tensor,
                                        "' is not in its shard '", shard, "'"));
  }
}

void TensorStore::add_shard(const std::string& shard,
                            const std::map<std::string, std::string>& shard_of) {
  const auto& file = files_.emplace_back(folder_ / shard);
  for (const auto& [name, tensor] : file.tensors()) {
    const auto placed = shard_of.find(name);
    if (placed == shard_of.end() || placed->second != shard) {
      throw base::ContentError(
          base::text("reading ", file.path().string(), ": the index places tensor '", name, "' ",
                     placed == shard_of.end() ? "nowhere" : "in '" + placed->second + "'"));
    }
    tensors_.emplace(name, tensor);
  }
}

const TensorView* TensorStore::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const TensorView& TensorStore::get(std::string_view name) const {
  if (const auto* tensor = find(name)) return *tensor;
  throw base::ContentError(base::text("the weights in ", folder_.string(), " lack tensor '", name,
                                      "' (the nearest name is '",
                                      base::nearest(std::string(name), names()), "')"));
}

std::vector<std::filesystem::path> TensorStore::paths() const {
  std::vector<std::filesystem::path> all;
  for (const auto& file : files_) all.push_back(file.path());
  return all;
}

std::vector<std::string> TensorStore::names() const {
  std::vector<std::string> all;
  all.reserve(tensors_.size());
  for (const auto& [name, tensor] : tensors_) all.push_back(name);
  return all;
}

}  // namespace dfmoa::formats
