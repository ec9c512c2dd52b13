// A directory that appears whole or not at all.
#pragma once

#include <filesystem>

namespace dfmoa::checkpoints {

/// Files go to `OUT.tmp` beside OUT until commit(); whatever error comes before it, nothing stays.
class PendingDirectory {
 public:
  /// Creates OUT.tmp: one left by a process that was killed is removed first.
  /// Throws UsageError if OUT is a file or a directory that is not empty, or if OUT.tmp is there
  /// and is not an unfinished one; MachineError if it cannot be created.
  explicit PendingDirectory(const std::filesystem::path& out);
  /// Removes OUT.tmp unless commit() was reached.
  ~PendingDirectory();
  PendingDirectory(const PendingDirectory&) = delete;
  PendingDirectory& operator=(const PendingDirectory&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return temporary_; }

  /// fsync, rename to OUT, fsync of the folder around it. The files must have been synced.
  /// Throws MachineError.
  void commit();

 private:
  std::filesystem::path out_;
  std::filesystem::path temporary_;
  bool committed_ = false;
};

}  // namespace dfmoa::checkpoints
