// Model families as data: what their tensors are called. A new family of this shape is one entry.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dfmoa::model {

/// Sites in the order of a block; names are the same in every family.
inline constexpr std::array<std::string_view, 7> kSites{"q", "k", "v", "o", "gate", "up", "down"};

/// "{}" in a name stands for the layer number.
struct FamilySpec {
  std::string_view name;
  std::vector<std::string_view> model_types;  ///< config.json's model_type
  std::string_view embedding;
  std::string_view final_norm;
  std::string_view head;  ///< absent where the head is tied to the embedding
  std::string_view attention_norm;
  std::string_view mlp_norm;
  std::array<std::string_view, 7> linears;  ///< in the order of kSites, without ".weight"
  bool qkv_bias = false;
  std::vector<std::string_view> ignored;  ///< endings of tensors that files hold and nobody needs
};

/// Null for a model type that no family names.
[[nodiscard]] const FamilySpec* find_family(std::string_view model_type);
[[nodiscard]] std::vector<std::string> known_model_types();

/// The name with its layer number.
[[nodiscard]] std::string layer_name(std::string_view pattern, std::int64_t layer);

}  // namespace dfmoa::model
