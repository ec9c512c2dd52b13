#include "src/train/gate_use.h"

#include <algorithm>
#include <cmath>

#include "src/model/gate_record.h"

namespace dfmoa::train {
namespace {

/// load_cv and entropy of `load`.
void finish(RouterUse& use) {
  double total = 0;
  for (const double gate : use.load) total += gate;
  if (total <= 0) return;
  const double mean = total / static_cast<double>(use.load.size());
  double variance = 0;
  for (const double gate : use.load) {
    const double share = gate / total;
    if (share > 0) use.entropy -= share * std::log(share);
    variance += (gate - mean) * (gate - mean);
  }
  use.load_cv = std::sqrt(variance / static_cast<double>(use.load.size())) / mean;
}

}  // namespace

void GateUse::set_row(const at::Tensor& loss_row_X, std::vector<std::string> task_X) {
  loss_row_X_ = loss_row_X;
  task_X_ = std::move(task_X);
  for (const auto& task : task_X_) tokens_of_task_[task] += 1;
}

void GateUse::gates(std::int64_t layer, const std::string& router, const at::Tensor& w_TE,
                    const gates::Documents&) {
  const auto w_XE = w_TE.index_select(0, loss_row_X_).to(at::kCPU, at::kDouble).contiguous();
  const auto* w = w_XE.const_data_ptr<double>();
  const auto experts = static_cast<std::size_t>(w_XE.size(1));
  auto& by_task = sums_[{layer, router}];
  for (const auto& task : task_X_) {
    auto& sum_E = by_task[task];
    sum_E.resize(experts, 0.0);
    for (std::size_t e = 0; e < experts; ++e) sum_E[e] += *w++;
  }
}

std::vector<RouterUse> GateUse::report() const {
  double all_tokens = 0;
  for (const auto& [task, tokens] : tokens_of_task_) all_tokens += tokens;
  std::vector<RouterUse> all;
  for (const auto& [key, by_task] : sums_) {
    const auto& router = model::find_router(model_, key.first, key.second);
    RouterUse use{key.first, key.second, router.of_heads, router.labels, {}, {}};
    use.load.resize(static_cast<std::size_t>(router.experts), 0.0);
    std::vector<std::vector<double>> rows;
    for (const auto& [task, sum_E] : by_task) {
      rows.push_back(sum_E);
      auto& load_E = use.load_of_task[task];
      for (std::size_t e = 0; e < sum_E.size(); ++e) {
        load_E.push_back(sum_E[e] / tokens_of_task_.at(task));
        use.load[e] += sum_E[e] / all_tokens;
      }
    }
    use.mutual_information = mutual_information(rows);
    finish(use);
    all.push_back(std::move(use));
  }
  return all;
}

LoadOfTask mean_load(const std::vector<RouterUse>& routers) {
  LoadOfTask mean;
  LoadOfTask routers_of_expert;
  for (const auto& use : routers) {
    if (use.of_heads) continue;
    for (const auto& [task, load_E] : use.load_of_task) {
      auto& sum_E = mean[task];
      auto& count_E = routers_of_expert[task];
      sum_E.resize(std::max(sum_E.size(), load_E.size()), 0.0);
      count_E.resize(sum_E.size(), 0.0);
      for (std::size_t e = 0; e < load_E.size(); ++e) {
        sum_E[e] += load_E[e];
        count_E[e] += 1;
      }
    }
  }
  for (auto& [task, sum_E] : mean) {
    const auto& count_E = routers_of_expert.at(task);
    for (std::size_t e = 0; e < sum_E.size(); ++e) sum_E[e] /= count_E[e];
  }
  return mean;
}

double mean_mutual_information(const std::vector<RouterUse>& routers) {
  double sum = 0;
  double count = 0;
  for (const auto& use : routers) {
    if (use.of_heads) continue;
    sum += use.mutual_information;
    count += 1;
  }
  return count > 0 ? sum / count : 0;
}

double mutual_information(const std::vector<std::vector<double>>& load) {
  std::vector<std::vector<double>> share;
  for (const auto& row : load) {
    double sum = 0;
    for (const double value : row) sum += value;
    if (sum <= 0) continue;
    share.push_back(row);
    for (double& value : share.back()) value /= sum;
  }
  if (share.empty()) return 0;
  const auto rows = static_cast<double>(share.size());
  std::vector<double> mean(share.front().size(), 0.0);
  for (const auto& row : share) {
    for (std::size_t e = 0; e < row.size(); ++e) mean[e] += row[e] / rows;
  }
  double information = 0;
  for (const auto& row : share) {
    for (std::size_t e = 0; e < row.size(); ++e) {
      if (row[e] > 0) information += row[e] * std::log(row[e] / mean[e]) / rows;
    }
  }
  return std::max(information, 0.0);  // equal rows: what rounding leaves may be below zero
}

}  // namespace dfmoa::train
