#include "src/data/jsonl.h"

#include <algorithm>
#include <cstring>

#include "src/base/error.h"
#include "src/base/hash.h"
#include "src/base/text.h"

namespace dfmoa::data {
namespace {

void check_paths(const std::vector<std::string>& paths) {
  if (paths.empty()) {
    throw base::UsageError("reading data: no file is named, expected one JSONL file or more");
  }
}

}  // namespace

JsonlFiles::JsonlFiles(const std::vector<std::string>& paths) {
  check_paths(paths);
  for (const auto& path : paths) {
    TextFile text(path, "");
    auto index = LineIndex::scan(text);
    add(std::move(text), std::move(index));
  }
}

JsonlFiles::JsonlFiles(const std::vector<std::string>& paths, const std::string& index_dir) {
  check_paths(paths);
  for (const auto& path : paths) {
    TextFile text(path, index_dir);
    auto index = LineIndex::stored(text, index_dir);
    add(std::move(text), std::move(index));
  }
}

void JsonlFiles::add(TextFile text, LineIndex index) {
  if (index.count() == 0) {
    throw base::ContentError(base::text(text.path(), " holds no line (", text.stamp().bytes,
                                        " bytes), expected one JSON object a line"));
  }
  count_ += index.count();
  files_.push_back({std::move(text), std::move(index)});
}

JsonLine JsonlFiles::line(std::int64_t index) const {
  auto line = index;
  for (const auto& file : files_) {
    if (line < 0) break;
    if (line >= file.index.count()) {
      line -= file.index.count();
      continue;
    }
    const auto begin = file.index.begin(line);
    std::string text(file.index.end(line) - begin, '\0');
    text.resize(file.text.read(begin, text));
    text.resize(std::min(text.find('\n'), text.size()));
    return {base::trim(text), base::text(file.text.path(), ":", file.index.number(line))};
  }
  throw base::ShapeError(base::text("line ", index, " of ", count_, " lines was asked for"));
}

std::int64_t JsonlFiles::fingerprint() const {
  base::Hash128 hash;
  for (const auto& file : files_) hash.add_text(file.index.content_hash());
  return static_cast<std::int64_t>(std::stoull(hash.hex().substr(0, 16), nullptr, 16));
}

}  // namespace dfmoa::data
