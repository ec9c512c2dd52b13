#include "src/data/loader.h"

#include <utility>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::data {
namespace {

/// Row length that numbers tokens where train.tokens sets none: more than any row has.
constexpr std::int64_t kUnlimitedRow = std::int64_t{1} << 32;

std::vector<std::pair<std::string, std::int64_t Cursor::*>> cursor_fields() {
  return {{"data/sample", &Cursor::sample},      {"data/piece", &Cursor::piece},
          {"data/document", &Cursor::document},  {"data/row", &Cursor::row},
          {"data/skipped", &Cursor::skipped},    {"data/order_hash", &Cursor::order_hash},
          {"data/data_hash", &Cursor::data_hash}};
}

}  // namespace

void save(const Cursor& cursor, base::StateTree& state) {
  for (const auto& [name, member] : cursor_fields()) state.set(name, cursor.*member);
}

Cursor load_cursor(const base::StateTree& state) {
  Cursor cursor;
  for (const auto& [name, member] : cursor_fields()) cursor.*member = state.integer(name);
  return cursor;
}

Loader::Loader(const DataConfig& config, const LoaderShape& shape, const SampleReader& reader,
               std::uint64_t seed)
    : config_(config),
      shape_(shape),
      reader_(reader),
      files_(config.train, config.index_dir),
      order_(files_.count(), seed, config.order == "shuffled") {
  if (shape.micro_batches < 1 || shape.tokens < 0 || shape.documents < 0 ||
      (shape.tokens == 0 && shape.documents == 0)) {
    throw base::UsageError(
        base::text("train.micro_batches = ", shape.micro_batches, ", train.tokens = ", shape.tokens,
                   ", train.documents = ", shape.documents,
                   ": expected at least one micro-batch, and tokens or documents to fill it"));
  }
  cursor_.data_hash = files_.fingerprint();
}

void Loader::seek(const Cursor& cursor) {
  if (cursor.data_hash != cursor_.data_hash) {
    throw base::ContentError(base::text(
        "resuming at sample ", cursor.sample, " of data.train = ", base::join(config_.train, ", "),
        ": the content of these files has changed since, expected the same bytes"));
  }
  cursor_ = cursor;
}

void Loader::advance() {
  // FNV-1a over the lines taken; kept as a signed word because checkpoints hold those.
  auto hash = static_cast<std::uint64_t>(cursor_.order_hash);
  hash ^= static_cast<std::uint64_t>(order_.line(cursor_.sample)) + 1;
  cursor_.order_hash = static_cast<std::int64_t>(hash * 0x100000001b3ULL);
  cursor_.sample += 1;
  cursor_.piece = 0;
}

const Sample* Loader::draw() {
  if (drawn_number_ == cursor_.sample) return &drawn_;
  const auto line = files_.line(order_.line(cursor_.sample));
  try {
    drawn_ = reader_.read(line);
    drawn_number_ = cursor_.sample;
    return &drawn_;
  } catch (const base::ContentError& error) {
    if (!config_.skip_bad_lines) throw;
    last_skipped_ = error.what();
  }
  cursor_.skipped += 1;
  if (cursor_.skipped >= files_.count() && cursor_.document == 0) {
    throw base::ContentError(base::text("all ", files_.count(), " lines of ",
                                        base::join(config_.train, ", "),
                                        " are broken; the last: ", last_skipped_));
  }
  return nullptr;
}

std::int64_t longest_document(const LoaderShape& shape) {
  if (shape.tokens == 0 || shape.positions == 0) return std::max(shape.tokens, shape.positions);
  return std::min(shape.tokens, shape.positions);
}

void refuse_long_document(const std::string& where, std::int64_t tokens, const LoaderShape& shape) {
  const auto limit = longest_document(shape);
  throw base::ContentError(
      base::text(where, ": the document has ", tokens, " tokens, expected at most ", limit,
                 limit == shape.tokens ? " (train.tokens)" : " (the positions of the model)",
                 "; data.long = truncate or split accepts it"));
}

std::int64_t Loader::piece_end(const Sample& sample) const {
  const auto length = static_cast<std::int64_t>(sample.token.size());
  const auto limit = longest_document(shape_);
  if (limit == 0 || length - cursor_.piece <= limit) return length;
  if (config_.long_documents == "error") refuse_long_document(sample.where, length, shape_);
  return cursor_.piece + limit;
}

PackedRow Loader::next_row() {
  PackedRow row;
  row.first_token = cursor_.row * (shape_.tokens > 0 ? shape_.tokens : kUnlimitedRow);
  while (shape_.documents == 0 || row.documents() < shape_.documents) {
    const Sample* sample = draw();
    if (sample == nullptr) {
      advance();
      continue;
    }
    const auto end = piece_end(*sample);
    if (shape_.tokens > 0 && row.tokens() + end - cursor_.piece > shape_.tokens) {
      if (shape_.documents == 0) break;  // next-fit: this sample opens the next row
      throw base::ContentError(
          base::text(sample->where, ": document ", row.documents() + 1, " of ", shape_.documents,
                     " (train.documents) makes a row of ", row.tokens() + end - cursor_.piece,
                     " tokens, expected at most ", shape_.tokens, " (train.tokens)"));
    }
    row.append(*sample, cursor_.document++, cursor_.piece, end);
    if (end < static_cast<std::int64_t>(sample->token.size()) &&
        config_.long_documents == "split") {
      cursor_.piece = end;
    } else {
      advance();
    }
    if (shape_.documents == 0 && row.tokens() == shape_.tokens) break;
  }
  cursor_.row += 1;
  return row;
}

std::vector<PackedRow> Loader::next_step() {
  std::vector<PackedRow> rows;
  std::int64_t loss_tokens = 0;
  for (std::int64_t m = 0; m < shape_.micro_batches; ++m) {
    rows.push_back(next_row());
    loss_tokens += rows.back().loss_tokens();
  }
  if (loss_tokens == 0) {
    throw base::ContentError(base::text(
        rows.front().where.front(), ": none of the tokens from here to ", rows.back().where.back(),
        " in a step of ", shape_.micro_batches, " micro-batches bears loss, expected at least one",
        config_.long_documents == "error" ? "" : " (data.long cut the answers off)"));
  }
  return rows;
}

std::int64_t for_each_row(
    const std::vector<std::string>& paths, const SampleReader& reader, std::int64_t tokens,
    const std::function<void(const PackedRow&, const std::vector<Sample>&)>& visit) {
  const JsonlFiles files(paths);
  PackedRow row;
  std::vector<Sample> samples;
  std::int64_t next_row = 0;
  std::int64_t skipped = 0;
  const auto flush = [&] {
    if (row.documents() > 0) visit(row, samples);
    row = {};
    row.first_token = ++next_row * tokens;
    samples.clear();
  };
  for (std::int64_t index = 0; index < files.count(); ++index) {
    Sample sample;
    try {
      sample = reader.read(files.line(index));
    } catch (const base::ContentError&) {
      if (!reader.config().skip_bad_lines) throw;
      ++skipped;
      continue;
    }
    const auto length = static_cast<std::int64_t>(sample.token.size());
    if (row.documents() > 0 && row.tokens() + length > tokens) flush();
    row.append(sample, index, 0, length);
    samples.push_back(std::move(sample));
  }
  flush();
  return skipped;
}

}  // namespace dfmoa::data
