#include "src/model/shape_model.h"

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/json.h"
#include "src/model/families.h"
#include "src/model/weights.h"

namespace dfmoa::model {
namespace {

class ShapeLinear final : public adapters::BaseLinear {
 public:
  ShapeLinear(std::int64_t in_features, std::int64_t out_features, std::int64_t bytes)
      : BaseLinear(in_features, out_features), bytes_(bytes) {}
  at::Tensor forward(const at::Tensor& /*x_TD*/) const override { refuse(); }
  at::Tensor backward(const at::Tensor& /*dy_TF*/) const override { refuse(); }
  std::shared_ptr<const BaseLinear> rows(std::int64_t /*first*/,
                                         std::int64_t count) const override {
    return std::make_shared<ShapeLinear>(in_features(), count, bytes_ * count / out_features());
  }
  std::shared_ptr<const BaseLinear> to(at::Device /*device*/) const override {
    return std::make_shared<ShapeLinear>(*this);
  }
  std::int64_t bytes() const override { return bytes_; }

 private:
  [[noreturn]] void refuse() const {
    throw base::ShapeError(base::text("a linear (", out_features(), ", ", in_features(),
                                      ") of a base model that was not loaded: it has a shape and "
                                      "no numbers"));
  }
  std::int64_t bytes_;
};

bool is_quantized(const ModelConfig& config) {
  if (config.quantize == "nf4") return true;
  const auto json = formats::parse_json(std::filesystem::path(config.path) / "config.json");
  return json.contains("quantization_config");
}

/// Builds what loading would read, and counts it.
class ShapeBuilder {
 public:
  ShapeBuilder(BaseModel& model, at::ScalarType dtype, bool quantizes)
      : model_(model), dtype_(dtype), quantizes_(quantizes) {}

  at::Tensor dense(at::IntArrayRef shape) {
    auto tensor = at::empty(shape, at::TensorOptions().dtype(dtype_).device(at::kMeta));
    model_.bytes += static_cast<std::int64_t>(tensor.nbytes());
    return tensor;
  }
  std::pair<at::Tensor, at::Tensor> norm() {
    const auto& a = model_.architecture;
    auto weight_D = dense({a.hidden});
    return {std::move(weight_D), a.norm == Norm::layer ? dense({a.hidden}) : at::Tensor()};
  }
  void layer() {
    const auto& a = model_.architecture;
    auto& weights = model_.layers.emplace_back();
    std::tie(weights.attention_norm_D, weights.attention_norm_bias_D) = norm();
    std::tie(weights.mlp_norm_D, weights.mlp_norm_bias_D) = norm();
    const auto& stored = find_family(a.model_type)->linears;
    const auto shapes = linear_shapes(a, false);
    for (std::size_t site = 0; site < shapes.size();) {
      auto whole = shapes[site];
      auto end = site + 1;
      for (; end < shapes.size() && stored[end] == stored[site]; ++end) {
        whole.out_features += shapes[end].out_features;
      }
      if (!stored[site].empty()) {
        const auto linear = linear_of(whole);
        for (auto slice = site; slice < end; ++slice) {
          weights.linears[slice] =
              end - site == 1 ? linear : linear->rows(0, shapes[slice].out_features);
        }
      }
      site = end;
    }
  }

 private:
  std::shared_ptr<const adapters::BaseLinear> linear_of(const LinearShape& shape) {
    const auto size = static_cast<std::int64_t>(c10::elementSize(dtype_));
    const auto elements = shape.out_features * shape.in_features;
    auto bytes = elements * size;
    if (quantizes_) bytes = (elements + 1) / 2 + (elements + kNf4Block - 1) / kNf4Block * 4;
    if (shape.has_bias) bytes += shape.out_features * size;
    model_.bytes += bytes;
    return std::make_shared<ShapeLinear>(shape.in_features, shape.out_features, bytes);
  }

  BaseModel& model_;
  at::ScalarType dtype_;
  bool quantizes_;
};

}  // namespace

std::shared_ptr<const BaseModel> shape_model(const ModelConfig& config, at::ScalarType dtype) {
  auto model = std::make_shared<BaseModel>();
  auto& a = model->architecture;
  a = read_architecture(config.path);
  ShapeBuilder builder(*model, dtype, is_quantized(config));
  model->embedding_VD = builder.dense({a.vocabulary, a.hidden});
  if (a.positions == Positions::learned) {
    model->position_PD = builder.dense({a.max_positions, a.hidden});
  }
  for (std::int64_t layer = 0; layer < a.layers; ++layer) builder.layer();
  std::tie(model->final_norm_D, model->final_norm_bias_D) = builder.norm();
  model->head_VD = a.tied_head ? model->embedding_VD : builder.dense({a.vocabulary, a.hidden});
  return model;
}

}  // namespace dfmoa::model
