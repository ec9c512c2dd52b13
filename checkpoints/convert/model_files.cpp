#include "checkpoints/convert/model_files.h"

#include "src/base/file.h"

namespace dfmoa::checkpoints {
namespace {

template <class Json>
void write(const std::filesystem::path& path, const Json& value) {
  base::write_file(path, value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace

void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& value) {
  write(path, value);
}

void write_json(const std::filesystem::path& path, const nlohmann::json& value) {
  write(path, value);
}

void state_element_type(nlohmann::ordered_json& config, const ConvertOptions& options) {
  const auto name = options.checked_dtype() == base::DType::bf16 ? "bfloat16" : "float32";
  if (config.contains("dtype")) config["dtype"] = name;  // the newer key, where the file has it
  config["torch_dtype"] = name;
  if (!options.nf4) return;
  config["quantization_config"] = {{"quant_method", "bitsandbytes"},
                                   {"load_in_4bit", true},
                                   {"load_in_8bit", false},
                                   {"bnb_4bit_quant_type", "nf4"},
                                   {"bnb_4bit_use_double_quant", options.double_quant},
                                   {"bnb_4bit_compute_dtype", "float32"},
                                   {"bnb_4bit_quant_storage", "uint8"}};
}

}  // namespace dfmoa::checkpoints
