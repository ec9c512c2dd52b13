#include "src/model/packed_rows.h"

#include "src/data/packing.h"

namespace dfmoa::model {
namespace {

at::Tensor whole_numbers(const std::vector<std::int64_t>& values, at::Device device) {
  return torch::tensor(values, torch::kLong).to(device);
}

/// Appends `values`, moved on by `step` with every copy, until they are there `copies` times.
void repeat(std::vector<std::int64_t>& values, std::int64_t copies, std::int64_t step) {
  const auto once = values;
  for (std::int64_t e = 1; e < copies; ++e) {
    for (const auto value : once) values.push_back(value + e * step);
  }
}

/// Writes the row once per expert. What marks a document's prompt is read from the first copy.
void copy_for_experts(PackedRows& rows, std::vector<std::int64_t>& position,
                      const PackOptions& options) {
  auto& documents = rows.documents;
  const auto tokens = documents.tokens();
  const auto copies = options.copies;
  const auto gate_EE = at::eye(copies, options.options);
  auto gate_TE = gate_EE.unsqueeze(1).expand({-1, tokens, -1}).reshape({copies * tokens, copies});
  rows.copies = ExpertCopies{documents, std::move(gate_TE)};
  rows.token_T = rows.token_T.unsqueeze(0).expand({copies, -1}).reshape({copies * tokens});
  repeat(position, copies, 0);
  repeat(documents.id, copies, 0);
  documents.begin.pop_back();
  repeat(documents.begin, copies, tokens);
  documents.begin.push_back(copies * tokens);
}

void finish(PackedRows& rows, std::vector<std::int64_t> position, bool are_prompts,
            const PackOptions& options) {
  const auto device = options.options.device();
  const auto scopes = are_prompts ? options.scopes : std::set<std::string>{};
  gates::finish(rows.documents, scopes, options.options);
  if (options.copies > 0) {
    copy_for_experts(rows, position, options);
    gates::finish(rows.documents, {}, options.options);
  }
  const auto position_T = whole_numbers(position, at::kCPU);
  rows.position_T = position_T.to(device);
  if (!options.inverse_frequency.defined()) return;
  // On the host for every device: a GPU's fp32 sine differs in its last bit, an fp64 run in 1e-9.
  const auto rotary = ops::rotary_table(position_T, options.inverse_frequency,
                                        c10::typeMetaToScalarType(options.options.dtype()));
  rows.rotary = {rotary.cos_T1C.to(device), rotary.sin_T1C.to(device)};
}

}  // namespace

PackedRows pack(const data::PackedRow& row, const PackOptions& options) {
  const auto device = options.options.device();
  PackedRows rows;
  rows.token_T = whole_numbers(row.token_T, device);
  std::vector<std::int64_t> loss_row;
  std::vector<std::int64_t> target;
  for (std::size_t t = 0; t < row.target_T.size(); ++t) {
    if (row.target_T[t] < 0) continue;
    loss_row.push_back(static_cast<std::int64_t>(t));
    target.push_back(row.target_T[t]);
  }
  rows.loss_row_X = whole_numbers(loss_row, device);
  rows.target_X = whole_numbers(target, device);
  auto& documents = rows.documents;
  documents.id = row.document_id;
  documents.begin = row.document_begin;
  if (documents.begin.empty()) documents.begin = {0};
  documents.prompt_end = row.prompt_end;
  documents.span_begin = row.span_begin;
  documents.span_end = row.span_end;
  documents.where = row.where;
  finish(rows, row.position_T, /*are_prompts=*/true, options);
  return rows;
}

PackedRows pack_sequences(const std::vector<std::vector<std::int32_t>>& tokens,
                          const std::vector<std::int64_t>& start,
                          const std::vector<std::pair<std::int64_t, std::int64_t>>& spans,
                          const PackOptions& options) {
  PackedRows rows;
  std::vector<std::int64_t> token;
  std::vector<std::int64_t> position;
  for (std::size_t d = 0; d < tokens.size(); ++d) {
    for (std::size_t t = 0; t < tokens[d].size(); ++t) {
      token.push_back(tokens[d][t]);
      position.push_back(start[d] + static_cast<std::int64_t>(t));
    }
    auto& documents = rows.documents;
    const auto first = documents.begin.back();
    const auto end = static_cast<std::int64_t>(token.size());
    const bool marked = d < spans.size() && spans[d].second > spans[d].first;
    documents.span_begin.push_back(marked ? first + spans[d].first : first);
    documents.span_end.push_back(marked ? first + spans[d].second : first);
    documents.prompt_end.push_back(end - 1);
    documents.begin.push_back(end);
    documents.id.push_back(static_cast<std::int64_t>(d));
  }
  const auto device = options.options.device();
  rows.token_T = whole_numbers(token, device);
  rows.loss_row_X = whole_numbers({}, device);
  rows.target_X = whole_numbers({}, device);
  const bool are_prompts =
      std::all_of(start.begin(), start.end(), [](auto first) { return first == 0; });
  finish(rows, position, are_prompts, options);
  return rows;
}

}  // namespace dfmoa::model
