// The global stream of packed rows: the same for any number of processes, exactly resumable.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "src/base/state_tree.h"
#include "src/data/packing.h"
#include "src/data/sample_order.h"

namespace dfmoa::data {

struct LoaderShape {
  std::int64_t micro_batches = 1;  ///< rows of a step, over all processes
  std::int64_t tokens = 512;       ///< of a row at most; 0: no limit, only with `documents`
  std::int64_t documents = 0;      ///< of a row exactly; 0: as many as fit
  std::int64_t positions = 0;      ///< tokens of a document at most; 0: only the row limits it
};

/// Tokens of a document, or of a piece of it, at most; 0: no limit.
[[nodiscard]] std::int64_t longest_document(const LoaderShape& shape);
/// Throws ContentError "where: ..." about a document above it.
[[noreturn]] void refuse_long_document(const std::string& where, std::int64_t tokens,
                                       const LoaderShape& shape);

/// Where the stream stands. All that a resume needs.
struct Cursor {
  std::int64_t sample = 0;      ///< next sample of the endless shuffled stream
  std::int64_t piece = 0;       ///< tokens of it that were already taken (long = split)
  std::int64_t document = 0;    ///< next global document number
  std::int64_t row = 0;         ///< next global row number
  std::int64_t skipped = 0;     ///< broken lines so far
  std::int64_t order_hash = 0;  ///< of all lines taken, in order
  std::int64_t data_hash = 0;   ///< of the files' content

  bool operator==(const Cursor&) const = default;
};

/// As "data/sample", "data/piece" and so on.
void save(const Cursor& cursor, base::StateTree& state);
/// Throws ContentError naming what is missing.
[[nodiscard]] Cursor load_cursor(const base::StateTree& state);

/// Every process draws the whole stream and runs its own rows: packing depends on all documents,
/// and a row costs far less to tokenize than to train.
class Loader {
 public:
  /// `reader` must outlive the loader.
  /// Throws what JsonlFiles throws, and UsageError for a shape that holds nothing.
  Loader(const DataConfig& config, const LoaderShape& shape, const SampleReader& reader,
         std::uint64_t seed);

  /// The rows of the next step, filled next-fit in stream order. Runs across epoch ends.
  /// Throws ContentError "file:line: ..." for a document that is too long (long = error), a broken
  /// line, documents that do not fit a row (train.documents), files in which every line is broken,
  /// or rows without any token that bears loss.
  [[nodiscard]] std::vector<PackedRow> next_step();

  [[nodiscard]] const Cursor& cursor() const { return cursor_; }
  [[nodiscard]] const LoaderShape& shape() const { return shape_; }

  /// Goes to where `cursor` was taken. Throws ContentError if the data files are others.
  void seek(const Cursor& cursor);

  [[nodiscard]] const SampleReader& reader() const { return reader_; }

  [[nodiscard]] std::int64_t samples_per_epoch() const { return files_.count(); }

  /// The sentence about the last line that data.skip_bad_lines passed over; empty if none was.
  [[nodiscard]] const std::string& last_skipped() const { return last_skipped_; }

 private:
  /// The sample at the cursor; null for a broken line that is skipped.
  [[nodiscard]] const Sample* draw();
  /// The end of the piece that is taken next.
  [[nodiscard]] std::int64_t piece_end(const Sample& sample) const;
  [[nodiscard]] PackedRow next_row();
  void advance();

  DataConfig config_;
  LoaderShape shape_;
  const SampleReader& reader_;
  JsonlFiles files_;
  SampleOrder order_;
  Cursor cursor_;
  Sample drawn_;  ///< of stream number drawn_number_: what did not fit a row opens the next one
  std::int64_t drawn_number_ = -1;
  std::string last_skipped_;
};

/// All samples of held-out files, once, in file order, in rows of at most `tokens` tokens (a longer
/// document has a row of its own). Calls visit(row, samples of the row). Returns the number of
/// broken lines that data.skip_bad_lines passed over. Throws what JsonlFiles and SampleReader
/// throw.
std::int64_t for_each_row(
    const std::vector<std::string>& paths, const SampleReader& reader, std::int64_t tokens,
    const std::function<void(const PackedRow&, const std::vector<Sample>&)>& visit);

}  // namespace dfmoa::data
