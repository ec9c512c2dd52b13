#include "src/model/base_model.h"

#include "src/base/error.h"
#include "src/base/hash_cache.h"
#include "src/base/text.h"
#include "src/model/families.h"
#include "src/model/weights.h"

namespace dfmoa::model {
namespace {

/// Where the hash of these files, computed with in this form, is kept.
base::HashCache hash_cache(const ModelConfig& config, const formats::TensorStore& store,
                           at::ScalarType dtype) {
  auto files = store.paths();
  files.push_back(std::filesystem::path(config.path) / "config.json");
  return {base::user_cache_folder(),
          base::text("base model 1 ", c10::toString(dtype), " quantize ", config.quantize), files};
}

/// The family as these files call its tensors.
FamilySpec family_of(const Architecture& a, const formats::TensorStore& store) {
  const auto& family = *find_family(a.model_type);
  const auto old = without_prefix(family);
  const bool is_old =
      store.find(family.embedding) == nullptr && store.find(old.embedding) != nullptr;
  return is_old ? old : family;
}

/// Every linear of a layer; those that share a stored one become its row slices.
LayerWeights read_layer(WeightReader& reader, const FamilySpec& family, const Architecture& a,
                        std::int64_t layer) {
  LayerWeights weights;
  const bool has_bias = a.norm == Norm::layer;
  std::tie(weights.attention_norm_D, weights.attention_norm_bias_D) =
      reader.norm(layer_name(family.attention_norm, layer), a.hidden, has_bias);
  std::tie(weights.mlp_norm_D, weights.mlp_norm_bias_D) =
      reader.norm(layer_name(family.mlp_norm, layer), a.hidden, has_bias);
  const auto shapes = linear_shapes(a, family.linears_are_transposed);
  std::size_t end = 0;
  for (std::size_t site = 0; site < kSites.size(); site = end) {
    const auto& name = family.linears[site];
    auto whole = shapes[site];
    for (end = site + 1; end < kSites.size() && family.linears[end] == name; ++end) {
      whole.out_features += shapes[end].out_features;
    }
    if (name.empty()) continue;
    const auto stored = reader.linear(layer_name(name, layer), whole);
    std::int64_t row = 0;
    for (auto slice = site; slice < end; ++slice) {
      const auto rows = shapes[slice].out_features;
      weights.linears[slice] = end - site == 1 ? stored : stored->rows(row, rows);
      row += rows;
    }
  }
  return weights;
}

}  // namespace

std::int64_t num_parameters(const Architecture& a) {
  const std::int64_t norm = a.norm == Norm::layer ? 2 * a.hidden : a.hidden;
  std::int64_t layer = 2 * norm;
  const auto& family = *find_family(a.model_type);
  const auto shapes = linear_shapes(a, false);
  for (std::size_t site = 0; site < shapes.size(); ++site) {
    const auto& shape = shapes[site];
    if (family.linears[site].empty()) continue;
    layer += shape.out_features * (shape.in_features + (shape.has_bias ? 1 : 0));
  }
  std::int64_t rows = a.tied_head ? a.vocabulary : 2 * a.vocabulary;
  if (a.positions == Positions::learned) rows += a.max_positions;
  return rows * a.hidden + a.layers * layer + norm;
}

void ModelConfig::fields(base::FieldList& list) {
  list.add("path", path, "base model: a folder with config.json and model.safetensors");
  list.add("quantize", quantize, "auto: as stored; nf4: quantise dense linears while loading")
      .one_of({"auto", "nf4"});
}

std::shared_ptr<const BaseModel> load_base_model(const ModelConfig& config, at::ScalarType dtype) {
  if (!std::filesystem::is_directory(config.path)) {
    throw base::UsageError(
        base::text("model.path = ", config.path,
                   ": there is no such folder, expected a Hugging Face directory"));
  }
  auto model = std::make_shared<BaseModel>();
  auto& a = model->architecture;
  a = read_architecture(config.path);
  auto store =
      std::make_shared<const formats::TensorStore>(formats::TensorStore::open(config.path));
  const auto family = family_of(a, *store);
  const auto cache = hash_cache(config, *store, dtype);
  WeightReader reader(store, dtype, config.quantize == "nf4", cache.find());
  model->embedding_VD = reader.dense(std::string(family.embedding), {a.vocabulary, a.hidden});
  if (a.positions == Positions::learned) {
    model->position_PD =
        reader.dense(std::string(family.position_table), {a.max_positions, a.hidden});
  } else {
    model->inverse_frequency = torch::tensor(inverse_frequencies(a), torch::kFloat);
  }
  for (std::int64_t layer = 0; layer < a.layers; ++layer) {
    model->layers.push_back(read_layer(reader, family, a, layer));
  }
  std::tie(model->final_norm_D, model->final_norm_bias_D) =
      reader.norm(std::string(family.final_norm), a.hidden, a.norm == Norm::layer);
  auto ignored = family.ignored;
  if (a.tied_head) {
    model->head_VD = model->embedding_VD;
    ignored.push_back(family.head);  // some writers store the tied copy
  } else {
    model->head_VD = reader.dense(std::string(family.head), {a.vocabulary, a.hidden});
  }
  reader.finish(ignored);
  model->files = std::move(store);
  model->hash = reader.hash();
  model->bytes = reader.bytes();
  model->hashed_bytes = reader.hashed_bytes();
  if (model->hashed_bytes > 0) cache.store(model->hash);
  return model;
}

}  // namespace dfmoa::model
