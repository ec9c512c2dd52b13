// Lines of JSONL files by number, without holding their text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/data/line_index.h"
#include "src/data/text_file.h"

namespace dfmoa::data {

/// One non-blank line and where it stands.
struct JsonLine {
  std::string text;   ///< without line end, without byte order mark
  std::string where;  ///< "file:line"
};

/// The lines of several files as one sequence. Costs 12 bytes a line; text is read when asked for.
/// A .zst file is unpacked into an unnamed temporary file.
class JsonlFiles {
 public:
  /// For files that are read once, in order: the line index is made in memory.
  /// Throws UsageError for no path or a missing one, ContentError for a file without any line or a
  /// broken .zst stream.
  explicit JsonlFiles(const std::vector<std::string>& paths);

  /// For training: the line index is kept on disk (LineIndex::stored). Throws as above and
  /// MachineError naming data.index_dir where no index can be written.
  JsonlFiles(const std::vector<std::string>& paths, const std::string& index_dir);

  [[nodiscard]] std::int64_t count() const { return count_; }

  /// Line 0 <= index < count(). Throws ShapeError for another one, MachineError if reading fails.
  [[nodiscard]] JsonLine line(std::int64_t index) const;

  /// Differs when any byte of any file does.
  [[nodiscard]] std::int64_t fingerprint() const;

 private:
  struct File {
    TextFile text;
    LineIndex index;
  };
  void add(TextFile text, LineIndex index);

  std::vector<File> files_;
  std::int64_t count_ = 0;
};

}  // namespace dfmoa::data
