#include "launch/dry_run.h"

#include <iostream>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/data/census.h"

namespace dfmoa::launch {
namespace {

constexpr std::size_t kShownRows = 3;

/// Tokens that bear loss in brackets, a run of them in one pair: a character may be several tokens.
std::string masked_text(const data::PackedRow& row, std::int64_t begin, std::int64_t end,
                        const data::Tokenizer& tokenizer) {
  const auto is_trained = [&](std::int64_t t) {  // a document's first token is nobody's target
    return t > begin && row.target_T[static_cast<std::size_t>(t - 1)] >= 0;
  };
  std::string text;
  for (auto t = begin; t < end;) {
    const bool trained = is_trained(t);
    std::vector<std::int32_t> run;
    for (; t < end && is_trained(t) == trained; ++t) {
      run.push_back(static_cast<std::int32_t>(row.token_T[static_cast<std::size_t>(t)]));
    }
    const auto words = tokenizer.decode(run);
    text += trained ? "[" + words + "]" : words;
  }
  return text;
}

void print_row(std::size_t number, const data::PackedRow& row, const data::Tokenizer& tokenizer) {
  std::cout << "row " << number << ": " << row.documents() << " documents, " << row.tokens()
            << " tokens, " << row.loss_tokens() << " bear loss (in brackets)\n";
  for (std::size_t d = 0; d + 1 < row.document_begin.size(); ++d) {
    std::cout << "  " << row.where[d] << ": "
              << masked_text(row, row.document_begin[d], row.document_begin[d + 1], tokenizer)
              << "\n";
  }
}

/// Tells of the samples without a span only where a router reads spans.
std::string describe_spans(const train::RunConfig& config, const data::Census& census) {
  for (const auto& [name, router] : config.plan.routers) {
    if (router.scope != "span") continue;
    return base::text(", ", census.without_span, " without a span (router ", name,
                      " reads their whole prompt)");
  }
  return "";
}

}  // namespace

void print_dry_run(const train::RunConfig& config, const data::Tokenizer& tokenizer,
                   const data::SampleReader& reader, data::Loader& loader) {
  const auto census = data::take_census(config.data.train, reader);
  const auto limit = data::longest_document(loader.shape());
  if (config.data.long_documents == "error" && limit > 0 && census.longest > limit) {
    data::refuse_long_document(census.longest_where, census.longest, loader.shape());
  }
  std::vector<data::PackedRow> rows;
  while (rows.size() < kShownRows) {
    for (auto& row : loader.next_step()) rows.push_back(std::move(row));
  }
  std::cout << data::describe(census) << describe_spans(config, census) << "\n";
  for (std::size_t i = 0; i < kShownRows; ++i) print_row(i + 1, rows[i], tokenizer);
  std::cout << "\n" << config.ini();
}

}  // namespace dfmoa::launch
