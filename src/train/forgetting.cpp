#include "src/train/forgetting.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/data/jsonl.h"
#include "src/data/text_file.h"
#include "src/data/utf8.h"

namespace dfmoa::train {
namespace {

/// Packs texts next-fit, in pieces.
class TextRows {
 public:
  TextRows(std::int64_t tokens, bool halves) : tokens_(tokens), halves_(halves) {}

  void add(data::Sample text) {
    const auto length = static_cast<std::int64_t>(text.token.size());
    for (std::int64_t begin = 0; begin < length; begin += tokens_) {
      const auto end = std::min(begin + tokens_, length);
      if (halves_ && !mark_half(text, begin, end)) continue;
      if (rows_.empty() || rows_.back().tokens() + end - begin > tokens_) rows_.emplace_back();
      rows_.back().append(text, documents_++, begin, end);
    }
  }

  [[nodiscard]] std::vector<data::PackedRow> take() { return std::move(rows_); }

 private:
  /// Whether the piece is long enough to have two halves.
  static bool mark_half(data::Sample& text, std::int64_t begin, std::int64_t end) {
    const auto half = (end - begin) / 2;
    if (half == 0) return false;
    text.span_begin = begin;
    text.span_end = begin + half;
    const auto last_read = std::min(begin + half, end - 1);
    std::fill(text.trained.begin() + begin + 1, text.trained.begin() + last_read + 1,
              std::uint8_t{0});
    text.prompt_tokens = last_read + 1;
    return true;
  }

  std::int64_t tokens_;
  bool halves_;
  std::int64_t documents_ = 0;
  std::vector<data::PackedRow> rows_;
};

bool has_lines(std::string path) {
  if (path.ends_with(".zst")) path.resize(path.size() - 4);
  return path.ends_with(".jsonl");
}

data::Sample line_of_text(const data::SampleReader& reader, const data::JsonLine& line,
                          std::int64_t begin_tokens) {
  auto sample = reader.read(line);
  if (sample.prompt_tokens > begin_tokens || !sample.completion.empty()) {
    throw base::ContentError(line.where + ": it has a prompt, expected {\"text\"}");
  }
  return sample;
}

data::Sample whole_text(const data::SampleReader& reader, const std::string& path,
                        std::int64_t begin_tokens) {
  const auto text = data::TextFile(path, "").text();
  data::check_utf8(text, path);
  data::Sample sample;
  sample.where = path;
  sample.token = reader.plain_prompt(text).token;
  sample.trained.assign(sample.token.size(), 1);
  std::fill_n(sample.trained.begin(), begin_tokens, std::uint8_t{0});
  return sample;
}

double text_cross_entropy(const model::Transformer& model, const std::vector<data::PackedRow>& rows,
                          std::int64_t tokens) {
  double sum = 0;
  for (const auto& row : rows) {
    const auto packed = model.pack(row);
    const auto x_TD = model.hidden(packed);
    sum += model.head(x_TD, packed, /*inverse_n_loss=*/1.0, /*want_gradient=*/false)
               .ce_sum.item<double>();
  }
  const double ce = sum / static_cast<double>(tokens);
  if (std::isfinite(ce)) return ce;
  throw base::MachineError(base::text(rows.front().where.front(), ": the loss over ", tokens,
                                      " tokens is ", ce, ", expected a finite number"));
}

std::int64_t predicted(const std::vector<data::PackedRow>& rows) {
  std::int64_t tokens = 0;
  for (const auto& row : rows) tokens += row.loss_tokens();
  return tokens;
}

}  // namespace

std::vector<data::PackedRow> rows_of_text(const std::string& path, const data::SampleReader& reader,
                                          std::int64_t tokens, bool halves) {
  TextRows rows(tokens, halves);
  const auto begin_tokens = static_cast<std::int64_t>(reader.plain_prompt("").token.size());
  if (has_lines(path)) {
    const data::JsonlFiles lines({path});
    for (std::int64_t i = 0; i < lines.count(); ++i) {
      rows.add(line_of_text(reader, lines.line(i), begin_tokens));
    }
  } else {
    rows.add(whole_text(reader, path, begin_tokens));
  }
  auto packed = rows.take();
  if (predicted(packed) == 0) {
    throw base::ContentError(
        path + ": no token of this text can be predicted, expected one behind another");
  }
  return packed;
}

Forgetting measure_forgetting(const model::Transformer& model,
                              const std::vector<data::PackedRow>& rows) {
  Forgetting result;
  result.tokens = predicted(rows);
  result.perplexity = std::exp(text_cross_entropy(model, rows, result.tokens));
  result.base_perplexity =
      std::exp(text_cross_entropy(model.without_adapters(), rows, result.tokens));
  return result;
}

}  // namespace dfmoa::train
