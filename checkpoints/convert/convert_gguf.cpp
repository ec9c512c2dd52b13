#include <set>

#include "checkpoints/convert/convert.h"
#include "checkpoints/convert/gguf_config.h"
#include "checkpoints/convert/gguf_tokenizer.h"
#include "checkpoints/convert/model_files.h"
#include "checkpoints/convert/model_layout.h"
#include "checkpoints/convert/pending_directory.h"
#include "checkpoints/convert/weight_file.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/gguf_dequantize.h"

namespace dfmoa::checkpoints {
namespace {

/// Where row `row` of a query or key projection lies in a GGUF file. There the two rows that one
/// rotation turns are neighbours; in the published order they are half a head apart.
std::int64_t gguf_row(std::int64_t row, std::int64_t head_dim) {
  const auto half = head_dim / 2;
  const auto place = row % head_dim;
  return row - place + 2 * (place % half) + place / half;
}

SourceTensor source_of(const formats::GgufTensor& tensor, const LayoutTensor& wanted,
                       bool rows_are_permuted) {
  SourceTensor source{wanted.name, wanted.shape, wanted.is_linear, {}};
  if (!rows_are_permuted || wanted.rope_heads == 0) {
    source.read = [&tensor](std::int64_t begin, std::int64_t end, float* out) {
      formats::dequantize(tensor, begin, end, out);
    };
    return source;
  }
  const auto head_dim = wanted.shape[0] / wanted.rope_heads;
  source.read = [&tensor, head_dim](std::int64_t begin, std::int64_t end, float* out) {
    for (auto row = begin; row < end; ++row, out += tensor.columns()) {
      const auto from = gguf_row(row, head_dim);
      formats::dequantize(tensor, from, from + 1, out);
    }
  };
  return source;
}

std::vector<SourceTensor> sources_of(const formats::GgufFile& file, const ModelConfig& config) {
  std::vector<SourceTensor> sources;
  std::set<std::string, std::less<>> used{"rope_freqs.weight"};  // read with the configuration
  for (const auto& wanted : layout_of(config)) {
    const auto& tensor = file.get(wanted.gguf_name);
    if (tensor.shape != wanted.shape) {
      throw base::ContentError(base::text("converting ", file.path().string(), ": tensor '",
                                          tensor.name, "' is ", base::shape_text(tensor.shape),
                                          ", expected ", base::shape_text(wanted.shape)));
    }
    used.insert(wanted.gguf_name);
    sources.push_back(source_of(tensor, wanted, config.model_type == "llama"));
  }
  for (const auto& [name, tensor] : file.tensors()) {
    if (used.contains(name)) continue;
    throw base::ContentError(base::text("converting ", file.path().string(), ": tensor '", name,
                                        "' is no part of a ", config.model_type, " model of ",
                                        config.layers, " layers"));
  }
  return sources;
}

}  // namespace

void convert_gguf(const std::filesystem::path& gguf, const std::filesystem::path& out,
                  const ConvertOptions& options) {
  const WeightForm form{options.checked_dtype(), options.nf4, options.double_quant, gguf.string()};
  const formats::GgufFile file(gguf);
  const auto config = read_gguf_config(file);
  const auto tokenizer = read_gguf_tokenizer(file);
  const auto sources = sources_of(file, config);
  auto json = config_json(config);
  state_element_type(json, options);

  PendingDirectory directory(out);
  write_json(directory.path() / "config.json", json);
  write_json(directory.path() / "tokenizer.json", tokenizer.tokenizer);
  write_json(directory.path() / "tokenizer_config.json", tokenizer.config);
  write_json(directory.path() / "generation_config.json", tokenizer.generation);
  write_weights(directory.path() / "model.safetensors", sources, form);
  directory.commit();
}

}  // namespace dfmoa::checkpoints
