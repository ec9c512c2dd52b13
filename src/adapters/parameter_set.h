// The trained tensors of one block as views of flat buffers: value, gradient and two moments.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace dfmoa::adapters {

/// Optimiser groups, contiguous in the flat buffers in this order.
enum class ParameterGroup { adapter, router, rank_gate, dimension_gate };

struct ParameterSpec {
  std::string name;  ///< inside the block, e.g. "attention_in/A"
  std::vector<std::int64_t> shape;
  ParameterGroup group = ParameterGroup::adapter;
};

/// Where every spec begins in a flat buffer, and the buffer's end: each is aligned to a cache line.
[[nodiscard]] std::vector<std::int64_t> flat_offsets(const std::vector<ParameterSpec>& specs,
                                                     std::int64_t element_bytes);

/// Leaves share storage and version counter with the flat value: an update between a forward and
/// its backward raises.
class ParameterSet {
 public:
  ParameterSet() = default;
  /// Values, gradients and moments start at zero. Specs must be ordered by group.
  ParameterSet(std::vector<ParameterSpec> specs, at::TensorOptions options);
  /// Leaves that lie elsewhere, one per spec, for a pass: no gradients, moments or flat buffers.
  /// Throws ShapeError unless there is a leaf of its shape for every spec.
  [[nodiscard]] static ParameterSet borrowed(std::vector<ParameterSpec> specs,
                                             std::vector<at::Tensor> leaves);

  [[nodiscard]] bool empty() const { return specs_.empty(); }
  [[nodiscard]] const std::vector<ParameterSpec>& specs() const { return specs_; }
  [[nodiscard]] const std::vector<at::Tensor>& leaves() const { return leaves_; }
  /// Throws ShapeError for an unknown name.
  [[nodiscard]] std::size_t index_of(const std::string& name) const;
  /// Parameters whose name is `folder`, which ends with "/", and one more part: none of a deeper
  /// one.
  [[nodiscard]] std::vector<std::size_t> indices_under(const std::string& folder) const;
  [[nodiscard]] const at::Tensor& leaf(const std::string& name) const;

  /// Views of leaf `index`, shaped like it.
  [[nodiscard]] const at::Tensor& gradient(std::size_t index) const { return gradients_.at(index); }
  [[nodiscard]] at::Tensor moment1(std::size_t index) const { return view(moment1_, index); }
  [[nodiscard]] at::Tensor moment2(std::size_t index) const { return view(moment2_, index); }

  /// Adds one gradient per leaf; an undefined one is zero.
  void accumulate(const std::vector<at::Tensor>& gradients);
  void zero_gradient();

  /// Flat views of one group: value, gradient, moment1, moment2. Empty tensors for an empty group.
  struct Flat {
    at::Tensor value, gradient, moment1, moment2;
  };
  [[nodiscard]] Flat flat(ParameterGroup group) const;
  [[nodiscard]] const at::Tensor& flat_gradient() const { return gradient_; }
  [[nodiscard]] std::int64_t count() const;

  /// Values and moments in host memory, for those who save or load them; gradients are left out.
  /// Where the set lies there already, the result shares its memory.
  [[nodiscard]] ParameterSet on_host() const;
  /// Takes over values and moments of a set with the same specs, wherever it lies.
  void take(const ParameterSet& other);

 private:
  [[nodiscard]] at::Tensor view(const at::Tensor& flat, std::size_t index) const;
  void make_leaves();

  std::vector<ParameterSpec> specs_;
  std::vector<std::int64_t> offsets_;  ///< one per spec, and the end
  at::Tensor value_, gradient_, moment1_, moment2_;
  std::vector<at::Tensor> leaves_;
  std::vector<at::Tensor> gradients_;
};

}  // namespace dfmoa::adapters
