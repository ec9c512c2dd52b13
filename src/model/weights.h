// Reads the tensors of a base model by name, keeping count of what was used.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "src/adapters/base_linear.h"
#include "src/base/hash.h"
#include "src/formats/tensor_store.h"
#include "src/model/architecture.h"

namespace dfmoa::model {

/// One linear of a model, and how a dense one lies in its file.
struct LinearShape {
  std::int64_t out_features = 0;
  std::int64_t in_features = 0;
  bool has_bias = false;
  bool is_transposed = false;  ///< dense: stored (in, out)
};

/// Weights per scale of what is quantised while loading.
inline constexpr std::int64_t kNf4Block = 64;

/// The seven linears, in the order of kSites.
[[nodiscard]] std::array<LinearShape, 7> linear_shapes(const Architecture& architecture,
                                                       bool is_transposed);

class WeightReader {
 public:
  /// `quantize` turns dense linears into NF4 (block 64) while reading. With a `known_hash`, which
  /// an earlier reader of the same files ended with, their bytes are neither hashed nor searched
  /// for NaN again.
  WeightReader(std::shared_ptr<const formats::TensorStore> store, at::ScalarType dtype,
               bool quantize, std::optional<std::string> known_hash = {});

  /// A dense tensor in the compute type; zero copy where the file holds that type, aligned.
  /// Throws ContentError if it is missing, misshapen, of a quantised type, or not finite.
  [[nodiscard]] at::Tensor dense(const std::string& name, at::IntArrayRef shape);

  /// `prefix`.weight and `prefix`.bias, (D) each; the bias is undefined where there is none.
  [[nodiscard]] std::pair<at::Tensor, at::Tensor> norm(const std::string& prefix,
                                                       std::int64_t extent, bool has_bias);

  /// `prefix`.weight (F, D), dense or NF4, with `prefix`.bias where the model has one. A transposed
  /// one is quantised as (F, D).
  [[nodiscard]] std::shared_ptr<const adapters::BaseLinear> linear(const std::string& prefix,
                                                                   const LinearShape& shape);

  /// Throws ContentError naming the first tensor that was not used and whose name has none of the
  /// `ignored` endings.
  void finish(const std::vector<std::string_view>& ignored) const;

  [[nodiscard]] std::int64_t bytes() const { return bytes_; }
  /// Of `bytes` those that were hashed: all, or none where the hash was known.
  [[nodiscard]] std::int64_t hashed_bytes() const { return known_hash_ ? 0 : bytes_; }
  [[nodiscard]] std::string hash() const { return known_hash_ ? *known_hash_ : hash_.hex(); }

 private:
  [[nodiscard]] const formats::TensorView& use(const std::string& name);
  [[nodiscard]] std::shared_ptr<const adapters::BaseLinear> stored_nf4(const std::string& prefix,
                                                                       const LinearShape& shape,
                                                                       const at::Tensor& bias_F);
  [[nodiscard]] at::Tensor stored_absmax(const std::string& name, const nlohmann::json& state,
                                         std::int64_t blocks);
  [[nodiscard]] std::shared_ptr<const adapters::BaseLinear> quantized(const std::string& name,
                                                                      const at::Tensor& weight_FD,
                                                                      const at::Tensor& bias_F);
  void count(const std::string& name, const at::Tensor& tensor);
  [[nodiscard]] bool is_finite(const at::Tensor& tensor) const;

  std::shared_ptr<const formats::TensorStore> store_;
  at::ScalarType dtype_;
  bool quantize_;
  std::optional<std::string> known_hash_;
  std::set<std::string> used_;
  base::Hash128 hash_;
  std::int64_t bytes_ = 0;
};

}  // namespace dfmoa::model
