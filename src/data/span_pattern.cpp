#include "src/data/span_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::data {

SpanPattern::SpanPattern(const std::string& pattern) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                            PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr),
              pcre2_code_free);
  if (!code_) {
    PCRE2_UCHAR words[128];
    pcre2_get_error_message(error, words, sizeof(words));
    throw base::UsageError(base::text("configuration data.span = ", pattern, ": at character ",
                                      offset, ": ", reinterpret_cast<const char*>(words)));
  }
  std::uint32_t groups = 0;
  pcre2_pattern_info(code_.get(), PCRE2_INFO_CAPTURECOUNT, &groups);
  if (groups == 0) {
    throw base::UsageError(base::text("configuration data.span = ", pattern,
                                      ": expected a group (...) that marks the instruction"));
  }
}

std::optional<std::pair<std::size_t, std::size_t>> SpanPattern::find(std::string_view text) const {
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(
      pcre2_match_data_create_from_pattern(code_.get(), nullptr), pcre2_match_data_free);
  const int count = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                0, 0, match.get(), nullptr);
  if (count == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (count < 0) {
    throw base::ContentError(base::text("matching data.span: PCRE2 stopped with error ", count));
  }
  const auto* range = pcre2_get_ovector_pointer(match.get());
  if (count < 2 || range[2] == PCRE2_UNSET) return std::nullopt;
  return std::pair<std::size_t, std::size_t>(range[2], range[3]);
}

}  // namespace dfmoa::data
