// Rows of one block as messages: gathered from their owners, and their gradients on the way back.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "distributed/owned_rows.h"
#include "src/adapters/parameter_set.h"

namespace dfmoa::distributed {

/// Where rows of a block lie: in the parameter of the whole block, in that of their owner, and in a
/// flat message of one owner. Messages are padded to that of the largest owner.
class WeightGather {
 public:
  WeightGather() = default;
  /// Of all `runs` of a block those that `takes` names. `whole` and `held` are the specs of the
  /// block and of this process, which is `place` of `places` owners. Rows that all hold count as
  /// its own.
  WeightGather(const std::vector<RowRun>& runs, const std::vector<adapters::ParameterSpec>& whole,
               const std::vector<adapters::ParameterSpec>& held, int place, int places,
               const std::function<bool(const RowRun&)>& takes);

  [[nodiscard]] bool empty() const { return largest_ == 0; }
  /// Elements of a message.
  [[nodiscard]] std::int64_t largest() const { return largest_; }
  /// Specs of the whole block, of which some rows travel.
  [[nodiscard]] const std::vector<std::size_t>& parameters() const { return parameters_; }

  /// Own rows of one tensor per held spec into a message (largest).
  void pack_own(const std::vector<at::Tensor>& held, const at::Tensor& message) const;
  /// Adds a message of own rows to one tensor per held spec.
  void add_own(const at::Tensor& message, const std::vector<at::Tensor>& held) const;
  /// Replaces own rows.
  void unpack_own(const at::Tensor& message, const std::vector<at::Tensor>& held) const;
  /// Views of the own rows of one tensor per held spec.
  [[nodiscard]] std::vector<at::Tensor> own_rows(const std::vector<at::Tensor>& held) const;
  /// Own rows from one tensor per held spec to one per whole spec, and added the other way. Of the
  /// whole, what is undefined is left out.
  void copy_held(const std::vector<at::Tensor>& held, const std::vector<at::Tensor>& whole) const;
  void add_held(const std::vector<at::Tensor>& whole, const std::vector<at::Tensor>& held) const;
  /// All owners' rows of one tensor per whole spec into messages (places * largest), and back. What
  /// is undefined is left out: it must be so for rows that do not travel.
  void pack_all(const std::vector<at::Tensor>& whole, const at::Tensor& messages) const;
  void unpack_all(const at::Tensor& messages, const std::vector<at::Tensor>& whole) const;

 private:
  struct Piece {
    std::size_t whole = 0;  ///< spec of the block
    std::size_t held = 0;   ///< spec of this process; used for own rows alone
    std::int64_t whole_begin = 0;
    std::int64_t held_begin = 0;
    std::int64_t rows = 0;
    int owner = 0;
    std::int64_t elements = 0;
    std::int64_t offset = 0;  ///< in the message of its owner
  };
  std::vector<Piece> pieces_;
  std::vector<std::size_t> parameters_;
  std::int64_t largest_ = 0;
  int place_ = 0;
};

}  // namespace dfmoa::distributed
