#include "checkpoints/convert/nf4_record.h"

#include <nlohmann/json.hpp>

#include "kernels/nf4.h"
#include "kernels/nf4_double.h"

namespace dfmoa::checkpoints {
namespace {

using base::DType;

/// Room for the longest number: the header states the text's length before the offset is known.
constexpr std::size_t kOffsetRoom = 32;

std::int64_t divide_up(std::int64_t count, std::int64_t by) {
  return (count + by - 1) / by;
}

std::string torch_name(DType dtype) {
  return dtype == DType::bf16 ? "bfloat16" : "float32";
}

}  // namespace

Nf4Record::Nf4Record(std::string name, std::vector<std::int64_t> shape, bool double_quant,
                     DType dtype)
    : name_(std::move(name)),
      shape_(std::move(shape)),
      double_quant_(double_quant),
      dtype_(dtype) {}

std::string Nf4Record::state_name() const {
  return name_ + ".quant_state.bitsandbytes__nf4";
}

std::string Nf4Record::state_text(double offset) const {
  nlohmann::ordered_json state{{"quant_type", "nf4"},
                               {"blocksize", kNf4Block},
                               {"dtype", torch_name(dtype_)},
                               {"shape", shape_}};
  if (double_quant_) {
    state["nested_blocksize"] = kernels::kNf4DoubleBlock;
    state["nested_dtype"] = "float32";
    state["nested_offset"] = offset;
  }
  return state.dump();
}

std::size_t Nf4Record::state_bytes() const {
  return state_text(0).size() + (double_quant_ ? kOffsetRoom : 0);
}

std::vector<formats::TensorSpec> Nf4Record::body() const {
  const auto count = base::count_of(shape_);
  const auto blocks = divide_up(count, kNf4Block);
  std::vector<formats::TensorSpec> specs{{name_ + ".quant_map", DType::f32, {16}}};
  if (double_quant_) specs.push_back({name_ + ".nested_quant_map", DType::f32, {256}});
  specs.push_back({name_, DType::u8, {divide_up(count, 2), 1}});
  if (double_quant_) {
    const auto scales = divide_up(blocks, kernels::kNf4DoubleBlock);
    specs.push_back({name_ + ".nested_absmax", DType::f32, {scales}});
  } else {
    specs.push_back({name_ + ".absmax", DType::f32, {blocks}});
  }
  return specs;
}

std::vector<formats::TensorSpec> Nf4Record::tail() const {
  std::vector<formats::TensorSpec> specs;
  if (double_quant_) {
    const auto blocks = divide_up(base::count_of(shape_), kNf4Block);
    specs.push_back({name_ + ".absmax", DType::u8, {blocks}});
  }
  specs.push_back({state_name(), DType::u8, {static_cast<std::int64_t>(state_bytes())}});
  return specs;
}

void Nf4Record::write_maps(formats::SafetensorsWriter& writer) const {
  writer.append(name_ + ".quant_map", std::as_bytes(std::span(kernels::kNf4Codebook)));
  if (!double_quant_) return;
  writer.append(name_ + ".nested_quant_map", std::as_bytes(std::span(kernels::nf4_dynamic_map())));
}

void Nf4Record::write_piece(formats::SafetensorsWriter& writer, std::span<const std::uint8_t> codes,
                            std::span<const float> absmax) {
  writer.append(name_, std::as_bytes(codes));
  absmax_.insert(absmax_.end(), absmax.begin(), absmax.end());
}

void Nf4Record::write_scales(formats::SafetensorsWriter& writer) {
  if (double_quant_) {
    auto nested =
        kernels::nf4_double_quantize(absmax_.data(), static_cast<std::int64_t>(absmax_.size()));
    writer.append(name_ + ".nested_absmax", std::as_bytes(std::span(nested.absmax2)));
    nested_q_ = std::move(nested.q);
    offset_ = nested.offset;
  } else {
    writer.append(name_ + ".absmax", std::as_bytes(std::span(absmax_)));
  }
  absmax_ = {};
}

void Nf4Record::write_tail(formats::SafetensorsWriter& writer) const {
  if (double_quant_) writer.append(name_ + ".absmax", std::as_bytes(std::span(nested_q_)));
  auto text = state_text(double{offset_});
  text.resize(state_bytes(), ' ');
  writer.append(state_name(), std::as_bytes(std::span(text)));
}

}  // namespace dfmoa::checkpoints
