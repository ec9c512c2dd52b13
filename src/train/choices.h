// Multiple choice: which of several texts a model finds likeliest behind a question.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "src/data/choices.h"
#include "src/data/packing.h"
#include "src/data/sample.h"
#include "src/model/transformer.h"

namespace dfmoa::train {

struct ScoredItem {
  std::vector<double> log_likelihood;  ///< of every text: nats, summed over its tokens
  std::size_t chosen = 0;              ///< the likeliest text; the first of equals
  std::size_t chosen_norm = 0;         ///< the likeliest per UTF-8 byte
};

struct ChoiceFigures {
  std::int64_t items = 0;
  double acc = 0;       ///< share of the items whose right text was chosen
  double acc_norm = 0;  ///< the same per byte
  double stderr_ = 0;   ///< of acc: sqrt(p (1 - p) / n)
  double stderr_norm = 0;
};

/// The texts of items, each a document of a packed row; none is padded. Texts of an item that
/// differ in their last token only share a document, because a last token is never read.
class ChoiceRows {
 public:
  /// Rows have at most `tokens_per_row` tokens; a longer document has one of its own. `plain`: as
  /// SampleReader::continuations. Throws ContentError "where: ..." as that does.
  ChoiceRows(const std::vector<data::ChoiceItem>& items, const data::SampleReader& reader,
             std::int64_t tokens_per_row, bool plain);

  /// Without gradients. Throws ContentError for a document too long for the model, MachineError for
  /// a log-likelihood that is not finite.
  [[nodiscard]] std::vector<ScoredItem> score(const model::Transformer& model) const;

  /// All rows, told to the sink only.
  void watch(const model::Transformer& model, model::GateSink& sink) const;

  [[nodiscard]] std::int64_t tokens() const;

 private:
  struct Row {
    data::PackedRow packed;
    std::vector<std::int64_t> at_X;      ///< token of the row that predicts ..
    std::vector<std::int64_t> target_X;  ///< .. this one
  };
  struct Text {
    std::size_t row = 0;
    std::vector<std::size_t> x;  ///< its tokens among the row's targets
    double bytes = 0;
  };
  void add(const data::ChoiceItem& item, const std::vector<data::Sample>& samples,
           std::int64_t tokens_per_row);

  std::vector<Row> rows_;
  std::vector<std::vector<Text>> texts_;  ///< of every item
  std::vector<std::string> where_;
};

/// By task.
[[nodiscard]] std::map<std::string, ChoiceFigures> choice_figures(
    const std::vector<data::ChoiceItem>& items, const std::vector<ScoredItem>& scored);
/// Of all items.
[[nodiscard]] ChoiceFigures all_choice_figures(const std::vector<data::ChoiceItem>& items,
                                               const std::vector<ScoredItem>& scored);

/// One JSON object an item and line: "item" (counted from 1 within its task), "task", "where",
/// "log_likelihood", "bytes", "chosen", "chosen_norm", "answer" (from 0).
[[nodiscard]] std::string sample_lines(const std::vector<data::ChoiceItem>& items,
                                       const std::vector<ScoredItem>& scored);

}  // namespace dfmoa::train
