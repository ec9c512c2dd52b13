#include "src/formats/gguf.h"

#include <algorithm>
#include <bit>
#include <type_traits>

#include "src/base/dtype.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/byte_cursor.h"

namespace dfmoa::formats {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::uint32_t kMaxExtents = 4;
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr const char* kAlignmentKey = "general.alignment";
constexpr std::uint64_t kLeastKeyBytes = 8 + 4 + 1;             // name, type, a byte of value
constexpr std::uint64_t kLeastTensorBytes = 8 + 4 + 0 + 4 + 8;  // name, extents, type, offset

/// The file's number of each value type.
enum class ValueType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  flag = 7,
  string = 8,
  list = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12
};

bool read_flag(ByteCursor& cursor, const std::string& what) {
  const auto value = cursor.number<std::uint8_t>(what);
  if (value > 1) cursor.refuse(base::text(what, " is the flag ", int{value}, ", expected 0 or 1"));
  return value == 1;
}

/// Calls `read` with a function that reads one scalar of the type; the widened type is its result.
template <class Read>
GgufValue with_scalar(ByteCursor& cursor, ValueType type, const std::string& what, Read&& read) {
  const auto of = [&]<class Stored, class Wide>(std::type_identity<Stored>,
                                                std::type_identity<Wide>) -> GgufValue {
    return read(sizeof(Stored), [&] { return Wide{cursor.number<Stored>(what)}; });
  };
  constexpr std::type_identity<std::uint64_t> kCount;
  constexpr std::type_identity<std::int64_t> kInteger;
  constexpr std::type_identity<double> kNumber;
  switch (type) {
    case ValueType::u8:
      return of(std::type_identity<std::uint8_t>(), kCount);
    case ValueType::u16:
      return of(std::type_identity<std::uint16_t>(), kCount);
    case ValueType::u32:
      return of(std::type_identity<std::uint32_t>(), kCount);
    case ValueType::u64:
      return of(std::type_identity<std::uint64_t>(), kCount);
    case ValueType::i8:
      return of(std::type_identity<std::int8_t>(), kInteger);
    case ValueType::i16:
      return of(std::type_identity<std::int16_t>(), kInteger);
    case ValueType::i32:
      return of(std::type_identity<std::int32_t>(), kInteger);
    case ValueType::i64:
      return of(std::type_identity<std::int64_t>(), kInteger);
    case ValueType::f32:
      return of(std::type_identity<float>(), kNumber);
    case ValueType::f64:
      return of(std::type_identity<double>(), kNumber);
    case ValueType::flag:
      return read(std::size_t{1}, [&] { return read_flag(cursor, what); });
    case ValueType::string:
      return read(std::size_t{8}, [&] { return cursor.string(what); });
    case ValueType::list:
      cursor.refuse(base::text(what, " is a list of lists"));
  }
  cursor.refuse(base::text(what, " has the unknown value type ", static_cast<std::uint32_t>(type)));
}

GgufValue read_value(ByteCursor& cursor, const std::string& what) {
  const auto type = static_cast<ValueType>(cursor.number<std::uint32_t>("the type of " + what));
  if (type != ValueType::list) {
    return with_scalar(cursor, type, what,
                       [](std::size_t, auto&& one) { return GgufValue(one()); });
  }
  const auto item = static_cast<ValueType>(cursor.number<std::uint32_t>("the type of " + what));
  return with_scalar(cursor, item, what, [&](std::size_t least_bytes, auto&& one) {
    std::vector<decltype(one())> list(cursor.count(least_bytes, "items of " + what));
    for (std::size_t i = 0; i < list.size(); ++i) list[i] = one();
    return GgufValue(std::move(list));
  });
}

/// A tensor-table entry: the tensor without its bytes, and where they lie in the data.
struct Entry {
  GgufTensor tensor;
  std::uint64_t offset;
  std::uint64_t bytes;
};

std::vector<std::int64_t> read_shape(ByteCursor& cursor, const std::string& what) {
  const auto extents = cursor.number<std::uint32_t>("the number of extents of " + what);
  if (extents > kMaxExtents) {
    cursor.refuse(base::text(what, " has ", extents, " extents, expected at most ", kMaxExtents));
  }
  std::vector<std::int64_t> shape(extents);
  std::int64_t elements = 1;
  for (auto& extent : shape) {
    extent = cursor.number<std::int64_t>("an extent of " + what);
    if (extent < 1 || __builtin_mul_overflow(elements, extent, &elements)) {
      cursor.refuse(base::text(what, " has the extent ", static_cast<std::uint64_t>(extent),
                               ", expected 1 to 2^63 - 1 elements"));
    }
  }
  std::reverse(shape.begin(), shape.end());
  return shape;
}

