#include "src/formats/byte_cursor.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::formats {

void ByteCursor::refuse(const std::string& reason) const {
  throw base::ContentError(base::text("reading ", path_.string(), ": ", reason));
}

std::span<const std::byte> ByteCursor::take(std::uint64_t bytes, const std::string& what) {
  if (bytes > left()) {
    refuse(base::text(what, " takes ", bytes, " bytes at byte ", offset_, ", but the file ends at ",
                      bytes_.size(), " (truncated?)"));
  }
  const auto taken = bytes_.subspan(offset_, bytes);
  offset_ += bytes;
  return taken;
}

std::string ByteCursor::string(const std::string& what) {
  const auto characters = take(number<std::uint64_t>("the length of " + what), what);
  return {reinterpret_cast<const char*>(characters.data()), characters.size()};
}

std::uint64_t ByteCursor::count(std::uint64_t least_bytes, const std::string& what) {
  const auto items = number<std::uint64_t>("the number of " + what);
  if (items > left() / least_bytes) {
    refuse(base::text(items, " ", what, " at byte ", offset_, " cannot fit into the ", left(),
                      " bytes left"));
  }
  return items;
}

}  // namespace dfmoa::formats
