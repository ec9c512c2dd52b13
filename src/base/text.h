// Small text routines for sentences: joining values, and the nearest of several names.
#pragma once

#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace dfmoa::base {

/// Writes every argument after the other, as operator<< does.
template <class... Values>
[[nodiscard]] std::string text(const Values&... values) {
  std::ostringstream out;
  (out << ... << values);
  return out.str();
}

/// "a, b, c".
[[nodiscard]] std::string join(const std::vector<std::string>& parts, std::string_view separator);

/// "(2, 3)" for a shape.
[[nodiscard]] std::string shape_text(const std::vector<std::int64_t>& shape);

/// Splits at `separator`, trims blanks, drops empty parts.
[[nodiscard]] std::vector<std::string> split(std::string_view line, char separator);

/// Without leading and trailing blanks, tabs and line ends.
[[nodiscard]] std::string trim(std::string_view line);

/// The candidate with the smallest edit distance; empty if there is none.
[[nodiscard]] std::string nearest(const std::string& name,
                                  const std::vector<std::string>& candidates);

/// The shortest decimal that reads back as the same double ("0.1", "2e-04").
[[nodiscard]] std::string number_text(double value);

}  // namespace dfmoa::base
