// Token ids, how files write them, and the bytes they stand for.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "src/data/bpe.h"
#include "src/data/tokenizer_json.h"

namespace dfmoa::data {

class Vocabulary {
 public:
  static constexpr std::int32_t kNoToken = AddedTokens::kNoToken;

  /// Throws ContentError when an id is out of range or belongs to two tokens.
  explicit Vocabulary(const TokenizerSpec& spec);

  [[nodiscard]] std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }
  [[nodiscard]] std::optional<std::int32_t> id_of(std::string_view written) const;

  /// Throws ContentError when `id` is no token.
  [[nodiscard]] const std::string& bytes_of(std::int32_t id) const { return token(id).bytes; }
  [[nodiscard]] bool is_special(std::int32_t id) const { return token(id).is_special; }

  /// The token of one byte; kNoToken if there is none.
  [[nodiscard]] std::int32_t of_byte(unsigned char byte) const { return of_byte_[byte]; }

  /// Length in bytes of a token that merging made.
  [[nodiscard]] std::size_t length_of(std::int32_t id) const {
    return tokens_[static_cast<std::size_t>(id)].bytes.size();
  }

  /// The merges as ids. Throws ContentError when a part or the result is no token.
  [[nodiscard]] std::vector<BpeMerges::Pair> merge_pairs(const TokenizerSpec& spec) const;

 private:
  struct Token {
    std::string bytes;
    bool is_present = false;
    bool is_special = false;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };

  [[nodiscard]] const Token& token(std::int32_t id) const;
  Token& place(std::int32_t id, std::string_view written, const std::string& where);

  std::vector<Token> tokens_;
  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> ids_;
  std::array<std::int32_t, 256> of_byte_{};
};

}  // namespace dfmoa::data
