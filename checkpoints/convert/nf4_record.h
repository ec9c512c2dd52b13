// One linear of a file in NF4: the tensors that bitsandbytes stores for it, in the order in which
// they are written.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "src/base/dtype.h"
#include "src/formats/safetensors.h"

namespace dfmoa::checkpoints {

/// Elements of a weight that share a scale.
inline constexpr std::int64_t kNf4Block = 64;

/// body(): maps, codes and scales, written while the weight is read. tail(): texts and bytes of any
/// number, which stand at the end of the file so that nothing behind them loses its alignment.
class Nf4Record {
 public:
  /// `name` is the weight's, with ".weight"; `dtype` is what the weight becomes when dequantised.
  Nf4Record(std::string name, std::vector<std::int64_t> shape, bool double_quant,
            base::DType dtype);

  [[nodiscard]] std::vector<formats::TensorSpec> body() const;
  [[nodiscard]] std::vector<formats::TensorSpec> tail() const;

  /// The first tensors of body().
  void write_maps(formats::SafetensorsWriter& writer) const;
  /// The next piece of the weight: whole blocks, only the last one may be short.
  void write_piece(formats::SafetensorsWriter& writer, std::span<const std::uint8_t> codes,
                   std::span<const float> absmax);
  /// The last tensors of body(). What the tail needs is kept, 1/64 byte per weight.
  void write_scales(formats::SafetensorsWriter& writer);
  void write_tail(formats::SafetensorsWriter& writer) const;

 private:
  [[nodiscard]] std::string state_text(double offset) const;
  [[nodiscard]] std::string state_name() const;
  [[nodiscard]] std::size_t state_bytes() const;

  std::string name_;
  std::vector<std::int64_t> shape_;
  bool double_quant_;
  base::DType dtype_;
  std::vector<float> absmax_;
  std::vector<std::uint8_t> nested_q_;
  float offset_ = 0;
};

}  // namespace dfmoa::checkpoints
