#include "checkpoints/retention.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "checkpoints/manifest.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step_";
constexpr std::string_view kTemporary = ".tmp";
constexpr std::string_view kReplaced = ".old";

void remove_folder(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) {
    throw base::MachineError(base::text("removing ", path.string(), ": ", error.message()));
  }
}

std::vector<std::string> folders_in(const fs::path& folder) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->is_directory(error)) names.push_back(entry->path().filename().string());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    throw base::MachineError(base::text("listing ", folder.string(), ": ", error.message()));
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::string folder_name(std::int64_t step) {
  auto digits = std::to_string(step);
  if (digits.size() < 8) digits.insert(0, 8 - digits.size(), '0');
  return std::string(kPrefix) + digits;
}

std::optional<std::int64_t> step_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  std::int64_t step = -1;
  std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), step);
  if (step < 0 || folder_name(step) != name) return std::nullopt;
  return step;
}

std::vector<std::int64_t> steps_in(const fs::path& checkpoints_folder) {
  std::vector<std::int64_t> steps;
  for (const auto& name : folders_in(checkpoints_folder)) {
    if (const auto step = step_of(name)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::vector<std::int64_t> steps_to_remove(const std::vector<std::int64_t>& steps,
                                          std::int64_t saved, const Retention& rule) {
  std::vector<std::int64_t> older;
  for (const auto step : steps) {
    if (step < saved) older.push_back(step);
  }
  std::sort(older.begin(), older.end(), std::greater<>());
  std::vector<std::int64_t> removed;
  auto kept = std::int64_t{1};  // `saved` itself
  for (const auto step : older) {
    const bool is_recent = kept < rule.keep_last;
    const bool is_multiple = rule.keep_every > 0 && step % rule.keep_every == 0;
    if (is_recent) ++kept;
    if (!is_recent && !is_multiple && step != rule.best) removed.push_back(step);
  }
  return removed;
}

void apply_retention(const fs::path& checkpoints_folder, std::int64_t saved,
                     const Retention& rule) {
  for (const auto step : steps_to_remove(steps_in(checkpoints_folder), saved, rule)) {
    const auto folder = checkpoints_folder / folder_name(step);
    const fs::path doomed = folder.string() + std::string(kTemporary);
    std::error_code error;
    fs::rename(folder, doomed, error);
    if (error) {
      throw base::MachineError(base::text("removing ", folder.string(), ": ", error.message()));
    }
    remove_folder(doomed);
  }
}

void remove_leftovers(const fs::path& checkpoints_folder) {
  for (const auto& name : folders_in(checkpoints_folder)) {
    if (!name.ends_with(kTemporary) && !name.ends_with(kReplaced)) continue;
    if (!step_of(name.substr(0, name.size() - kTemporary.size()))) continue;
    remove_folder(checkpoints_folder / name);
  }
}

}  // namespace dfmoa::checkpoints
