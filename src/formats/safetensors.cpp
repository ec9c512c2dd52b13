#include "src/formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <tuple>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/json.h"

namespace dfmoa::formats {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the reference reader's limit
constexpr std::string_view kMetadataKey = "__metadata__";

[[noreturn]] void refuse(const std::filesystem::path& path, const std::string& reason) {
  throw base::ContentError(base::text("reading ", path.string(), ": ", reason));
}

/// Where a tensor lies, [begin, end) counted from the first byte after the header.
struct Extent {
  std::uint64_t begin;
  std::uint64_t end;
  const std::string* name;
};

/// One header entry at a time; every refusal names the file and the tensor.
class EntryReader {
 public:
  EntryReader(const std::filesystem::path& path, const std::string& name, const json& entry)
      : path_(path), name_(name), entry_(entry) {
    if (!entry.is_object()) fail("its header entry is not an object");
  }

  [[nodiscard]] base::DType dtype() const {
    const auto& value = member("dtype");
    if (!value.is_string()) fail("its dtype is not a string");
    const auto& spelling = value.get_ref<const std::string&>();
    if (spelling == "BOOL") return base::DType::u8;
    try {
      return base::dtype_from_name(spelling);
    } catch (const base::ContentError& error) {
      fail(error.what());
    }
  }

  [[nodiscard]] std::vector<std::int64_t> shape() const {
    std::vector<std::int64_t> extents;
    for (auto extent : counts("shape")) {
      if (extent > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        fail(base::text("its shape holds the extent ", extent));
      }
      extents.push_back(static_cast<std::int64_t>(extent));
    }
    return extents;
  }

  [[nodiscard]] Extent extent(const TensorView& tensor, std::uint64_t data_bytes) const {
    const auto offsets = counts("data_offsets");
    if (offsets.size() != 2) fail(base::text("it has ", offsets.size(), " offsets, expected 2"));
    const Extent extent{offsets[0], offsets[1], &name_};
    if (extent.begin > extent.end || extent.end > data_bytes) {
      fail(base::text("its offsets ", extent.begin, " to ", extent.end, " lie outside the ",
                      data_bytes, " bytes of data"));
    }
    const auto needed = bytes_of(tensor);
    if (extent.end - extent.begin != needed) {
      fail(base::text("it holds ", extent.end - extent.begin, " bytes, but ",
                      base::name_of(tensor.dtype), " of shape ", base::shape_text(tensor.shape),
                      " takes ", needed));
    }
    return extent;
  }

 private:
  [[nodiscard]] std::uint64_t bytes_of(const TensorView& tensor) const {
    std::uint64_t bytes = base::size_of(tensor.dtype);
    for (auto extent : tensor.shape) {
      if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes)) {
        fail(base::text("its shape ", base::shape_text(tensor.shape), " exceeds 64 bits"));
      }
    }
    return bytes;
  }

  [[nodiscard]] const json& member(const char* key) const {
    const auto found = entry_.find(key);
    if (found == entry_.end()) fail(base::text("its header entry lacks '", key, "'"));
    return *found;
  }

  [[nodiscard]] std::vector<std::uint64_t> counts(const char* key) const {
    const auto& list = member(key);
    if (!list.is_array()) fail(base::text("its ", key, " is not a list"));
    std::vector<std::uint64_t> values;
    for (const auto& value : list) {
      if (!value.is_number_unsigned()) {
        fail(base::text("its ", key, " holds ", value.dump(), ", expected a count"));
      }
      values.push_back(value.get<std::uint64_t>());
    }
    return values;
  }

  [[noreturn]] void fail(const std::string& reason) const {
    refuse(path_, base::text("tensor '", name_, "': ", reason));
  }

  const std::filesystem::path& path_;
  const std::string& name_;
  const json& entry_;
};

/// The header's text; `bytes` is the whole file.
std::string_view header_of(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::uint64_t length = 0;
  if (bytes.size() < sizeof(length)) {
    refuse(path, base::text("the file holds ", bytes.size(), " bytes, expected 8 and a header"));
  }
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > kMaxHeaderBytes) {
    refuse(path, base::text("the header claims ", length, " bytes, at most ", kMaxHeaderBytes,
                            " are allowed (is it a safetensors file?)"));
  }
  if (length > bytes.size() - sizeof(length)) {
    refuse(path, base::text("the header claims ", length, " bytes, the file holds ",
                            bytes.size() - sizeof(length), " after its length (truncated?)"));
  }
  return {reinterpret_cast<const char*>(bytes.data()) + sizeof(length), length};
}

Metadata metadata_of(const std::filesystem::path& path, const json& value) {
  if (!value.is_object()) refuse(path, "__metadata__ is not an object");
  Metadata metadata;
  for (const auto& [key, entry] : value.items()) {
    if (!entry.is_string()) {
      refuse(path, base::text("__metadata__ '", key, "' is not a string"));
    }
    metadata.emplace(key, entry.get<std::string>());
  }
  return metadata;
}

