#include <cstring>
#include <set>

#include "checkpoints/convert/convert.h"
#include "checkpoints/convert/model_files.h"
#include "checkpoints/convert/model_layout.h"
#include "checkpoints/convert/pending_directory.h"
#include "checkpoints/convert/weight_file.h"
#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"
#include "src/formats/json.h"
#include "src/formats/tensor_store.h"

namespace dfmoa::checkpoints {
namespace {

namespace fs = std::filesystem;
using base::DType;
using formats::TensorView;

constexpr const char* kGeneration = "generation_config.json";

template <class Stored, class Widen>
void widen(const std::byte* from, std::size_t count, float* out, Widen&& one) {
  for (std::size_t i = 0; i < count; ++i) {
    Stored value;  // the file need not be aligned
    std::memcpy(&value, from + i * sizeof(value), sizeof(value));
    out[i] = one(value);
  }
}

void read_floats(const TensorView& view, std::size_t begin, std::size_t count, float* out) {
  const auto* from = view.bytes.data() + begin * base::size_of(view.dtype);
  if (view.dtype == DType::f32) {
    std::memcpy(out, from, count * sizeof(float));
  } else if (view.dtype == DType::f64) {
    widen<double>(from, count, out, [](double value) { return static_cast<float>(value); });
  } else if (view.dtype == DType::bf16) {
    widen<std::uint16_t>(from, count, out, base::from_bf16);
  } else {
    widen<std::uint16_t>(from, count, out, base::from_f16);
  }
}

bool is_floating(DType dtype) {
  return dtype == DType::f64 || dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16;
}

/// Old files may call it by its old name.
const TensorView& stored(const formats::TensorStore& store, const LayoutTensor& wanted) {
  const auto* old = wanted.old_name.empty() ? nullptr : store.find(wanted.old_name);
  return old != nullptr && store.find(wanted.name) == nullptr ? *old : store.get(wanted.name);
}

/// Rows of the weight [out, in] that lies [in, out] in the file.
SourceTensor upright(const TensorView& view, const LayoutTensor& wanted) {
  const auto in = wanted.shape[0];
  const auto columns = wanted.shape[1];
  return {wanted.name,
          {columns, in},
          wanted.is_linear,
          [&view, in, columns](std::int64_t begin, std::int64_t end, float* out) {
            std::vector<float> part(static_cast<std::size_t>(end - begin));
            for (std::int64_t i = 0; i < in; ++i) {
              read_floats(view, static_cast<std::size_t>(i * columns + begin), part.size(),
                          part.data());
              auto* to = out + i;
              for (const float value : part) {
                *to = value;
                to += in;
              }
            }
          }};
}

SourceTensor source_of(const formats::TensorStore& store, const LayoutTensor& wanted,
                       bool quantised) {
  const auto& view = stored(store, wanted);
  const auto where =
      base::text("converting ", store.folder().string(), ": tensor '", view.name, "' ");
  if (!is_floating(view.dtype)) {
    throw base::ContentError(
        base::text(where, "holds ", base::name_of(view.dtype), ", expected floating point"));
  }
  if (view.shape != wanted.shape) {
    throw base::ContentError(base::text(where, "is ", base::shape_text(view.shape), ", expected ",
                                        base::shape_text(wanted.shape)));
  }
  if (quantised && wanted.is_transposed) return upright(view, wanted);
  const auto columns = static_cast<std::size_t>(view.shape.back());
  return {wanted.name, wanted.shape, wanted.is_linear,
          [&view, columns](std::int64_t begin, std::int64_t end, float* out) {
            read_floats(view, static_cast<std::size_t>(begin) * columns,
                        static_cast<std::size_t>(end - begin) * columns, out);
          }};
}

std::vector<SourceTensor> sources_of(const formats::TensorStore& store, const ModelConfig& config,
                                     bool nf4) {
  std::vector<SourceTensor> sources;
  std::set<std::string, std::less<>> used;
  for (const auto& wanted : layout_of(config)) {
    sources.push_back(source_of(store, wanted, nf4));
    used.insert(stored(store, wanted).name);
  }
  // Some writers store the head although it is the embedding.
  if (config.tied_head) used.insert("lm_head.weight");
  for (const auto& name : store.names()) {
    if (used.contains(name) || is_ignored_tensor(config, name)) continue;
    throw base::ContentError(base::text("converting ", store.folder().string(), ": tensor '", name,
                                        "' is no part of the model that config.json describes"));
  }
  return sources;
}

nlohmann::ordered_json read_config(const fs::path& path) {
  static_cast<void>(formats::parse_json(path));  // its errors name the byte and a doubled key
  auto json = nlohmann::ordered_json::parse(base::read_file(path));
  if (!json.is_object()) throw base::ContentError(path.string() + ": expected a JSON object");
  if (json.contains("quantization_config")) {
    throw base::ContentError(base::text(path.string(), ": quantization_config is ",
                                        json["quantization_config"].dump(),
                                        ", expected a model that is not quantised"));
  }
  return json;
}

}  // namespace

void convert_hf(const fs::path& folder, const fs::path& out, const ConvertOptions& options) {
  const WeightForm form{options.checked_dtype(), options.nf4, options.double_quant,
                        folder.string()};
  auto json = read_config(folder / "config.json");
  const auto config = read_extents(json, (folder / "config.json").string());
  const auto store = formats::TensorStore::open(folder);
  const auto sources = sources_of(store, config, options.nf4);
  state_element_type(json, options);

  PendingDirectory directory(out);
  write_json(directory.path() / "config.json", json);
  copy_tokenizer_files(folder, directory.path());
  if (fs::exists(folder / kGeneration)) {
    base::write_file(directory.path() / kGeneration, base::read_file(folder / kGeneration));
  }
  write_weights(directory.path() / "model.safetensors", sources, form);
  directory.commit();
}

void convert(const fs::path& source, const fs::path& out, const ConvertOptions& options) {
  if (!fs::exists(source)) {
    throw base::UsageError(base::text("converting ", source.string(), ": there is no such file or ",
                                      "directory, expected a GGUF file or a model directory"));
  }
  if (fs::is_directory(source)) {
    convert_hf(source, out, options);
  } else {
    convert_gguf(source, out, options);
  }
}

}  // namespace dfmoa::checkpoints
