// The pattern data.span: its group 1 marks the instruction inside a rendered prompt.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

struct pcre2_real_code_8;

namespace dfmoa::data {

class SpanPattern {
 public:
  /// Throws UsageError for a pattern that PCRE2 refuses or that has no group.
  explicit SpanPattern(const std::string& pattern);

  /// Bytes [begin, end) of group 1 of the first match. Throws ContentError where PCRE2 gives up.
  [[nodiscard]] std::optional<std::pair<std::size_t, std::size_t>> find(
      std::string_view text) const;

 private:
  std::shared_ptr<pcre2_real_code_8> code_;
};

}  // namespace dfmoa::data
