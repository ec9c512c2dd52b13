// Which checkpoints stay: the newest n, every one whose step is a multiple of m, and the best.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace dfmoa::checkpoints {

struct Retention {
  std::int64_t keep_last = 3;
  std::int64_t keep_every = 0;  ///< 0: none
  std::int64_t best = -1;       ///< step of the best one, which stays; -1: not known
};

/// "step_00000100".
[[nodiscard]] std::string folder_name(std::int64_t step);
/// Inverse of folder_name; nothing for any other name.
[[nodiscard]] std::optional<std::int64_t> step_of(const std::string& folder_name);
/// Steps of the checkpoint folders in `checkpoints_folder`, ascending; of unknown validity.
[[nodiscard]] std::vector<std::int64_t> steps_in(const std::filesystem::path& checkpoints_folder);

/// The steps that go after `saved`, a checkpoint known to be valid, was written. `saved` stays, and
/// so does every later step: it is a damaged or foreign one that nobody asked to remove.
[[nodiscard]] std::vector<std::int64_t> steps_to_remove(const std::vector<std::int64_t>& steps,
                                                        std::int64_t saved, const Retention& rule);

/// Removes them from disk. A folder is renamed first: what a kill leaves of it is no checkpoint.
/// Throws MachineError if a folder cannot be removed.
void apply_retention(const std::filesystem::path& checkpoints_folder, std::int64_t saved,
                     const Retention& rule);

/// Removes what interrupted saves and removals left: the folders step_N.tmp.
void remove_leftovers(const std::filesystem::path& checkpoints_folder);

}  // namespace dfmoa::checkpoints
