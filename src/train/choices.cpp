#include "src/train/choices.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::train {
namespace {

/// Counts of one task until they become shares.
void count_item(ChoiceFigures& figures, const data::ChoiceItem& item, const ScoredItem& scored) {
  figures.items += 1;
  figures.acc += scored.chosen == item.answer ? 1 : 0;
  figures.acc_norm += scored.chosen_norm == item.answer ? 1 : 0;
}

void finish_shares(ChoiceFigures& figures) {
  const auto n = static_cast<double>(figures.items);
  figures.acc /= n;
  figures.acc_norm /= n;
  figures.stderr_ = std::sqrt(figures.acc * (1 - figures.acc) / n);
  figures.stderr_norm = std::sqrt(figures.acc_norm * (1 - figures.acc_norm) / n);
}

std::size_t first_largest(const std::vector<double>& values) {
  return static_cast<std::size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

}  // namespace

ChoiceRows::ChoiceRows(const std::vector<data::ChoiceItem>& items, const data::SampleReader& reader,
                       std::int64_t tokens_per_row, bool plain) {
  for (const auto& item : items) {
    std::vector<data::Sample> samples;
    try {
      samples = reader.continuations(item.question, plain, item.texts);
    } catch (const base::ContentError& error) {
      throw base::ContentError(item.where + ": " + error.what());
    }
    for (auto& sample : samples) sample.where = item.where;
    add(item, samples, tokens_per_row);
  }
}

void ChoiceRows::add(const data::ChoiceItem& item, const std::vector<data::Sample>& samples,
                     std::int64_t tokens_per_row) {
  struct Place {
    std::size_t row;
    std::int64_t first;  // token of the row
  };
  std::map<std::vector<std::int32_t>, Place> places;  // by the tokens that are read
  auto& texts = texts_.emplace_back();
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto& sample = samples[i];
    const auto read = static_cast<std::int64_t>(sample.token.size()) - 1;
    const auto [place, is_new] =
        places.try_emplace({sample.token.begin(), sample.token.end() - 1}, Place{0, 0});
    if (is_new) {
      if (rows_.empty() || rows_.back().packed.tokens() + read > tokens_per_row) {
        rows_.emplace_back();
      }
      auto& packed = rows_.back().packed;
      place->second = {rows_.size() - 1, packed.tokens()};
      packed.append(sample, static_cast<std::int64_t>(where_.size()), 0, read);
    }
    const auto [row, first] = place->second;
    auto& text = texts.emplace_back(Text{row, {}, static_cast<double>(item.texts[i].size())});
    for (auto t = sample.prompt_tokens; t <= read; ++t) {
      text.x.push_back(rows_[row].at_X.size());
      rows_[row].at_X.push_back(first + t - 1);
      rows_[row].target_X.push_back(sample.token[static_cast<std::size_t>(t)]);
    }
  }
  where_.push_back(item.where);
}

std::vector<ScoredItem> ChoiceRows::score(const model::Transformer& model) const {
  std::vector<at::Tensor> nll_X;
  for (const auto& row : rows_) {
    auto rows = model.pack(row.packed);
    const auto device = rows.token_T.device();
    rows.loss_row_X = torch::tensor(row.at_X, torch::kLong).to(device);
    rows.target_X = torch::tensor(row.target_X, torch::kLong).to(device);
    const auto x_TD = model.hidden(rows);
    const auto head = model.head(x_TD, rows, /*inverse_n_loss=*/1.0, /*want_gradient=*/false);
    nll_X.push_back(head.nll_X.to(at::kCPU).contiguous());
  }
  std::vector<ScoredItem> scored;
  for (std::size_t i = 0; i < texts_.size(); ++i) {
    auto& item = scored.emplace_back();
    std::vector<double> per_byte;
    for (const auto& text : texts_[i]) {
      const auto* nll = nll_X[text.row].const_data_ptr<double>();
      double sum = 0;
      for (const auto x : text.x) sum -= nll[x];
      if (!std::isfinite(sum)) {
        throw base::MachineError(base::text(where_[i], ": the log-likelihood of a choice is ", sum,
                                            ", expected a finite number"));
      }
      item.log_likelihood.push_back(sum);
      per_byte.push_back(sum / text.bytes);
    }
    item.chosen = first_largest(item.log_likelihood);
    item.chosen_norm = first_largest(per_byte);
  }
  return scored;
}

void ChoiceRows::watch(const model::Transformer& model, model::GateSink& sink) const {
  for (const auto& row : rows_) (void)model.hidden(model.pack(row.packed), nullptr, &sink);
}

std::int64_t ChoiceRows::tokens() const {
  std::int64_t total = 0;
  for (const auto& row : rows_) total += row.packed.tokens();
  return total;
}

std::map<std::string, ChoiceFigures> choice_figures(const std::vector<data::ChoiceItem>& items,
                                                    const std::vector<ScoredItem>& scored) {
  std::map<std::string, ChoiceFigures> tasks;
  for (std::size_t i = 0; i < items.size(); ++i)
    count_item(tasks[items[i].task], items[i], scored[i]);
  for (auto& [task, figures] : tasks) finish_shares(figures);
  return tasks;
}

ChoiceFigures all_choice_figures(const std::vector<data::ChoiceItem>& items,
                                 const std::vector<ScoredItem>& scored) {
  ChoiceFigures all;
  for (std::size_t i = 0; i < items.size(); ++i) count_item(all, items[i], scored[i]);
  finish_shares(all);
  return all;
}

std::string sample_lines(const std::vector<data::ChoiceItem>& items,
                         const std::vector<ScoredItem>& scored) {
  std::map<std::string, std::int64_t> number;
  std::string lines;
  for (std::size_t i = 0; i < items.size(); ++i) {
    std::vector<std::size_t> bytes;
    for (const auto& text : items[i].texts) bytes.push_back(text.size());
    const nlohmann::json line = {{"task", items[i].task},
                                 {"item", ++number[items[i].task]},
                                 {"where", items[i].where},
                                 {"log_likelihood", scored[i].log_likelihood},
                                 {"bytes", bytes},
                                 {"chosen", scored[i].chosen},
                                 {"chosen_norm", scored[i].chosen_norm},
                                 {"answer", items[i].answer}};
    lines += line.dump() + "\n";
  }
  return lines;
}

}  // namespace dfmoa::train
