#include "checkpoints/manifest.h"

#include <charconv>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/hash.h"
#include "src/base/text.h"
#include "src/formats/json.h"

namespace dfmoa::checkpoints {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kFormatName = "dfmoa-checkpoint";
constexpr std::size_t kNamedDatasets = 3;

std::string_view view_of(const base::MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

std::string first_line(std::string_view rest) {
  return base::text("{\"manifest_xxh3_128\": \"", base::hash128(rest.data(), rest.size()), "\",\n");
}

Json json_of(const DatasetRecord& record) {
  auto stored = Json::array();
  for (const auto& part : record.stored) {
    stored.push_back(Json::array({part.extent.offset, part.extent.bytes, part.hash}));
  }
  return {{"dtype", base::name_of(record.info.dtype)},
          {"shape", record.info.shape},
          {"xxh3_128", record.hash},
          {"stored", stored}};
}

DatasetRecord dataset_of(const Json& json) {
  DatasetRecord record;
  record.info.dtype = base::dtype_from_name(json.at("dtype").get<std::string>());
  json.at("shape").get_to(record.info.shape);
  json.at("xxh3_128").get_to(record.hash);
  for (const auto& part : json.at("stored")) {
    record.stored.push_back({{part.at(0).get<std::uint64_t>(), part.at(1).get<std::uint64_t>()},
                             part.at(2).get<std::string>()});
  }
  return record;
}

/// Readers accept every older minor; there is no older major yet.
void check_version(const Json& json, const fs::path& path) {
  const auto name = json.at("format").get<std::string>();
  if (name != kFormatName) {
    throw base::ContentError(
        base::text(path.string(), ": the format is '", name, "', expected '", kFormatName, "'"));
  }
  const auto version = json.at("format_version").get<std::string>();
  const auto dot = version.find('.');
  int major = -1;
  int minor = -1;
  if (dot != std::string::npos) {
    std::from_chars(version.data(), version.data() + dot, major);
    std::from_chars(version.data() + dot + 1, version.data() + version.size(), minor);
  }
  if (major != kFormatMajor || minor < 0 || minor > kFormatMinor) {
    throw base::ContentError(base::text(path.string(), ": the checkpoint has format version ",
                                        version, ", this program reads up to ", format_version()));
  }
}

Manifest manifest_of(const Json& json, const fs::path& path) {
  Manifest manifest;
  try {
    check_version(json, path);
    json.at("format_version").get_to(manifest.format);
    json.at("step").get_to(manifest.step);
    for (const auto& [name, file] : json.at("files").items()) {
      manifest.files[name] = {file.at("bytes").get<std::uint64_t>(),
                              file.at("xxh3_128").get<std::string>()};
    }
    for (const auto& [name, dataset] : json.at("datasets").items()) {
      manifest.datasets[name] = dataset_of(dataset);
    }
  } catch (const Json::exception& error) {
    throw base::ContentError(
        base::text(path.string(), ": a key is missing or has another type: ", error.what()));
  }
  if (!manifest.files.contains(kDataName)) {
    throw base::ContentError(base::text(path.string(), ": it does not list ", kDataName));
  }
  return manifest;
}

bool is_intact(const StoredRecord& part, std::span<const std::byte> bytes) {
  const auto [offset, count] = part.extent;
  if (offset > bytes.size() || count > bytes.size() - offset) return false;
  return base::hash128(bytes.data() + offset, count) == part.hash;
}

/// Says which datasets hold the bad bytes, found without HDF5.
std::string damage_of(const Manifest& manifest, std::span<const std::byte> bytes) {
  std::vector<std::string> damaged;
  for (const auto& [name, record] : manifest.datasets) {
    for (const auto& part : record.stored) {
      if (is_intact(part, bytes)) continue;
      damaged.push_back(name);
      break;
    }
  }
  if (damaged.empty()) return "the damage is in its names and headers, not in a dataset's values";
  const auto count = damaged.size();
  const std::string more =
      count > kNamedDatasets ? base::text(" and ", count - kNamedDatasets, " more") : std::string();
  damaged.resize(std::min(count, kNamedDatasets));
  return base::text("the damage is in ", count == 1 ? "dataset " : "datasets ",
                    base::join(damaged, ", "), more);
}

void verify_file(const fs::path& path, const FileRecord& record, const Manifest& manifest) {
  if (!fs::exists(path)) {
    throw base::ContentError(base::text(path.string(), " is missing, the manifest lists it"));
  }
  const base::MappedFile file(path);
  const auto bytes = file.bytes();
  if (bytes.size() != record.bytes) {
    throw base::ContentError(base::text(path.string(), " holds ", bytes.size(),
                                        " bytes, the manifest says ", record.bytes));
  }
  if (base::hash128(bytes.data(), bytes.size()) == record.hash) return;
  const auto damage =
      path.filename() == kDataName ? "; " + damage_of(manifest, bytes) : std::string();
  throw base::ContentError(
      base::text(path.string(), " differs from its checksum in the manifest", damage));
}

}  // namespace

std::string format_version() {
  return base::text(kFormatMajor, '.', kFormatMinor);
}

std::string dataset_hash(const std::string& name, const h5::DatasetInfo& info, const void* data) {
  base::Hash128 hash;
  hash.add_text(name);
  hash.add_text(base::name_of(info.dtype));
  hash.add_text(base::shape_text(info.shape));
  hash.add(data, static_cast<std::size_t>(base::count_of(info.shape)) * base::size_of(info.dtype));
  return hash.hex();
}

FileRecord record_file(const fs::path& path, std::map<std::string, DatasetRecord>& datasets) {
  const base::MappedFile file(path);
  const auto bytes = file.bytes();
  for (auto& [name, record] : datasets) {
    for (auto& part : record.stored) {
      part.hash = base::hash128(bytes.data() + part.extent.offset, part.extent.bytes);
    }
  }
  return {bytes.size(), base::hash128(bytes.data(), bytes.size())};
}

std::string manifest_text(const Manifest& manifest) {
  Json json{{"format", kFormatName}, {"format_version", format_version()}, {"step", manifest.step}};
  json["files"] = Json::object();
  for (const auto& [name, file] : manifest.files) {
    json["files"][name] = {{"bytes", file.bytes}, {"xxh3_128", file.hash}};
  }
  json["datasets"] = Json::object();
  for (const auto& [name, record] : manifest.datasets) json["datasets"][name] = json_of(record);
  const auto rest = json.dump(1).substr(1) + "\n";  // without the opening brace
  return first_line(rest) + rest;
}

Manifest read_manifest(const fs::path& folder) {
  const auto path = folder / kManifestName;
  if (!fs::exists(path)) {
    throw base::ContentError(base::text(path.string(),
                                        " is missing: the folder is no complete "
                                        "checkpoint"));
  }
  const base::MappedFile file(path);
  const auto text = view_of(file);
  const auto end = text.find('\n');
  const auto rest = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  if (text.substr(0, text.size() - rest.size()) != first_line(rest)) {
    throw base::ContentError(
        base::text(path.string(), " differs from the checksum in its first line"));
  }
  return manifest_of(formats::parse_json_text(text, path.string()), path);
}

void verify_files(const fs::path& folder, const Manifest& manifest) {
  for (const auto& [name, record] : manifest.files) verify_file(folder / name, record, manifest);
}

}  // namespace dfmoa::checkpoints
