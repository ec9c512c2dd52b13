#include "src/model/weights.h"

#include <cstring>

#include "kernels/cpu_level.h"
#include "kernels/nf4.h"
#include "kernels/nf4_double.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/json.h"
#include "src/ops/dtype.h"

namespace dfmoa::model {
namespace {

constexpr const char* kStateEnding = ".quant_state.bitsandbytes__nf4";

/// A tensor over the file's bytes: zero copy where they are aligned to their type.
at::Tensor tensor_of(const formats::TensorView& view, std::shared_ptr<const void> owner) {
  const auto options = at::TensorOptions().dtype(ops::to_torch(view.dtype));
  auto* data = const_cast<std::byte*>(view.bytes.data());  // frozen: nobody writes into it
  if (reinterpret_cast<std::uintptr_t>(data) % base::size_of(view.dtype) == 0) {
    return at::from_blob(
        data, view.shape, [kept = std::move(owner)](void*) {}, options);
  }
  auto copy = at::empty(view.shape, options);
  std::memcpy(copy.data_ptr(), data, view.bytes.size());
  return copy;
}

std::string where(const formats::TensorStore& store, const std::string& name) {
  return base::text(store.folder().string(), ": tensor ", name);
}

/// Weights per scale of a quant_state of this shape.
std::int64_t block_of(const nlohmann::json& state, const std::vector<std::int64_t>& expected,
                      const std::string& tensor) {
  const auto shape = state.value("shape", std::vector<std::int64_t>{});
  const auto block = state.value("blocksize", std::int64_t{0});
  if (state.value("quant_type", "") != "nf4" || shape != expected ||
      !kernels::nf4_block_is_legal(block)) {
    throw base::ContentError(base::text(tensor, ": quant_state ", state.dump(),
                                        ", expected nf4 of shape ", base::shape_text(expected),
                                        " in blocks of 32 to 4096"));
  }
  return block;
}

/// Scales that were themselves quantised to 8 bits.
at::Tensor nested_absmax(const nlohmann::json& state, const at::Tensor& q,
                         const at::Tensor& absmax2, const at::Tensor& map, std::int64_t blocks) {
  std::array<float, 256> levels{};
  std::copy_n(map.const_data_ptr<float>(), levels.size(), levels.begin());
  auto absmax = at::empty({blocks}, at::kFloat);
  kernels::nf4_double_dequantize(q.const_data_ptr<std::uint8_t>(), absmax2.const_data_ptr<float>(),
                                 state.value("nested_offset", 0.0F), blocks,
                                 state.at("nested_blocksize").get<std::int64_t>(), levels,
                                 absmax.data_ptr<float>());
  return absmax;
}

}  // namespace

std::array<LinearShape, 7> linear_shapes(const Architecture& a, bool is_transposed) {
  const auto query = a.heads * a.head_dim;
  const auto key = a.kv_heads * a.head_dim;
  const auto shape = [&](std::int64_t out, std::int64_t in, bool has_bias) {
    return LinearShape{out, in, has_bias, is_transposed};
  };
  return {shape(query, a.hidden, a.qkv_bias),
          shape(key, a.hidden, a.qkv_bias),
          shape(key, a.hidden, a.qkv_bias),
          shape(a.hidden, query, a.o_bias),
          shape(a.intermediate, a.hidden, a.mlp_bias),
          shape(a.intermediate, a.hidden, a.mlp_bias),
          shape(a.hidden, a.intermediate, a.mlp_bias)};
}

WeightReader::WeightReader(std::shared_ptr<const formats::TensorStore> store, at::ScalarType dtype,
                           bool quantize, std::optional<std::string> known_hash)
    : store_(std::move(store)),
      dtype_(dtype),
      quantize_(quantize),
      known_hash_(std::move(known_hash)) {}

const formats::TensorView& WeightReader::use(const std::string& name) {
  const auto& view = store_->get(name);
  used_.insert(name);
  return view;
}

void WeightReader::count(const std::string& name, const at::Tensor& tensor) {
  bytes_ += static_cast<std::int64_t>(tensor.nbytes());
  if (known_hash_) return;
  const auto contiguous = tensor.contiguous();
  hash_.add_text(base::text(name, " ", c10::toString(tensor.scalar_type()), " ", tensor.sizes()));
  hash_.add(contiguous.const_data_ptr(), contiguous.nbytes());
}

bool WeightReader::is_finite(const at::Tensor& tensor) const {
  if (known_hash_) return true;  // only a reader that found every number finite tells its hash
  return at::isfinite(tensor.sum()).item<bool>() || at::isfinite(tensor).all().item<bool>();
}

at::Tensor WeightReader::dense(const std::string& name, at::IntArrayRef shape) {
  const auto& view = use(name);
  if (at::IntArrayRef(view.shape) != shape) {
    throw base::ContentError(base::text(where(*store_, name), " is ", base::shape_text(view.shape),
                                        ", expected ", base::shape_text(shape.vec())));
  }
  auto tensor = tensor_of(view, store_);
  if (!tensor.is_floating_point()) {
    throw base::ContentError(base::text(where(*store_, name), " holds ", base::name_of(view.dtype),
                                        ", expected floating point"));
  }
  tensor = tensor.to(dtype_);
  if (!is_finite(tensor)) {
    throw base::ContentError(where(*store_, name) + " holds NaN or infinity");
  }
  count(name, tensor);
  return tensor;
}

std::pair<at::Tensor, at::Tensor> WeightReader::norm(const std::string& prefix, std::int64_t extent,
                                                     bool has_bias) {
  auto weight_D = dense(prefix + ".weight", {extent});
  return {std::move(weight_D), has_bias ? dense(prefix + ".bias", {extent}) : at::Tensor()};
}

std::shared_ptr<const adapters::BaseLinear> WeightReader::linear(const std::string& prefix,
                                                                 const LinearShape& shape) {
  const auto bias_F = shape.has_bias ? dense(prefix + ".bias", {shape.out_features}) : at::Tensor();
  const auto name = prefix + ".weight";
  if (store_->find(name + kStateEnding) != nullptr) {
    try {
      return stored_nf4(prefix, shape, bias_F);
    } catch (const nlohmann::json::exception& error) {
      throw base::ContentError(where(*store_, name + kStateEnding) + ": " + error.what());
    }
  }
  std::vector<std::int64_t> stored{shape.out_features, shape.in_features};
  if (shape.is_transposed) std::swap(stored[0], stored[1]);
  const auto upright = [&](const at::Tensor& tensor) {
    return shape.is_transposed ? tensor.t() : tensor;
  };
  if (quantize_) {
    const auto& view = use(name);
    if (view.shape != stored) {
      throw base::ContentError(base::text(where(*store_, name), " is ",
                                          base::shape_text(view.shape), ", expected ",
                                          base::shape_text(stored)));
    }
    const auto weight_FD = upright(tensor_of(view, store_).to(at::kFloat)).contiguous();
    return quantized(name, weight_FD, bias_F);
  }
  return adapters::dense_linear(upright(dense(name, stored)), bias_F);
}

std::shared_ptr<const adapters::BaseLinear> WeightReader::quantized(const std::string& name,
                                                                    const at::Tensor& weight_FD,
                                                                    const at::Tensor& bias_F) {
  const auto elements = weight_FD.numel();
  auto codes = at::empty({(elements + 1) / 2}, at::kByte);
  auto absmax = at::empty({(elements + kNf4Block - 1) / kNf4Block}, at::kFloat);
  if (!kernels::nf4_quantize(weight_FD.const_data_ptr<float>(), elements, kNf4Block,
                             codes.data_ptr<std::uint8_t>(), absmax.data_ptr<float>(),
                             kernels::cpu_level())) {
    throw base::ContentError(where(*store_, name) + " holds NaN or infinity");
  }
  count(name, codes);
  count(name + ".absmax", absmax);
  return adapters::nf4_linear(codes, absmax, kNf4Block, weight_FD.size(0), weight_FD.size(1),
                              bias_F);
}

at::Tensor WeightReader::stored_absmax(const std::string& name, const nlohmann::json& state,
                                       std::int64_t blocks) {
  const auto floats = [&](const std::string& part) {
    return tensor_of(use(part), store_).to(at::kFloat).contiguous();
  };
  if (!state.contains("nested_blocksize")) {
    const auto absmax = tensor_of(use(name + ".absmax"), store_);
    if (absmax.is_floating_point()) return absmax.to(at::kFloat).contiguous();
    throw base::ContentError(base::text(where(*store_, name + ".absmax"), " holds ",
                                        c10::toString(absmax.scalar_type()),
                                        ", expected floating point: its quant_state names no "
                                        "nested_blocksize"));
  }
  const auto map = floats(name + ".nested_quant_map");
  if (map.numel() != 256) {
    throw base::ContentError(where(*store_, name + ".nested_quant_map") + ": expected 256 levels");
  }
  const auto q = tensor_of(use(name + ".absmax"), store_).contiguous();
  const auto absmax2 = floats(name + ".nested_absmax");
  const auto block = state.value("nested_blocksize", std::int64_t{0});
  const auto nested_blocks = block > 0 ? (blocks + block - 1) / block : 0;
  if (q.scalar_type() != at::kByte || q.numel() != blocks || block <= 0 ||
      absmax2.numel() != nested_blocks) {
    throw base::ContentError(base::text(
        where(*store_, name + ".absmax"), " holds ", q.numel(), " scales in ", absmax2.numel(),
        " blocks of ", block, ", expected ", blocks, " bytes in ", nested_blocks, " blocks"));
  }
  return nested_absmax(state, q, absmax2, map, blocks);
}

std::shared_ptr<const adapters::BaseLinear> WeightReader::stored_nf4(const std::string& prefix,
                                                                     const LinearShape& shape,
                                                                     const at::Tensor& bias_F) {
  const auto out_features = shape.out_features;
  const auto in_features = shape.in_features;
  const auto name = prefix + ".weight";
  const auto& view = use(name + kStateEnding);
  const auto text =
      std::string_view(reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size());
  const auto state = formats::parse_json_text(text, where(*store_, name + kStateEnding));
  const auto block = block_of(state, {out_features, in_features}, where(*store_, name));
  if (!at::equal(tensor_of(use(name + ".quant_map"), store_).to(at::kFloat).reshape({-1}),
                 torch::tensor(at::ArrayRef<float>(kernels::kNf4Codebook)))) {
    throw base::ContentError(where(*store_, name + ".quant_map") + " is not the NF4 codebook");
  }
  const auto blocks = (out_features * in_features + block - 1) / block;
  const auto codes = tensor_of(use(name), store_).reshape({-1});
  const auto absmax = stored_absmax(name, state, blocks);
  if (codes.numel() != (out_features * in_features + 1) / 2 || absmax.numel() != blocks) {
    throw base::ContentError(base::text(where(*store_, name), " holds ", codes.numel(),
                                        " bytes and ", absmax.numel(), " scales, expected ",
                                        (out_features * in_features + 1) / 2, " and ", blocks));
  }
  if (!is_finite(absmax)) {
    throw base::ContentError(where(*store_, name + ".absmax") + " holds NaN or infinity");
  }
  count(name, codes);
  count(name + ".absmax", absmax);
  return adapters::nf4_linear(codes, absmax, block, out_features, in_features, bias_F);
}

void WeightReader::finish(const std::vector<std::string_view>& ignored) const {
  for (const auto& name : store_->names()) {
    if (used_.contains(name)) continue;
    const bool known = std::any_of(ignored.begin(), ignored.end(),
                                   [&](std::string_view ending) { return name.ends_with(ending); });
    if (!known) {
      throw base::ContentError(where(*store_, name) +
                               " is not part of the model that config.json describes");
    }
  }
}

}  // namespace dfmoa::model
