#include "checkpoints/writer.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <map>
#include <optional>
#include <system_error>

#include "checkpoints/cover.h"
#include "checkpoints/manifest.h"
#include "checkpoints/stream.h"
#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

namespace fs = std::filesystem;

void create_folders(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) {
    throw base::MachineError(base::text("creating ", path.string(), ": ", error.message()));
  }
}

void rename_folder(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return;
  base::throw_errno(base::text("renaming ", from.string(), " to ", to.string()));
}

/// Rename, or exchange where a folder of this step exists: there is always one under this name.
/// Only a file system that cannot exchange (NFS) has a moment without; older steps stay.
void put_in_place(const fs::path& temporary, const fs::path& folder) {
  const bool exists = fs::exists(folder);
  const auto flags = exists ? RENAME_EXCHANGE : RENAME_NOREPLACE;
  if (::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, folder.c_str(), flags) == 0) return;
  if (errno != EINVAL && errno != ENOSYS) {
    base::throw_errno(base::text("renaming ", temporary.string(), " to ", folder.string()));
  }
  if (exists) rename_folder(folder, folder.string() + ".old");
  rename_folder(temporary, folder);
}

class Save {
 public:
  Save(const fs::path& checkpoints_folder, std::int64_t step)
      : parent_(checkpoints_folder),
        folder_(checkpoints_folder / folder_name(step)),
        temporary_(folder_.string() + ".tmp") {
    manifest_.step = step;
  }

  void open(const std::map<std::string, base::StateValue>& values) {
    create_folders(parent_);
    remove_leftovers(parent_);
    create_folders(temporary_);
    file_ = h5::File::create(temporary_ / kDataName);
    file_->write_value(kFormatValue, format_version());
    file_->write_value(kStepValue, manifest_.step);
    for (const auto& [name, value] : values) file_->write_value(name, value);
  }

  void add(const base::StateEntry& entry) {
    auto& record = manifest_.datasets[entry.name];
    record.info = {entry.dtype, entry.shape};
    record.hash = dataset_hash(entry.name, record.info, entry.data);
    for (const auto& extent : file_->write_dataset(entry.name, record.info, entry.data)) {
      record.stored.push_back({extent, {}});
    }
  }

  void close() {
    const auto path = temporary_ / kDataName;
    file_->close();
    base::sync_path(path);
    base::sync_path(temporary_);
    manifest_.files[kDataName] = record_file(path, manifest_.datasets);
  }

  void commit() {
    base::write_file(temporary_ / kManifestName, manifest_text(manifest_));
    base::sync_path(temporary_);
    put_in_place(temporary_, folder_);
    is_in_place_ = true;
    base::sync_path(parent_);
    base::replace_file(parent_ / "latest", folder_.filename().string() + "\n");
  }

  void discard() noexcept {
    file_.reset();             // before its folder goes
    if (is_in_place_) return;  // what lies in step_N.tmp now is the older checkpoint of this step
    std::error_code ignored;   // the failure that led here is the one to report
    fs::remove_all(temporary_, ignored);
  }

 private:
  fs::path parent_;
  fs::path folder_;
  fs::path temporary_;
  Manifest manifest_;
  std::optional<h5::File> file_;
  bool is_in_place_ = false;
};

/// Runs `work` on process 0 and lets all processes know how it ended. The failing process throws
/// its own error, the others one that names process 0.
template <class Work, class Undo>
void on_first_process(comm::Communicator& comm, std::string_view stage, Work&& work, Undo&& undo) {
  std::exception_ptr failure;
  if (comm.process() == 0) {
    try {
      work();
    } catch (...) {
      failure = std::current_exception();
    }
  }
  if (comm.agree(failure == nullptr, stage)) return;
  if (comm.process() == 0) undo();
  if (failure) std::rethrow_exception(failure);
  throw base::MachineError(base::text(stage, ": it failed on process 0, which says why"));
}

}  // namespace

void save_checkpoint(const fs::path& checkpoints_folder, const base::StateTree& tree,
                     std::int64_t step, comm::Communicator& comm, const Retention& retention) {
  if (step < 0) throw base::ContentError(base::text("saving: the step is ", step));
  check_cover(tree, comm);
  Save save(checkpoints_folder, step);
  const auto discard = [&] { save.discard(); };
  on_first_process(
      comm, "checkpoint file", [&] { save.open(tree.values()); }, discard);
  try {
    stream_entries(tree, comm, kStreamBytes, [&](const auto& entry) { save.add(entry); });
  } catch (...) {
    if (comm.process() == 0) discard();
    throw;
  }
  on_first_process(
      comm, "checkpoint data", [&] { save.close(); }, discard);
  on_first_process(
      comm, "checkpoint commit", [&] { save.commit(); }, discard);
  const auto clean = [&] {
    remove_leftovers(checkpoints_folder);  // the folder that this one was exchanged for
    apply_retention(checkpoints_folder, step, retention);
  };
  on_first_process(comm, "checkpoint retention", clean, [] {});
}

}  // namespace dfmoa::checkpoints