Entry read_entry(ByteCursor& cursor) {
  Entry entry{};
  auto& tensor = entry.tensor;
  tensor.name = cursor.string("a tensor's name");
  const auto what = "tensor '" + tensor.name + "'";
  tensor.shape = read_shape(cursor, what);
  const auto type = cursor.number<std::uint32_t>("the type of " + what);
  const auto* block = find_block(type);
  if (block == nullptr) {
    cursor.refuse(base::text(what, " has type ", type, ", expected one of ", gguf_type_names()));
  }
  tensor.type = block->type;
  if (tensor.columns() % block->elements != 0) {
    cursor.refuse(base::text(what, " has rows of ", tensor.columns(), " elements, ", block->name,
                             " takes multiples of ", block->elements));
  }
  std::int64_t bytes = 0;
  if (__builtin_mul_overflow(base::count_of(tensor.shape) / block->elements, block->bytes,
                             &bytes)) {
    cursor.refuse(
        base::text(what, " of shape ", base::shape_text(tensor.shape), " exceeds 2^63 - 1 bytes"));
  }
  entry.bytes = static_cast<std::uint64_t>(bytes);
  entry.offset = cursor.number<std::uint64_t>("the offset of " + what);
  return entry;
}

void check_head(ByteCursor& cursor) {
  const auto magic = cursor.number<std::uint32_t>("the magic number");
  if (magic != kMagic) cursor.refuse("it does not begin with 'GGUF': it is no GGUF file");
  const auto version = cursor.number<std::uint32_t>("the version");
  if ((version & 0xFFFFU) == 0) cursor.refuse("it is big-endian, expected a little-endian file");
  if (version != 2 && version != 3) {
    cursor.refuse(base::text("it is of version ", version, ", expected 2 or 3"));
  }
}

std::uint64_t alignment_of(const GgufMetadata& metadata, const ByteCursor& cursor) {
  if (!metadata.has(kAlignmentKey)) return kDefaultAlignment;
  const auto alignment = metadata.integer(kAlignmentKey);
  if (alignment <= 0 || !std::has_single_bit(static_cast<std::uint64_t>(alignment))) {
    cursor.refuse(base::text(kAlignmentKey, " is ", alignment, ", expected a power of two"));
  }
  return static_cast<std::uint64_t>(alignment);
}

/// Every tensor inside the data, at an aligned place, sharing no byte with another.
void check_places(std::vector<Entry>& entries, std::uint64_t alignment, std::uint64_t data_bytes,
                  const ByteCursor& cursor) {
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.offset < b.offset; });
  const Entry* previous = nullptr;
  for (const auto& entry : entries) {
    const auto what = "tensor '" + entry.tensor.name + "'";
    if (entry.offset % alignment != 0) {
      cursor.refuse(base::text(what, " begins at byte ", entry.offset,
                               " of the data, expected a multiple of ", alignment));
    }
    if (entry.offset > data_bytes || entry.bytes > data_bytes - entry.offset) {
      cursor.refuse(base::text(what, " takes ", entry.bytes, " bytes at byte ", entry.offset,
                               " of the data, but the file holds ", data_bytes,
                               " bytes of data (truncated?)"));
    }
    if (previous != nullptr && previous->offset + previous->bytes > entry.offset) {
      cursor.refuse(base::text(what, " begins at byte ", entry.offset, " and overlaps '",
                               previous->tensor.name, "', which ends at ",
                               previous->offset + previous->bytes));
    }
    previous = &entry;
  }
}

}  // namespace

std::int64_t GgufTensor::rows() const {
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

GgufFile::GgufFile(const std::filesystem::path& path)
    : file_(std::make_unique<base::MappedFile>(path)), metadata_("reading " + path.string()) {
  ByteCursor cursor(path, file_->bytes());
  check_head(cursor);
  const auto tensor_count = cursor.count(kLeastTensorBytes, "tensors");
  const auto key_count = cursor.count(kLeastKeyBytes, "keys");
  for (std::uint64_t i = 0; i < key_count; ++i) {
    const auto key = cursor.string("a key's name");
    metadata_.add(key, read_value(cursor, "key '" + key + "'"));
  }
  std::vector<Entry> entries(tensor_count);
  for (auto& entry : entries) entry = read_entry(cursor);

  const auto alignment = alignment_of(metadata_, cursor);
  const auto padding = (alignment - cursor.offset() % alignment) % alignment;
  const auto data = file_->bytes().subspan(cursor.offset() + std::min(padding, cursor.left()));
  check_places(entries, alignment, data.size(), cursor);
  for (auto& entry : entries) {
    entry.tensor.bytes = data.subspan(entry.offset, entry.bytes);
    const auto name = entry.tensor.name;
    if (!tensors_.emplace(name, std::move(entry.tensor)).second) {
      cursor.refuse(base::text("tensor '", name, "' is written twice"));
    }
  }
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

const GgufTensor& GgufFile::get(std::string_view name) const {
  if (const auto* tensor = find(name)) return *tensor;
  throw base::ContentError(
      base::text("reading ", path().string(), ": tensor '", name, "' is missing"));
}

}  // namespace dfmoa::formats
