#include "src/data/line_index.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "src/base/error.h"
#include "src/base/hash.h"
#include "src/base/text.h"
#include "src/formats/file_writer.h"

namespace dfmoa::data {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kChunk = 1 << 20;
constexpr std::uint64_t kSignature = 0x0131786469656E6CULL;  // "lneidx1\1": version 1
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
using Header = std::array<std::uint64_t, 6>;

std::string hash_bytes(const base::Hash128& hash) {
  const auto hex = hash.hex();
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

/// Finds line starts in a file that comes in chunks.
class LineScanner {
 public:
  LineScanner(std::vector<std::uint64_t>& begin, std::vector<std::uint32_t>& number)
      : begin_(begin), number_(number) {}

  void add(std::string_view chunk) {
    std::size_t at = 0;
    if (offset_ == 0 && chunk.starts_with(kByteOrderMark)) line_begin_ = at = kByteOrderMark.size();
    while (at < chunk.size()) {
      const auto found = chunk.find('\n', at);
      const auto part = chunk.substr(at, std::min(found, chunk.size()) - at);
      if (is_blank_) is_blank_ = part.find_first_not_of(" \t\r") == std::string_view::npos;
      if (found == std::string_view::npos) break;
      end_line();
      at = found + 1;
      line_begin_ = offset_ + at;
    }
    offset_ += chunk.size();
  }

  void finish() {
    end_line();
    begin_.push_back(offset_);
  }

 private:
  void end_line() {
    if (!is_blank_) {
      begin_.push_back(line_begin_);
      number_.push_back(line_number_);
    }
    is_blank_ = true;
    ++line_number_;
  }

  std::vector<std::uint64_t>& begin_;
  std::vector<std::uint32_t>& number_;
  std::uint64_t offset_ = 0;
  std::uint64_t line_begin_ = 0;
  std::uint32_t line_number_ = 1;
  bool is_blank_ = true;
};

/// In a folder that holds the indices of many files the name must tell files of one name apart.
std::string place_in(const std::string& index_dir, const std::string& path) {
  const fs::path file = fs::absolute(path).lexically_normal();
  const auto text = file.string();
  return (fs::path(index_dir) / (file.filename().string() + "." +
                                 base::hash128(text.data(), text.size()) + ".dfmoa_index"))
      .string();
}

}  // namespace

LineIndex LineIndex::scan(const TextFile& file) {
  LineIndex index;
  LineScanner scanner(index.begin_memory_, index.number_memory_);
  base::Hash128 hash;
  std::vector<char> buffer(kChunk);
  std::uint64_t offset = 0;
  while (const auto bytes = file.read(offset, buffer)) {
    hash.add(buffer.data(), bytes);
    scanner.add({buffer.data(), bytes});
    offset += bytes;
  }
  scanner.finish();
  index.begin_ = index.begin_memory_;
  index.number_ = index.number_memory_;
  index.content_hash_ = hash_bytes(hash);
  return index;
}

LineIndex LineIndex::stored(const TextFile& file, const std::string& index_dir) {
  if (file.is_packed()) return scan(file);
  const std::string beside = file.path() + ".dfmoa_index";
  const std::string inside = index_dir.empty() ? "" : place_in(index_dir, file.path());
  LineIndex index;
  if (load(beside, file.stamp(), index)) return index;
  if (!inside.empty() && load(inside, file.stamp(), index)) return index;
  index = scan(file);
  const auto first = index.store(beside, file.stamp());
  if (first.empty()) return index;
  if (inside.empty()) {
    throw base::MachineError(base::text("indexing ", file.path(), ": ", beside,
                                        " cannot be written (", first,
                                        "); set data.index_dir to a writable folder"));
  }
  std::error_code ignored;  // store() says better what is wrong
  fs::create_directories(index_dir, ignored);
  const auto second = index.store(inside, file.stamp());
  if (second.empty()) return index;
  throw base::MachineError(base::text(
      "indexing ", file.path(), ": ", beside, " cannot be written (", first,
      "), nor can data.index_dir = ", index_dir, " (", second, "), expected a writable folder"));
}

bool LineIndex::load(const std::string& place, const FileStamp& stamp, LineIndex& index) {
  std::error_code missing;
  if (!fs::is_regular_file(place, missing) || ::access(place.c_str(), R_OK) != 0) return false;
  auto mapping = std::make_unique<base::MappedFile>(place);
  const auto bytes = mapping->bytes();
  Header header{};
  if (bytes.size() < sizeof(header)) return false;
  std::memcpy(header.data(), bytes.data(), sizeof(header));
  const auto count = header[3];
  if (header[0] != kSignature || header[1] != stamp.bytes || header[2] != stamp.modified_ns ||
      count > stamp.bytes || bytes.size() != sizeof(header) + (count + 1) * 8 + count * 4 + 16) {
    return false;
  }
  base::Hash128 hash;
  hash.add(bytes.data(), bytes.size() - 16);
  if (std::memcmp(hash_bytes(hash).data(), bytes.data() + bytes.size() - 16, 16) != 0) return false;
  const auto* begin = reinterpret_cast<const std::uint64_t*>(bytes.data() + sizeof(header));
  index.begin_ = {begin, count + 1};
  index.number_ = {reinterpret_cast<const std::uint32_t*>(begin + count + 1), count};
  index.content_hash_.assign(reinterpret_cast<const char*>(&header[4]), 16);
  index.mapping_ = std::move(mapping);
  return true;
}

/// Empty when written, else what the system said. Several processes may write the same index at
/// once: each has a file of its own, and the last rename wins.
std::string LineIndex::store(const std::string& place, const FileStamp& stamp) const {
  std::string temporary = place + ".XXXXXX";
  base::Descriptor file(::mkstemp(temporary.data()));
  if (!file) return std::strerror(errno);
  Header header{kSignature, stamp.bytes, stamp.modified_ns, number_.size(), 0, 0};
  std::memcpy(&header[4], content_hash_.data(), 16);
  base::Hash128 hash;
  const auto write = [&](std::span<const std::byte> bytes) {
    hash.add(bytes.data(), bytes.size());
    formats::write_all(file.get(), bytes, place);
  };
  std::string failure;
  try {
    write(std::as_bytes(std::span(header)));
    write(std::as_bytes(begin_));
    write(std::as_bytes(number_));
    const auto check = hash_bytes(hash);
    formats::write_all(file.get(), std::as_bytes(std::span(check)), place);
    if (::fchmod(file.get(), 0644) != 0 || ::fsync(file.get()) != 0 ||
        ::rename(temporary.c_str(), place.c_str()) != 0) {
      failure = std::strerror(errno);
    }
  } catch (const base::MachineError& error) {  // a full disk: another folder may have room
    failure = error.what();
  }
  if (!failure.empty()) ::unlink(temporary.c_str());
  return failure;
}

}  // namespace dfmoa::data
