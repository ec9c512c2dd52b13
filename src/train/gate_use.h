// How every router uses its experts on held-out tokens, by task.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "src/model/transformer.h"

namespace dfmoa::train {

/// Load by task: mean gate of every expert, or head, at the tokens that bear loss.
using LoadOfTask = std::map<std::string, std::vector<double>>;

struct RouterUse {
  std::int64_t layer = 0;
  std::string router;
  bool of_heads = false;
  std::vector<std::string> labels;  ///< see model::BlockRouter
  LoadOfTask load_of_task;
  std::vector<double> load;       ///< of all tasks: they weigh by their tokens
  double load_cv = 0;             ///< standard deviation / mean of `load`
  double entropy = 0;             ///< of the shares of `load`, nats
  double mutual_information = 0;  ///< of expert and task, nats; tasks count alike
};

/// Sums the gates of the rows that a forward runs. The model must outlive it.
class GateUse : public model::GateSink {
 public:
  explicit GateUse(const model::Transformer& model) : model_(model) {}

  /// The row that is about to be run: where its loss-bearing tokens lie, and the task of each.
  void set_row(const at::Tensor& loss_row_X, std::vector<std::string> task_X);
  void gates(std::int64_t layer, const std::string& router, const at::Tensor& w_TE,
             const gates::Documents& documents) override;

  /// Routers in the order of the blocks, by name within one.
  [[nodiscard]] std::vector<RouterUse> report() const;

 private:
  const model::Transformer& model_;
  at::Tensor loss_row_X_;
  std::vector<std::string> task_X_;
  std::map<std::string, double> tokens_of_task_;
  std::map<std::pair<std::int64_t, std::string>, LoadOfTask> sums_;
};

/// Averaged over the routers of experts that have this expert; empty without such a router.
[[nodiscard]] LoadOfTask mean_load(const std::vector<RouterUse>& routers);
/// Averaged over the routers of experts; 0 without one.
[[nodiscard]] double mean_mutual_information(const std::vector<RouterUse>& routers);

/// Information between row and column when all rows are equally frequent: 0 where rows are equal,
/// log(rows) where no two rows share a column. Rows are scaled to sum 1; one that sums to 0 is left
/// out.
[[nodiscard]] double mutual_information(const std::vector<std::vector<double>>& load);

}  // namespace dfmoa::train
