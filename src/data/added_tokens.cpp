#include "src/data/added_tokens.h"

#include <algorithm>
#include <utility>

#include "src/data/utf8.h"

namespace dfmoa::data {
namespace {

// What Rust's regex calls a word character.
constexpr std::string_view kWordCharacter =
    "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]";

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)), word_(kWordCharacter) {
  for (std::uint32_t i = 0; i < tokens_.size(); ++i) {
    if (tokens_[i].content.empty()) continue;
    by_first_byte_[static_cast<unsigned char>(tokens_[i].content[0])].push_back(i);
  }
  for (auto& group : by_first_byte_) {
    std::stable_sort(group.begin(), group.end(), [this](std::uint32_t a, std::uint32_t b) {
      return tokens_[a].content.size() > tokens_[b].content.size();
    });
  }
}

const AddedToken* AddedTokens::longest_at(std::string_view text, std::size_t at) const {
  for (const std::uint32_t i : by_first_byte_[static_cast<unsigned char>(text[at])]) {
    if (text.substr(at).starts_with(tokens_[i].content)) return &tokens_[i];
  }
  return nullptr;
}

bool AddedTokens::is_alone(std::string_view text, std::size_t begin, std::size_t end,
                           MatchScratch& scratch) const {
  const auto is_word = [&](std::size_t at, std::size_t length) {
    return word_.find(text.substr(at, length), 0, scratch).has_value();
  };
  if (begin > 0) {
    const std::size_t length = code_point_before(text, begin).length;
    if (is_word(begin - length, length)) return false;
  }
  return end == text.size() || !is_word(end, code_point_at(text, end).length);
}

void AddedTokens::split(std::string_view text, MatchScratch& scratch,
                        std::vector<Segment>& segments) const {
  std::size_t done = 0;
  std::size_t at = 0;
  while (at < text.size()) {
    const AddedToken* token = longest_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + token->content.size();
    at = end;
    if (token->single_word && !is_alone(text, begin, end, scratch)) continue;
    if (token->lstrip) {
      while (begin > done) {
        const CodePoint before = code_point_before(text, begin);
        if (!is_white_space(before.value)) break;
        begin -= before.length;
      }
    }
    if (token->rstrip) {
      while (end < text.size()) {
        const CodePoint behind = code_point_at(text, end);
        if (!is_white_space(behind.value)) break;
        end += behind.length;
      }
    }
    if (begin > done) segments.push_back({done, begin, kNoToken});
    segments.push_back({begin, end, token->id});
    done = at = end;
  }
  if (done < text.size()) segments.push_back({done, text.size(), kNoToken});
}

}  // namespace dfmoa::data
