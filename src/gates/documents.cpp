#include "src/gates/documents.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::gates {
namespace {

/// Tokens [first, second) of document d that a gate of `scope` averages.
std::pair<std::int64_t, std::int64_t> pooled_range(const Documents& documents, std::size_t d,
                                                   const std::string& scope) {
  const auto begin = documents.begin[d];
  if (scope == "first_token") return {begin, std::min(begin + 1, documents.begin[d + 1])};
  const auto prompt_end = documents.prompt_end[d];
  if (scope == "last_prompt") return {std::max(prompt_end - 1, begin), prompt_end};
  const bool is_marked = documents.span_end[d] > documents.span_begin[d];
  if (scope == "span" && is_marked) return {documents.span_begin[d], documents.span_end[d]};
  return {begin, prompt_end};
}

at::Tensor pool_of(const Documents& documents, const std::string& scope) {
  auto pool_DT = at::zeros({documents.count(), documents.tokens()}, at::kDouble);
  for (std::int64_t d = 0; d < documents.count(); ++d) {
    const auto number = static_cast<std::size_t>(d);
    const auto [first, end] = pooled_range(documents, number, scope);
    if (end <= first || first < documents.begin[number] || end > documents.begin[number + 1]) {
      const auto document = documents.where.empty() ? base::text("document ", documents.id[number])
                                                    : documents.where[number];
      throw base::ContentError(base::text(
          document, ": a gate of scope ", scope, " has no token to read (", first, " to ", end,
          " of the tokens ", documents.begin[number], " to ", documents.begin[number + 1],
          "), expected a marked instruction or two tokens before "
          "the first answer"));
    }
    pool_DT[d].narrow(0, first, end - first).fill_(1.0 / static_cast<double>(end - first));
  }
  return pool_DT;
}

/// Sum of all rows until each, in chunks of products with a triangle: torch's own running sum does
/// not repeat bit for bit on a GPU.
at::Tensor prefix_sum(const at::Tensor& x_LD) {
  constexpr std::int64_t kChunk = 32;
  const auto length = x_LD.size(0);
  const auto chunks = (length + kChunk - 1) / kChunk;
  const auto x_NCD = at::constant_pad_nd(x_LD, {0, 0, 0, chunks * kChunk - length})
                         .view({chunks, kChunk, x_LD.size(1)});
  auto sum_NCD = at::matmul(at::ones({kChunk, kChunk}, x_LD.options()).tril(), x_NCD);
  if (chunks > 1) {
    const auto earlier = at::ones({chunks, chunks}, x_LD.options()).tril(-1);
    sum_NCD = sum_NCD + at::mm(earlier, sum_NCD.select(1, kChunk - 1)).unsqueeze(1);
  }
  return sum_NCD.reshape({-1, x_LD.size(1)}).narrow(0, 0, length);
}

}  // namespace

void finish(Documents& documents, const std::set<std::string>& scopes, at::TensorOptions options) {
  std::vector<std::int32_t> row(static_cast<std::size_t>(documents.tokens()));
  const auto count = static_cast<std::size_t>(documents.count());
  for (std::size_t d = 0; d < count; ++d) {
    for (auto t = documents.begin[d]; t < documents.begin[d + 1]; ++t) {
      row[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(d);
    }
  }
  const auto device = options.device();
  documents.row_T = torch::tensor(row, torch::kInt).to(device);
  documents.begin_tensor = torch::tensor(documents.begin, torch::kInt).to(device);
  documents.whole_tensor =
      torch::tensor({std::int64_t{0}, documents.tokens()}, torch::kInt).to(device);
  for (const auto& scope : scopes) {
    documents.pool_DT[scope] = pool_of(documents, scope).to(options);
  }
}

at::Tensor running_mean(const at::Tensor& x_TD, const Documents& documents, RunningSum* carried) {
  if (carried != nullptr && !carried->sum_DD.defined()) {
    carried->sum_DD = at::zeros({documents.count(), x_TD.size(1)}, x_TD.options());
    carried->count.assign(static_cast<std::size_t>(documents.count()), 0);
  }
  std::vector<at::Tensor> means;  // document by document: no sum runs on into the next one
  for (std::int64_t d = 0; d < documents.count(); ++d) {
    const auto number = static_cast<std::size_t>(d);
    const auto begin = documents.begin[number];
    const auto tokens = documents.begin[number + 1] - begin;
    if (tokens == 0) continue;
    auto sum_TD = prefix_sum(x_TD.narrow(0, begin, tokens));
    std::int64_t before = 0;
    if (carried != nullptr) {
      before = carried->count[number];
      sum_TD = sum_TD + carried->sum_DD[d];
      carried->sum_DD[d].copy_(sum_TD[tokens - 1]);
      carried->count[number] += tokens;
    }
    const auto length_T1 = at::arange(before + 1, before + tokens + 1, x_TD.options()).unsqueeze(1);
    means.push_back(sum_TD / length_T1);
  }
  return means.empty() ? x_TD : at::cat(means);
}

}  // namespace dfmoa::gates
