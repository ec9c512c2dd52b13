// Tokens that are found in the text before any splitting: <bos>, <|im_start|>.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "src/data/split_pattern.h"

namespace dfmoa::data {

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool special = false;
  bool lstrip = false;      ///< swallows the blanks before it
  bool rstrip = false;      ///< swallows the blanks behind it
  bool normalized = false;  ///< looked for in the normalised text
  bool single_word = false;
};

/// Looks for added tokens, leftmost first, of several the longest.
class AddedTokens {
 public:
  static constexpr std::int32_t kNoToken = -1;
  struct Segment {
    std::size_t begin = 0;
    std::size_t end = 0;
    std::int32_t id = kNoToken;  ///< kNoToken: text between tokens
  };

  explicit AddedTokens(std::vector<AddedToken> tokens);

  [[nodiscard]] const std::vector<AddedToken>& tokens() const { return tokens_; }

  /// Appends the segments of `text`, which together are all of it. The text is well-formed UTF-8.
  void split(std::string_view text, MatchScratch& scratch, std::vector<Segment>& segments) const;

 private:
  [[nodiscard]] const AddedToken* longest_at(std::string_view text, std::size_t at) const;
  [[nodiscard]] bool is_alone(std::string_view text, std::size_t begin, std::size_t end,
                              MatchScratch& scratch) const;

  std::vector<AddedToken> tokens_;
  std::array<std::vector<std::uint32_t>, 256> by_first_byte_;  ///< indices, longest first
  SplitPattern word_;
};

}  // namespace dfmoa::data
