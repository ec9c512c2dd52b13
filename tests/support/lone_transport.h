// The transport of a process that is alone.
#pragma once

#include <memory>

#include "distributed/comm/local.h"
#include "distributed/expert_transport.h"

namespace dfmoa::train {

class LoneTransport {
 public:
  explicit LoneTransport(model::Transformer& model, bool keeps_graphs = true)
      : comm_(comm::make_single()), transport_(model, *comm_, {}, keeps_graphs) {}
  [[nodiscard]] distributed::ExpertTransport& operator*() { return transport_; }
  [[nodiscard]] comm::Communicator& comm() { return *comm_; }

 private:
  std::unique_ptr<comm::Communicator> comm_;
  distributed::ExpertTransport transport_;
};

}  // namespace dfmoa::train
