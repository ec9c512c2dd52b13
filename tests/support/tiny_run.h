// A tiny base model and packed rows for it, without a folder to look after.
#pragma once

#include <stdlib.h>

#include <algorithm>

#include "src/data/packing.h"
#include "tests/support/tiny_model.h"

namespace dfmoa::model {

/// The files are mapped while they are read: nothing needs the folder afterwards.
inline std::shared_ptr<const BaseModel> tiny_base(const TinyShape& shape, at::ScalarType dtype) {
  std::string name = (std::filesystem::temp_directory_path() / "dfmoa_tiny_XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
  write_tiny_model(name, shape);
  auto base = load_tiny_model(name, dtype);
  std::filesystem::remove_all(name);
  return base;
}

/// One row of documents of these lengths with tokens that depend on the seed alone. All but the
/// first token of a document are targets that bear loss; its span is its first token.
inline data::PackedRow tiny_row(const std::vector<std::int64_t>& lengths, std::uint64_t seed = 1,
                                std::int64_t vocabulary = 273) {
  const base::KeyedRandom random(seed, {base::key_word("tokens")});
  data::PackedRow row;
  for (const auto length : lengths) {
    const auto begin = row.document_begin.back();
    for (std::int64_t t = 0; t < length; ++t) {
      const auto u = random.uniform(static_cast<std::uint64_t>(begin + t));
      row.token_T.push_back(static_cast<std::int64_t>(u * static_cast<double>(vocabulary)));
      row.position_T.push_back(t);
    }
    for (std::int64_t t = begin; t < begin + length; ++t) {
      const bool last = t + 1 == begin + length;
      row.target_T.push_back(last ? -1 : row.token_T[static_cast<std::size_t>(t + 1)]);
    }
    row.document_begin.push_back(begin + length);
    row.document_id.push_back(static_cast<std::int64_t>(seed * 1000 + row.document_id.size()));
    row.prompt_end.push_back(begin + 1);
    row.span_begin.push_back(begin);
    row.span_end.push_back(begin + 1);
    row.task.emplace_back();
    row.where.push_back(base::text("row:", row.document_id.size()));
  }
  return row;
}

}  // namespace dfmoa::model
