// Model families as data: what they are made of and what their tensors are called. A new family of
// these shapes is one entry.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/model/architecture.h"

namespace dfmoa::model {

/// Sites in the order of a block; names are the same in every family.
inline constexpr std::array<std::string_view, 7> kSites{"q", "k", "v", "o", "gate", "up", "down"};

/// In which words config.json describes the model.
enum class ConfigForm { llama, gpt2 };

/// "{}" in a name stands for the layer number. Norms and linears are named without ".weight".
struct FamilySpec {
  std::string_view name;
  std::vector<std::string_view> model_types;  ///< config.json's model_type
  ConfigForm config = ConfigForm::llama;
  Norm norm = Norm::rms;
  Activation activation = Activation::swiglu;
  Positions positions = Positions::rotary;
  std::string_view embedding;
  std::string_view position_table;  ///< of learned positions
  std::string_view final_norm;
  std::string_view head;  ///< absent where the head is tied to the embedding
  std::string_view attention_norm;
  std::string_view mlp_norm;
  /// In the order of kSites. Neighbours of one name are row slices of one stored linear, in this
  /// order; an empty name: the family has no such linear.
  std::array<std::string_view, 7> linears;
  bool linears_are_transposed = false;  ///< dense ones lie [in, out] in files; NF4 never does
  bool qkv_bias = false;
  std::string_view optional_prefix{};       ///< old files leave it out of all names
  std::vector<std::string_view> ignored{};  ///< endings of tensors in files that nobody needs
};

/// Null for a model type that no family names.
[[nodiscard]] const FamilySpec* find_family(std::string_view model_type);
[[nodiscard]] std::vector<std::string> known_model_types();

/// The same family in files that leave out its optional prefix.
[[nodiscard]] FamilySpec without_prefix(FamilySpec family);

/// The name with its layer number.
[[nodiscard]] std::string layer_name(std::string_view pattern, std::int64_t layer);

}  // namespace dfmoa::model
