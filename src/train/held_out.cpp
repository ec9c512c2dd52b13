#include "src/train/held_out.h"

#include <array>
#include <cmath>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/data/loader.h"

namespace dfmoa::train {
namespace {

/// Sum of losses and number of tokens. Every process meets every task, so that all hold the same
/// list.
using Sums = std::map<std::string, std::array<double, 2>>;

model::HeadResult run_head(const model::Transformer& model, const data::PackedRow& row) {
  const auto rows = model.pack(row);
  return model.head(model.hidden(rows), rows, /*inverse_n_loss=*/1.0, /*want_gradient=*/false);
}

void add_row(const model::Transformer& model, const data::PackedRow& row, Sums& sums) {
  const auto nll_X = run_head(model, row).nll_X.to(at::kCPU).contiguous();
  const auto* nll = nll_X.const_data_ptr<double>();
  for (std::int64_t d = 0; d < row.documents(); ++d) {
    const auto at = static_cast<std::size_t>(d);
    auto& sum = sums[row.task[at]];
    for (auto t = row.document_begin[at]; t < row.document_begin[at + 1]; ++t) {
      if (row.target_T[static_cast<std::size_t>(t)] < 0) continue;
      sum[0] += *nll++;
      sum[1] += 1;
    }
  }
}

}  // namespace

HeldOut evaluate_held_out(const model::Transformer& model, const data::SampleReader& reader,
                          const std::vector<std::string>& files, std::int64_t tokens_per_row,
                          comm::Communicator& comm) {
  Sums sums;
  std::int64_t number = 0;
  data::for_each_row(files, reader, tokens_per_row,
                     [&](const data::PackedRow& row, const std::vector<data::Sample>&) {
                       for (const auto& task : row.task) sums[task];
                       const bool mine = number++ % comm.num_processes() == comm.process();
                       if (mine) add_row(model, row, sums);
                     });
  // Where experts are shared all run as many rows: an empty one instead of what others have more.
  const auto more = number % comm.num_processes();
  if (more > 0 && comm.process() >= more) add_row(model, {}, sums);
  std::vector<double> flat;
  for (const auto& [task, sum] : sums) flat.insert(flat.end(), sum.begin(), sum.end());
  comm.all_reduce(flat.data(), static_cast<std::int64_t>(flat.size()), base::DType::f64,
                  comm::Op::sum, "evaluate");
  HeldOut result;
  double tokens = 0;
  const auto* sum = flat.data();
  for (const auto& [task, unused] : sums) {
    if (!task.empty() && sum[1] > 0) result.ce_of_task[task] = sum[0] / sum[1];
    result.ce += sum[0];
    tokens += sum[1];
    sum += 2;
  }
  result.ce /= tokens;
  if (!std::isfinite(result.ce)) {
    throw base::MachineError(base::text("evaluating ", base::join(files, ", "), ": the loss over ",
                                        tokens, " tokens is ", result.ce,
                                        ", expected a finite number"));
  }
  return result;
}

std::optional<double> cross_entropy(const model::Transformer& model,
                                    std::span<const data::PackedRow> rows, comm::Communicator& comm,
                                    const std::string& tag) {
  std::array<double, 2> sum{};  // of losses, of tokens
  const auto stride = static_cast<std::size_t>(comm.num_processes());
  const data::PackedRow empty_slot;
  for (std::size_t slot = 0; slot * stride < rows.size(); ++slot) {
    const auto m = slot * stride + static_cast<std::size_t>(comm.process());
    const auto& row = m < rows.size() ? rows[m] : empty_slot;
    sum[0] += run_head(model, row).ce_sum.item<double>();
    sum[1] += static_cast<double>(row.loss_tokens());
  }
  comm.all_reduce(sum.data(), 2, base::DType::f64, comm::Op::sum, tag);
  if (sum[1] == 0) return std::nullopt;
  return sum[0] / sum[1];
}

}  // namespace dfmoa::train
