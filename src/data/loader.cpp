#include "src/data/loader.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/random.h"
#include "src/base/text.h"

namespace dfmoa::data {

Loader::Loader(const DataConfig& config, const LoaderShape& shape, const SampleReader& reader,
               std::uint64_t seed)
    : config_(config), shape_(shape), reader_(reader), seed_(seed), files_(config.train) {}

std::int64_t Loader::line_of(std::int64_t sample) {
  const auto count = files_.count();
  const auto epoch = sample / count;
  if (config_.order == "file") return sample % count;
  if (epoch != epoch_) {
    order_ = base::permutation(
        base::KeyedRandom(seed_, {base::key_word("data_order"), static_cast<std::uint64_t>(epoch)}),
        count);
    epoch_ = epoch;
  }
  return order_[static_cast<std::size_t>(sample % count)];
}

void Loader::advance() {
  // FNV-1a over the lines taken; kept as a signed word because checkpoints hold those.
  auto hash = static_cast<std::uint64_t>(cursor_.order_hash);
  hash = (hash ^ static_cast<std::uint64_t>(line_of(cursor_.sample) + 1)) * 0x100000001b3ULL;
  cursor_.order_hash = static_cast<std::int64_t>(hash);
  cursor_.sample += 1;
  cursor_.piece = 0;
}

std::optional<Sample> Loader::draw() {
  const auto line = files_.line(line_of(cursor_.sample));
  try {
    return reader_.read(line);
  } catch (const base::ContentError&) {
    if (!config_.skip_bad_lines) throw;  // else counted, and reported by the trainer
  }
  cursor_.skipped += 1;
  if (cursor_.skipped >= files_.count() && cursor_.document == 0) {
    throw base::ContentError(
        base::text("all ", files_.count(), " lines are broken; the last is ", line.where));
  }
  return std::nullopt;
}

PackedRow Loader::next_row() {
  PackedRow row;
  while (shape_.documents == 0 || row.documents() < shape_.documents) {
    const auto sample = draw();
    if (!sample) {
      advance();
      continue;
    }
    const auto length = static_cast<std::int64_t>(sample->token.size());
    auto end = length;
    if (length - cursor_.piece > shape_.tokens) {
      if (config_.long_documents == "error") {
        throw base::ContentError(
            base::text(sample->where, ": the document has ", length, " tokens, expected at most ",
                       shape_.tokens, " (train.tokens); data.long = truncate or split takes it"));
      }
      end = cursor_.piece + shape_.tokens;
    }
    if (row.tokens() + end - cursor_.piece > shape_.tokens) {
      if (shape_.documents == 0) break;  // next-fit: this sample opens the next row
      throw base::ContentError(base::text(sample->where, ": ", shape_.documents,
                                          " documents (train.documents) need more than ",
                                          shape_.tokens, " tokens (train.tokens)"));
    }
    row.append(*sample, cursor_.document++, cursor_.piece, end);
    if (end < length && config_.long_documents == "split") {
      cursor_.piece = end;
    } else {
      advance();
    }
    if (shape_.documents == 0 && row.tokens() == shape_.tokens) break;
  }
  return row;
}

std::vector<PackedRow> Loader::next_step() {
  std::vector<PackedRow> rows;
  for (std::int64_t m = 0; m < shape_.micro_batches; ++m) rows.push_back(next_row());
  return rows;
}

void for_each_row(const std::vector<std::string>& paths, const SampleReader& reader,
                  std::int64_t tokens,
                  const std::function<void(const PackedRow&, const std::vector<Sample>&)>& visit) {
  const JsonlFiles files(paths);
  PackedRow row;
  std::vector<Sample> samples;
  const auto flush = [&] {
    if (row.documents() > 0) visit(row, samples);
    row = {};
    samples.clear();
  };
  for (std::int64_t index = 0; index < files.count(); ++index) {
    auto sample = reader.read(files.line(index));
    const auto length = static_cast<std::int64_t>(sample.token.size());
    if (row.tokens() + length > tokens) flush();
    row.append(sample, index, 0, length);
    samples.push_back(std::move(sample));
  }
  flush();
}

}  // namespace dfmoa::data
