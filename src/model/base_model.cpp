#include "src/model/base_model.h"

#include "src/base/error.h"
#include "src/base/hash_cache.h"
#include "src/base/text.h"
#include "src/model/families.h"
#include "src/model/weights.h"

namespace dfmoa::model {
namespace {

/// Out and in features of the seven linears, in the order of kSites.
std::array<std::pair<std::int64_t, std::int64_t>, 7> linear_shapes(const Architecture& a) {
  const auto query = a.heads * a.head_dim;
  const auto key = a.kv_heads * a.head_dim;
  return {{{query, a.hidden},
           {key, a.hidden},
           {key, a.hidden},
           {a.hidden, query},
           {a.intermediate, a.hidden},
           {a.intermediate, a.hidden},
           {a.hidden, a.intermediate}}};
}

bool has_bias(const Architecture& a, std::size_t site) {
  if (site < 3) return a.qkv_bias;
  return site == 3 ? a.o_bias : a.mlp_bias;
}

/// Where the hash of these files, computed with in this form, is kept.
base::HashCache hash_cache(const ModelConfig& config, const formats::TensorStore& store,
                           at::ScalarType dtype) {
  auto files = store.paths();
  files.push_back(std::filesystem::path(config.path) / "config.json");
  return {base::user_cache_folder(),
          base::text("base model 1 ", c10::toString(dtype), " quantize ", config.quantize), files};
}

}  // namespace

std::int64_t num_parameters(const Architecture& a) {
  std::int64_t layer = 2 * a.hidden;  // norms
  const auto shapes = linear_shapes(a);
  for (std::size_t site = 0; site < shapes.size(); ++site) {
    const auto [out, in] = shapes[site];
    layer += out * in + (has_bias(a, site) ? out : 0);
  }
  const std::int64_t tables = a.tied_head ? 1 : 2;
  return tables * a.vocabulary * a.hidden + a.layers * layer + a.hidden;
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
  const auto& family = *find_family(a.model_type);
  auto store =
      std::make_shared<const formats::TensorStore>(formats::TensorStore::open(config.path));
  const auto cache = hash_cache(config, *store, dtype);
  WeightReader reader(store, dtype, config.quantize == "nf4", cache.find());
  model->embedding_VD = reader.dense(std::string(family.embedding), {a.vocabulary, a.hidden});
  const auto shapes = linear_shapes(a);
  for (std::int64_t layer = 0; layer < a.layers; ++layer) {
    LayerWeights weights;
    weights.attention_norm_D = reader.dense(layer_name(family.attention_norm, layer), {a.hidden});
    weights.mlp_norm_D = reader.dense(layer_name(family.mlp_norm, layer), {a.hidden});
    for (std::size_t site = 0; site < kSites.size(); ++site) {
      weights.linears[site] =
          reader.linear(layer_name(family.linears[site], layer), shapes[site].first,
                        shapes[site].second, has_bias(a, site));
    }
    model->layers.push_back(std::move(weights));
  }
  model->final_norm_D = reader.dense(std::string(family.final_norm), {a.hidden});
  auto ignored = family.ignored;
  if (a.tied_head) {
    model->head_VD = model->embedding_VD;
    ignored.push_back(family.head);  // some writers store the tied copy
  } else {
    model->head_VD = reader.dense(std::string(family.head), {a.vocabulary, a.hidden});
  }
  reader.finish(ignored);
  model->inverse_frequency = torch::tensor(inverse_frequencies(a), torch::kFloat);
  model->files = std::move(store);
  model->hash = reader.hash();
  model->bytes = reader.bytes();
  model->hashed_bytes = reader.hashed_bytes();
  if (model->hashed_bytes > 0) cache.store(model->hash);
  return model;
}

}  // namespace dfmoa::model
