#include "checkpoints/convert/weight_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <future>
#include <optional>

#include "checkpoints/convert/nf4_record.h"
#include "kernels/cpu_level.h"
#include "kernels/nf4.h"
#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

using base::DType;

constexpr std::int64_t kPieceElements = 1 << 21;

std::int64_t columns_of(const SourceTensor& tensor) {
  return tensor.shape.empty() ? 1 : tensor.shape.back();
}

std::int64_t rows_of(const SourceTensor& tensor) {
  return base::count_of(tensor.shape) / std::max<std::int64_t>(columns_of(tensor), 1);
}

/// Rows of one tensor that are read, converted and written together.
struct Piece {
  std::size_t tensor;
  std::int64_t begin;
  std::int64_t end;
};

/// The bytes of a piece as the file holds them; of a quantised one also its scales.
struct Converted {
  std::vector<std::uint8_t> bytes;
  std::vector<float> absmax;
};

/// Every piece but the last of a tensor has a whole number of blocks: its rows are a multiple
/// of 64.
std::vector<Piece> cut(const SourceTensor& tensor, std::size_t index) {
  const auto rows = rows_of(tensor);
  const auto wanted = kPieceElements / std::max<std::int64_t>(columns_of(tensor), 1);
  const auto step = std::max(kNf4Block, wanted / kNf4Block * kNf4Block);
  std::vector<Piece> pieces;
  for (std::int64_t begin = 0; begin < rows; begin += step) {
    pieces.push_back({index, begin, std::min(begin + step, rows)});
  }
  return pieces;
}

class WeightFile {
 public:
  WeightFile(std::span<const SourceTensor> tensors, const WeightForm& form)
      : tensors_(tensors), form_(form) {
    order_tensors();
  }

  void write(const std::filesystem::path& path);

 private:
  void order_tensors();
  [[nodiscard]] bool is_quantised(std::size_t index) const {
    return form_.nf4 && tensors_[index].is_linear;
  }
  [[nodiscard]] std::vector<formats::TensorSpec> specs() const;
  [[nodiscard]] Converted convert(const Piece& piece) const;
  void quantise(const SourceTensor& tensor, const std::vector<float>& values, Converted& out) const;
  void narrow(const SourceTensor& tensor, const std::vector<float>& values, Converted& out) const;
  [[noreturn]] void refuse(const SourceTensor& tensor, const std::string& reason) const;
  void write_piece(formats::SafetensorsWriter& writer, const Piece& piece,
                   const Converted& piece_out);

  std::span<const SourceTensor> tensors_;
  const WeightForm& form_;
  std::vector<std::size_t> order_;
  std::vector<std::optional<Nf4Record>> records_;
};

/// Four-byte elements stand before two-byte ones: every tensor is aligned to its type.
void WeightFile::order_tensors() {
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    order_.push_back(i);
    records_.emplace_back();
    if (is_quantised(i)) {
      records_.back().emplace(tensors_[i].name, tensors_[i].shape, form_.double_quant, form_.dtype);
    }
  }
  const bool dense_first = form_.dtype == DType::f32;
  std::stable_partition(order_.begin(), order_.end(),
                        [&](std::size_t i) { return is_quantised(i) != dense_first; });
}

std::vector<formats::TensorSpec> WeightFile::specs() const {
  std::vector<formats::TensorSpec> all;
  for (const auto i : order_) {
    if (records_[i]) {
      const auto body = records_[i]->body();
      all.insert(all.end(), body.begin(), body.end());
    } else {
      all.push_back({tensors_[i].name, form_.dtype, tensors_[i].shape});
    }
  }
  for (const auto i : order_) {
    if (!records_[i]) continue;
    const auto tail = records_[i]->tail();
    all.insert(all.end(), tail.begin(), tail.end());
  }
  return all;
}

void WeightFile::refuse(const SourceTensor& tensor, const std::string& reason) const {
  throw base::ContentError(
      base::text("converting ", form_.source, ": tensor '", tensor.name, "' holds ", reason));
}

void WeightFile::quantise(const SourceTensor& tensor, const std::vector<float>& values,
                          Converted& out) const {
  const auto count = static_cast<std::int64_t>(values.size());
  out.bytes.resize((values.size() + 1) / 2);
  out.absmax.resize(static_cast<std::size_t>((count + kNf4Block - 1) / kNf4Block));
  if (!kernels::nf4_quantize(values.data(), count, kNf4Block, out.bytes.data(), out.absmax.data(),
                             kernels::cpu_level())) {
    refuse(tensor, "NaN or infinity");
  }
}

void WeightFile::narrow(const SourceTensor& tensor, const std::vector<float>& values,
                        Converted& out) const {
  const bool finite =
      std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
  if (!finite) refuse(tensor, "NaN or infinity");
  out.bytes.resize(values.size() * base::size_of(form_.dtype));
  if (form_.dtype == DType::f32) {
    std::memcpy(out.bytes.data(), values.data(), out.bytes.size());
    return;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto bits = base::to_bf16(values[i]);
    if (!std::isfinite(base::from_bf16(bits))) {
      refuse(tensor, base::text(values[i], ", which is beyond bf16"));
    }
    std::memcpy(out.bytes.data() + 2 * i, &bits, 2);
  }
}

Converted WeightFile::convert(const Piece& piece) const {
  const auto& tensor = tensors_[piece.tensor];
  std::vector<float> values(
      static_cast<std::size_t>((piece.end - piece.begin) * columns_of(tensor)));
  tensor.read(piece.begin, piece.end, values.data());
  Converted out;
  if (is_quantised(piece.tensor)) {
    quantise(tensor, values, out);
  } else {
    narrow(tensor, values, out);
  }
  return out;
}

void WeightFile::write_piece(formats::SafetensorsWriter& writer, const Piece& piece,
                             const Converted& converted) {
  const auto& tensor = tensors_[piece.tensor];
  auto& record = records_[piece.tensor];
  if (!record) {
    writer.append(tensor.name, std::as_bytes(std::span(converted.bytes)));
    return;
  }
  if (piece.begin == 0) record->write_maps(writer);
  record->write_piece(writer, converted.bytes, converted.absmax);
  if (piece.end == rows_of(tensor)) record->write_scales(writer);
}

void WeightFile::write(const std::filesystem::path& path) {
  std::vector<Piece> pieces;
  for (const auto i : order_) {
    const auto of_tensor = cut(tensors_[i], i);
    pieces.insert(pieces.end(), of_tensor.begin(), of_tensor.end());
  }
  const auto start = [&](std::size_t i) {
    return std::async(std::launch::async, [this, piece = pieces[i]] { return convert(piece); });
  };
  formats::SafetensorsWriter writer(path, specs());
  std::future<Converted> next;
  if (!pieces.empty()) next = start(0);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto converted = next.get();
    if (i + 1 < pieces.size()) next = start(i + 1);
    write_piece(writer, pieces[i], converted);
  }
  for (const auto i : order_) {
    if (records_[i]) records_[i]->write_tail(writer);
  }
  writer.finish();
}

}  // namespace

void write_weights(const std::filesystem::path& path, std::span<const SourceTensor> tensors,
                   const WeightForm& form) {
  WeightFile(tensors, form).write(path);
}

}  // namespace dfmoa::checkpoints
