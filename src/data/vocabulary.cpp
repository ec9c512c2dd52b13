#include "src/data/vocabulary.h"

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/data/byte_alphabet.h"

namespace dfmoa::data {
namespace {

// A wrong id must not make the table of tokens eat the memory; no vocabulary is near this.
constexpr std::int32_t kMostTokens = 1 << 24;

}  // namespace

Vocabulary::Token& Vocabulary::place(std::int32_t id, std::string_view written,
                                     const std::string& where) {
  if (id < 0 || id >= kMostTokens) {
    throw base::ContentError(base::text(where, ": token '", written, "' has id ", id,
                                        ", expected 0 to ", kMostTokens - 1));
  }
  const auto index = static_cast<std::size_t>(id);
  if (index >= tokens_.size()) tokens_.resize(index + 1);
  return tokens_[index];
}

Vocabulary::Vocabulary(const TokenizerSpec& spec) {
  ids_.reserve(spec.vocabulary.size() + spec.added_tokens.size());
  for (const auto& [written, id] : spec.vocabulary) {
    Token& token = place(id, written, spec.where);
    if (token.is_present) {
      throw base::ContentError(base::text(spec.where, ": id ", id, " belongs to '", written,
                                          "' and to '", written_of_bytes(token.bytes), "'"));
    }
    token.is_present = true;
    token.bytes = bytes_of_written(written).value_or(written);
    ids_.emplace(written, id);
  }
  for (const AddedToken& added : spec.added_tokens) {
    Token& token = place(added.id, added.content, spec.where);
    const auto present = ids_.emplace(added.content, added.id).first;
    const bool is_taken = token.is_present && present->second == added.id &&
                          !spec.vocabulary.empty() && token.bytes != added.content &&
                          token.bytes != bytes_of_written(added.content).value_or("");
    if (present->second != added.id || is_taken) {
      throw base::ContentError(base::text(spec.where, ": added token '", added.content, "' has id ",
                                          added.id, ", which belongs to another token or is not ",
                                          "the id in the vocabulary"));
    }
    token = {added.content, true, added.special};
  }
  of_byte_.fill(kNoToken);
  for (unsigned byte = 0; byte < 256; ++byte) {
    const auto id = id_of(written_of_bytes(std::string(1, static_cast<char>(byte))));
    if (id) of_byte_[byte] = *id;
  }
}

const Vocabulary::Token& Vocabulary::token(std::int32_t id) const {
  if (id >= 0 && id < size() && tokens_[static_cast<std::size_t>(id)].is_present) {
    return tokens_[static_cast<std::size_t>(id)];
  }
  throw base::ContentError(
      base::text("tokenizer: ", id, " is no token, expected an id below ", size()));
}

std::optional<std::int32_t> Vocabulary::id_of(std::string_view written) const {
  const auto found = ids_.find(written);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

std::vector<BpeMerges::Pair> Vocabulary::merge_pairs(const TokenizerSpec& spec) const {
  std::vector<BpeMerges::Pair> pairs;
  pairs.reserve(spec.merges.size());
  for (const auto& [left, right] : spec.merges) {
    const auto left_id = id_of(left);
    const auto right_id = id_of(right);
    const auto merged_id = id_of(left + right);
    if (!left_id || !right_id || !merged_id) {
      const std::string missing = !left_id ? left : !right_id ? right : left + right;
      throw base::ContentError(base::text(spec.where, ": merge ", pairs.size(), " ('", left, "' '",
                                          right, "') needs '", missing,
                                          "', which is not in the vocabulary"));
    }
    pairs.push_back({*left_id, *right_id, *merged_id});
  }
  return pairs;
}

}  // namespace dfmoa::data
