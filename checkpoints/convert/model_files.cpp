#include "checkpoints/convert/model_files.h"

#include <array>
#include <string>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

constexpr std::array kTokenizerFiles{"tokenizer.json",
                                     "tokenizer_config.json",
                                     "special_tokens_map.json",
                                     "added_tokens.json",
                                     "vocab.json",
                                     "merges.txt",
                                     "chat_template.jinja"};

template <class Json>
void write(const std::filesystem::path& path, const Json& value) {
  std::string text;
  try {
    text = value.dump(2) + "\n";
  } catch (const typename Json::type_error& error) {
    throw base::ContentError(base::text("writing ", path.string(), ": ", error.what()));
  }
  base::write_file(path, text);
}

}  // namespace

void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& value) {
  write(path, value);
}

void write_json(const std::filesystem::path& path, const nlohmann::json& value) {
  write(path, value);
}

void copy_tokenizer_files(const std::filesystem::path& from, const std::filesystem::path& to) {
  for (const char* name : kTokenizerFiles) {
    if (!std::filesystem::exists(from / name)) continue;
    base::write_file(to / name, base::read_file(from / name));
  }
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
