#include "launch/inspect.h"
#include "src/formats/json.h"
#include "src/formats/tensor_store.h"
#include "src/model/base_model.h"

namespace dfmoa::launch {
namespace {

constexpr std::string_view kStateEnding = ".quant_state.bitsandbytes__nf4";

nlohmann::json architecture_json(const model::Architecture& a) {
  return {{"model_type", a.model_type},
          {"layers", a.layers},
          {"hidden", a.hidden},
          {"intermediate", a.intermediate},
          {"heads", a.heads},
          {"kv_heads", a.kv_heads},
          {"head_dim", a.head_dim},
          {"vocabulary", a.vocabulary},
          {"tied_head", a.tied_head},
          {"max_positions", a.max_positions},
          {"rope", a.positions == model::Positions::rotary ? a.rope.type : "none"}};
}

/// How the linears are stored. Loading has refused records that contradict each other, so that one
/// speaks for all.
nlohmann::json quantisation_of(const formats::TensorStore& store) {
  std::int64_t linears = 0;
  nlohmann::json record;
  for (const auto& name : store.names()) {
    if (!name.ends_with(kStateEnding)) continue;
    const auto& bytes = store.get(name).bytes;
    record =
        formats::parse_json_text({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, name);
    ++linears;
  }
  if (linears == 0) return {{"kind", "none"}};
  return {{"kind", "nf4"},
          {"linears", linears},
          {"block", record["blocksize"]},
          {"double", record.contains("nested_blocksize")}};
}

}  // namespace

nlohmann::json inspect_model(const std::filesystem::path& path) {
  model::ModelConfig config;
  config.path = path.string();
  const auto base = model::load_base_model(config, at::kFloat);
  const auto store = formats::TensorStore::open(path);
  std::map<std::string, std::int64_t> types;
  for (const auto& name : store.names()) types[base::name_of(store.get(name).dtype)] += 1;
  std::uintmax_t file_bytes = 0;
  for (const auto& file : store.paths()) file_bytes += std::filesystem::file_size(file);
  return {{"kind", "model"},
          {"path", path.string()},
          {"architecture", architecture_json(base->architecture)},
          {"parameters", model::num_parameters(base->architecture)},
          {"tensors_of_type", types},
          {"file_bytes", file_bytes},
          {"bytes", base->bytes},
          {"quantisation", quantisation_of(store)},
          {"base_hash", base->hash},
          {"valid", true}};
}

void print_model(const nlohmann::json& json) {
  print_values(json);
}

}  // namespace dfmoa::launch
