// The mean gates of a model over some data, and evaluation under other gates than the trained ones.
#pragma once

#include <functional>
#include <map>

#include "src/gates/override.h"
#include "src/model/transformer.h"

namespace dfmoa::model {

/// Sums the gates of every router over the tokens of the passes that it watches.
class GateMeans : public GateSink {
 public:
  void gates(std::int64_t layer, const std::string& router, const at::Tensor& w_TE,
             const gates::Documents& documents) override;

  /// Every expert's mean (E), fp64, of every router that had a token.
  [[nodiscard]] std::map<gates::RouterKey, at::Tensor> mean_E() const;

 private:
  struct Sum {
    at::Tensor gate_E;
    std::int64_t tokens = 0;
  };
  std::map<gates::RouterKey, Sum> sums_;
};

/// Gives the model these gates. Mean gates are the means over the tokens of `first_pass`, which
/// runs the data under the trained gates and tells the sink. Throws as Transformer::override_gates.
void override_gates(Transformer& model, gates::Override gates,
                    const std::function<void(GateSink&)>& first_pass);

}  // namespace dfmoa::model
