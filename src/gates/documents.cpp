#include "src/gates/documents.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::gates {

void finish(Documents& documents, bool pooled, at::TensorOptions options) {
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
  if (!pooled) return;
  auto pool = torch::zeros({documents.count(), documents.tokens()}, torch::kDouble);
  for (std::size_t d = 0; d < count; ++d) {
    const auto first = documents.span_begin[d];
    const auto size = documents.span_end[d] - first;
    if (size <= 0 || first < documents.begin[d] || documents.span_end[d] > documents.begin[d + 1]) {
      throw base::ContentError(base::text(
          "document ", documents.id[d], ": a gate of scope span has no token to read (span ", first,
          " to ", documents.span_end[d], " of tokens ", documents.begin[d], " to ",
          documents.begin[d + 1],
          "); expected an instruction or a prompt before the first answer"));
    }
    pool[static_cast<std::int64_t>(d)]
        .narrow(0, first, size)
        .fill_(1.0 / static_cast<double>(size));
  }
  documents.pool_DT = pool.to(options);
}

}  // namespace dfmoa::gates
