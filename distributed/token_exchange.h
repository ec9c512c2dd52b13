// Classical expert parallelism: tokens go to the owners of their experts and back, each once per
// owner however many of its experts are selected.
#pragma once

#include <functional>

#include "distributed/comm/communicator.h"
#include "distributed/ownership.h"
#include "src/model/block.h"

namespace dfmoa::distributed {

/// Rows of `rows_XW`, ordered by destination, go there; -> what came, ordered by source. Under
/// autograd: the gradient goes the other way. What stays here is copied, not sent.
/// Shapes  (sum of send_counts, W) -> (sum of receive_counts, W).
/// Throws  MachineError in backward if autograd runs it on another thread than the forward: only
///         one thread may talk to other processes.
[[nodiscard]] at::Tensor exchange_rows(const at::Tensor& rows_XW,
                                       const std::vector<std::int64_t>& send_counts,
                                       const std::vector<std::int64_t>& receive_counts,
                                       comm::Communicator& comm, const std::string& tag);

/// How many rows every process sends to this one, from how many this one sends to every process.
[[nodiscard]] std::vector<std::int64_t> exchange_counts(const std::vector<std::int64_t>& counts,
                                                        comm::Communicator& comm,
                                                        const std::string& tag);

class AllToAllTokens final : public model::TokenExchange {
 public:
  using OwnersOf = std::function<const BlockOwners&(std::int64_t layer)>;
  AllToAllTokens(comm::Communicator& comm, OwnersOf owners)
      : comm_(comm), owners_(std::move(owners)) {}

  [[nodiscard]] model::ArrivedTokens send(const model::Block& block, int group,
                                          const at::Tensor& x_TD, const at::Tensor& gate_TG,
                                          const gates::Documents& documents,
                                          bool wants_documents) override;
  [[nodiscard]] at::Tensor bring_back(const model::ArrivedTokens& arrived,
                                      const at::Tensor& y_TF) override;

 private:
  struct Route;
  comm::Communicator& comm_;
  OwnersOf owners_;
};

}  // namespace dfmoa::distributed
