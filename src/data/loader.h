// The global stream of packed rows: the same for any number of processes, exactly resumable.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "src/base/state_tree.h"
#include "src/data/packing.h"

namespace dfmoa::data {

struct LoaderShape {
  std::int64_t micro_batches = 1;  ///< rows of a step, over all processes
  std::int64_t tokens = 512;       ///< of a row at most
  std::int64_t documents = 0;      ///< of a row exactly; 0: as many as fit
};

/// Where the stream stands. All that a resume needs.
struct Cursor {
  std::int64_t sample = 0;      ///< next sample of the endless shuffled stream
  std::int64_t piece = 0;       ///< tokens of it that were already taken (long = split)
  std::int64_t document = 0;    ///< next global document number
  std::int64_t skipped = 0;     ///< broken lines so far
  std::int64_t order_hash = 0;  ///< of all samples taken, in order
};

class Loader {
 public:
  /// `reader` must outlive the loader.
  Loader(const DataConfig& config, const LoaderShape& shape, const SampleReader& reader,
         std::uint64_t seed);

  /// The rows of the next step, filled next-fit in stream order. Runs across epoch ends.
  /// Throws ContentError "file:line: ..." for a document longer than a row (long = error), a broken
  /// line, or an epoch in which every line is broken.
  [[nodiscard]] std::vector<PackedRow> next_step();

  [[nodiscard]] const Cursor& cursor() const { return cursor_; }
  void seek(const Cursor& cursor) { cursor_ = cursor; }
  [[nodiscard]] std::int64_t samples_per_epoch() const { return files_.count(); }

 private:
  [[nodiscard]] std::int64_t line_of(std::int64_t sample);
  /// The sample at the cursor; none for a broken line that is skipped.
  [[nodiscard]] std::optional<Sample> draw();
  [[nodiscard]] PackedRow next_row();
  void advance();

  DataConfig config_;
  LoaderShape shape_;
  const SampleReader& reader_;
  std::uint64_t seed_;
  JsonlFiles files_;
  Cursor cursor_;
  std::int64_t epoch_ = -1;
  std::vector<std::int64_t> order_;  // of the current epoch
};

/// All samples of held-out files, once, in file order, in rows of at most `tokens` tokens (a longer
/// document has a row of its own). Calls visit(row, samples of the row).
void for_each_row(const std::vector<std::string>& paths, const SampleReader& reader,
                  std::int64_t tokens,
                  const std::function<void(const PackedRow&, const std::vector<Sample>&)>& visit);

}  // namespace dfmoa::data
