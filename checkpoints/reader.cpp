#include "checkpoints/reader.h"

#include <cstddef>
#include <vector>

#include "checkpoints/cover.h"
#include "checkpoints/retention.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFreeGroup = "ext/";

/// What HDF5 cannot read in a file that has its checksum is malformed content.
template <class Body>
decltype(auto) as_content(Body&& body) {
  try {
    return body();
  } catch (const base::MachineError& error) {
    throw base::ContentError(error.what());
  }
}

std::string words_of(const DatasetInfo& info) {
  return base::text(base::name_of(info.dtype), " ", base::shape_text(info.shape));
}

void check_same(const std::string& where, const DatasetInfo& found, const DatasetInfo& expected) {
  if (found == expected) return;
  throw base::ContentError(
      base::text(where, " is ", words_of(found), ", expected ", words_of(expected)));
}

/// A free name for an entry of another file would be "step_N.tmp": unfinished saves, newest first.
std::vector<std::int64_t> unfinished_in(const fs::path& folder) {
  std::vector<std::int64_t> steps;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    const auto path = entry->path();
    if (path.extension() != ".tmp") continue;
    if (const auto step = step_of(path.stem().string())) steps.push_back(*step);
  }
  return steps;
}

void warn_unfinished(const fs::path& folder, std::int64_t newest, base::Logger& log) {
  for (const auto step : unfinished_in(folder)) {
    if (step <= newest) continue;
    log.warn(base::text("checkpoint ", folder_name(step),
                        ".tmp is passed over: its save was not finished"));
  }
}

}  // namespace

Checkpoint Checkpoint::open(const fs::path& folder) {
  if (!fs::is_directory(folder)) {
    throw base::UsageError(
        base::text("opening checkpoint ", folder.string(), ": there is no such folder"));
  }
  auto manifest = read_manifest(folder);
  verify_files(folder, manifest);
  Checkpoint checkpoint(folder, std::move(manifest),
                        as_content([&] { return h5::File::open(folder / kDataName); }));
  checkpoint.check_contents();
  return checkpoint;
}

void Checkpoint::check_contents() {
  const auto path = (folder_ / kDataName).string();
  datasets_ = as_content([&] { return file_.datasets(); });
  values_ = as_content([&] { return file_.values(); });
  for (const auto& [name, record] : manifest_.datasets) {
    const auto found = datasets_.find(name);
    const auto where = base::text(path, ": dataset ", name);
    if (found == datasets_.end()) {
      throw base::ContentError(base::text(where, " is missing, the manifest lists it"));
    }
    check_same(where, found->second, record.info);
  }
  for (const auto& [name, info] : datasets_) {
    if (manifest_.datasets.contains(name)) continue;
    throw base::ContentError(base::text(path, ": the manifest does not list dataset ", name));
  }
  const auto step = values_.find(kStepValue);
  if (step == values_.end() || step->second != base::StateValue(manifest_.step)) {
    throw base::ContentError(
        base::text(path, ": its step differs from the manifest's, ", manifest_.step));
  }
  const auto format = values_.find(kFormatValue);
  if (format == values_.end() || !std::holds_alternative<std::string>(format->second)) {
    throw base::ContentError(base::text(path, ": it has no format version"));
  }
  values_.erase(kStepValue);
  values_.erase(kFormatValue);
  const auto named = step_of(fs::path(folder_).filename().string());
  if (named && *named != manifest_.step) {
    throw base::ContentError(
        base::text(folder_.string(), ": the manifest says it is step ", manifest_.step));
  }
}

void Checkpoint::load(const base::StateTree& into) const {
  for (const auto& [name, entry] : into.entries()) {
    const auto found = datasets_.find(name);
    const auto where = base::text(folder_.string(), ": dataset ", name);
    if (found == datasets_.end()) {
      throw base::ContentError(base::text(where, " is missing, the run needs it"));
    }
    check_same(where, found->second, {entry.dtype, entry.shape});
  }
  for (const auto& [name, info] : datasets_) {
    if (into.entries().contains(name) || name.starts_with(kFreeGroup)) continue;
    throw base::ContentError(base::text(folder_.string(), ": dataset ", name, ", ", words_of(info),
                                        ", has no place in this run"));
  }
  for (const auto& [name, entry] : into.entries()) {
    if (entry.data != nullptr || entry.bytes() == 0) read(name, entry.data);
  }
}

void Checkpoint::read(const std::string& name, void* data) const {
  const auto found = manifest_.datasets.find(name);
  if (found == manifest_.datasets.end()) {
    throw base::ContentError(base::text(folder_.string(), ": there is no dataset ", name));
  }
  const auto& record = found->second;
  as_content([&] { file_.read_dataset(name, record.info, data); });
  if (dataset_hash(name, record.info, data) != record.hash) {
    throw base::ContentError(base::text(folder_.string(), ": dataset ", name,
                                        " differs from its checksum in the manifest"));
  }
}

void Checkpoint::verify_datasets() const {
  std::vector<std::byte> values;
  for (const auto& [name, info] : datasets_) {
    values.resize(static_cast<std::size_t>(base::count_of(info.shape)) * base::size_of(info.dtype));
    read(name, values.data());
  }
}

std::optional<Checkpoint> find_newest(const fs::path& checkpoints_folder, base::Logger& log) {
  const auto steps = steps_in(checkpoints_folder);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const auto name = folder_name(*step);
    try {
      auto checkpoint = Checkpoint::open(checkpoints_folder / name);
      warn_unfinished(checkpoints_folder, *step, log);
      return checkpoint;
    } catch (const base::Error& error) {
      log.warn(base::text("checkpoint ", name, " is passed over: ", error.what()));
    }
  }
  warn_unfinished(checkpoints_folder, -1, log);
  return std::nullopt;
}

}  // namespace dfmoa::checkpoints
