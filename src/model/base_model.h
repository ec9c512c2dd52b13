// The frozen base model: immutable after loading, shared by every process thread of a host.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "src/adapters/base_linear.h"
#include "src/base/fields.h"
#include "src/model/architecture.h"

namespace dfmoa::model {

/// [model]
struct ModelConfig {
  std::string path;
  std::string quantize = "auto";

  void fields(base::FieldList& list);
};

struct LayerWeights {
  at::Tensor attention_norm_D;
  at::Tensor attention_norm_bias_D;  ///< biases of norms: undefined where Architecture::norm is rms
  at::Tensor mlp_norm_D;
  at::Tensor mlp_norm_bias_D;
  /// In the order of kSites; null where the family has no such linear.
  std::array<std::shared_ptr<const adapters::BaseLinear>, 7> linears;
};

struct BaseModel {
  Architecture architecture;
  at::Tensor embedding_VD;
  at::Tensor position_PD;  ///< (positions, D), added to the embedding; undefined: rotary
  at::Tensor head_VD;      ///< the embedding where tied
  at::Tensor final_norm_D;
  at::Tensor final_norm_bias_D;
  at::Tensor inverse_frequency;  ///< (C/2) fp32 of rotary positions, else undefined
  std::vector<LayerWeights> layers;
  std::shared_ptr<const void> files;  ///< the mapped files that the tensors point into
  std::string hash;  ///< XXH3-128 over name, type, shape and bytes of every tensor as computed with
  std::int64_t bytes = 0;
  std::int64_t hashed_bytes = 0;  ///< of them; 0 where the hash was kept from an earlier loading
};

/// Loads a Hugging Face directory, dense or NF4.
/// `dtype` is the compute type: fp32 or fp64. The hash is kept in the user's cache folder: files of
/// the same path, size and time of change are not read through for it again.
/// Throws UsageError for a missing path; ContentError naming a missing, unused or misshapen tensor,
/// or one that holds NaN or infinity.
[[nodiscard]] std::shared_ptr<const BaseModel> load_base_model(const ModelConfig& config,
                                                               at::ScalarType dtype);

/// Numbers of all tensors of such a model, whatever they are stored in; a tied head counts once.
[[nodiscard]] std::int64_t num_parameters(const Architecture& architecture);

}  // namespace dfmoa::model