/// The tensors must tile the data: no byte belongs to two of them, none to nobody.
void check_tiling(const std::filesystem::path& path, std::vector<Extent> extents,
                  std::uint64_t data_bytes) {
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::uint64_t covered = 0;
  const std::string* previous = nullptr;
  for (const auto& extent : extents) {
    if (extent.begin < covered) {
      refuse(path, base::text("tensor '", *extent.name, "' begins at byte ", extent.begin,
                              " and overlaps '", *previous, "', which ends at ", covered));
    }
    if (extent.begin > covered) {
      refuse(path, base::text("bytes ", covered, " to ", extent.begin, " before tensor '",
                              *extent.name, "' are a hole that belongs to no tensor"));
    }
    covered = extent.end;
    previous = extent.name;
  }
  if (covered != data_bytes) {
    refuse(path, base::text("the tensors end at byte ", covered, " of the data, the file holds ",
                            data_bytes));
  }
}

json header_json(std::span<const TensorSpec> tensors, const Metadata& metadata,
                 const std::filesystem::path& path) {
  json header = json::object();
  if (!metadata.empty()) header[std::string(kMetadataKey)] = metadata;
  std::uint64_t offset = 0;
  for (const auto& tensor : tensors) {
    const auto negative = std::any_of(tensor.shape.begin(), tensor.shape.end(),
                                      [](std::int64_t extent) { return extent < 0; });
    if (tensor.name.empty() || tensor.name == kMetadataKey || negative ||
        header.contains(tensor.name)) {
      throw base::ShapeError(base::text("writing ", path.string(), ": tensor '", tensor.name,
                                        "' of shape ", base::shape_text(tensor.shape),
                                        " has an empty, reserved or repeated name, or a "
                                        "negative extent"));
    }
    const auto bytes =
        static_cast<std::uint64_t>(base::count_of(tensor.shape)) * base::size_of(tensor.dtype);
    header[tensor.name] = {{"dtype", base::name_of(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  return header;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(std::make_unique<base::MappedFile>(path)) {
  const auto header_text = header_of(path, file_->bytes());
  const auto header = parse_json_text(header_text, path.string() + " (header)");
  if (!header.is_object()) refuse(path, "the header is not a JSON object");
  const auto data = file_->bytes().subspan(sizeof(std::uint64_t) + header_text.size());
  std::vector<Extent> extents;
  for (const auto& [name, entry] : header.items()) {
    if (name == kMetadataKey) {
      metadata_ = metadata_of(path, entry);
      continue;
    }
    const EntryReader reader(path, name, entry);
    TensorView tensor{name, reader.dtype(), reader.shape(), {}};
    auto extent = reader.extent(tensor, data.size());
    tensor.bytes = data.subspan(extent.begin, extent.end - extent.begin);
    const auto placed = tensors_.emplace(name, std::move(tensor)).first;
    extent.name = &placed->first;
    extents.push_back(extent);
  }
  check_tiling(path, std::move(extents), data.size());
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::span<const TensorSpec> tensors, const Metadata& metadata)
    : file_(path) {
  auto header = header_json(tensors, metadata, path).dump();
  header.append((8 - header.size() % 8) % 8, ' ');  // blanks end the JSON: the data is aligned
  const std::uint64_t length = header.size();
  file_.write(std::as_bytes(std::span(&length, 1)));
  file_.write(std::as_bytes(std::span(header)));
  for (const auto& tensor : tensors) {
    due_.push_back({tensor.name, static_cast<std::size_t>(base::count_of(tensor.shape)) *
                                     base::size_of(tensor.dtype)});
  }
}

void SafetensorsWriter::append(std::string_view name, std::span<const std::byte> bytes) {
  while (next_ < due_.size() && due_[next_].bytes == 0 && due_[next_].name != name) ++next_;
  if (next_ == due_.size() || due_[next_].name != name) {
    throw base::ShapeError(
        base::text("writing ", file_.path().string(), ": bytes of tensor '", name, "' came while ",
                   next_ == due_.size() ? "no tensor" : "'" + due_[next_].name + "'", " was due"));
  }
  if (bytes.size() > due_[next_].bytes) {
    throw base::ShapeError(base::text("writing ", file_.path().string(), ": tensor '", name,
                                      "' got ", bytes.size(), " bytes where ", due_[next_].bytes,
                                      " were left"));
  }
  file_.write(bytes);
  due_[next_].bytes -= bytes.size();
}

void SafetensorsWriter::finish() {
  for (; next_ < due_.size(); ++next_) {
    if (due_[next_].bytes == 0) continue;
    throw base::ShapeError(base::text("writing ", file_.path().string(), ": tensor '",
                                      due_[next_].name, "' lacks ", due_[next_].bytes, " bytes"));
  }
  file_.commit();
}

void write_safetensors(const std::filesystem::path& path, std::span<const TensorView> tensors,
                       const Metadata& metadata) {
  std::vector<const TensorView*> order;
  for (const auto& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const TensorView* a, const TensorView* b) {
    const auto a_bytes = base::size_of(a->dtype);
    const auto b_bytes = base::size_of(b->dtype);
    return a_bytes != b_bytes ? a_bytes > b_bytes : a->name < b->name;
  });
  std::vector<TensorSpec> specs;
  for (const auto* tensor : order) specs.push_back({tensor->name, tensor->dtype, tensor->shape});
  SafetensorsWriter writer(path, specs, metadata);
  for (const auto* tensor : order) writer.append(tensor->name, tensor->bytes);
  writer.finish();
}

}  // namespace dfmoa::formats
