#include "src/base/fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::base {
namespace {

template <class Number>
bool parse_whole(const std::string& value, Number& number) {
  const auto* end = value.data() + value.size();
  const auto result = std::from_chars(value.data(), end, number);
  return result.ec == std::errc() && result.ptr == end;
}

}  // namespace

Field& Field::range(double lowest, double highest) {
  bounded_ = true;
  lowest_ = lowest;
  highest_ = highest;
  return *this;
}

Field& Field::one_of(std::vector<std::string> choices) {
  choices_ = std::move(choices);
  return *this;
}

void Field::refuse(const std::string& section, const std::string& value,
                   const std::string& expected) const {
  throw UsageError(
      text("configuration ", section, ".", name_, " = ", value, ": expected ", expected));
}

void Field::check_range(const std::string& section, const std::string& value, double number) const {
  if (!std::isfinite(number)) refuse(section, value, "a finite number");
  if (bounded_ && (number < lowest_ || number > highest_)) {
    refuse(section, value,
           text("a number from ", number_text(lowest_), " to ", number_text(highest_)));
  }
}

void Field::assign(const std::string& section, const std::string& value) {
  if (auto** flag = std::get_if<bool*>(&target_)) {
    if (value != "true" && value != "false") refuse(section, value, "true or false");
    **flag = value == "true";
  } else if (auto** whole = std::get_if<std::int64_t*>(&target_)) {
    std::int64_t number = 0;
    if (!parse_whole(value, number)) refuse(section, value, "a whole number");
    check_range(section, value, static_cast<double>(number));
    **whole = number;
  } else if (auto** real = std::get_if<double*>(&target_)) {
    double number = 0;
    if (!parse_whole(value, number)) refuse(section, value, "a number");
    check_range(section, value, number);
    **real = number;
  } else if (auto** list = std::get_if<std::vector<std::string>*>(&target_)) {
    **list = split(value, ',');
  } else {
    if (!choices_.empty() && std::find(choices_.begin(), choices_.end(), value) == choices_.end()) {
      refuse(section, value, "one of " + join(choices_, ", "));
    }
    *std::get<std::string*>(target_) = value;
  }
}

std::string Field::value() const {
  if (const auto* const* flag = std::get_if<bool*>(&target_)) return **flag ? "true" : "false";
  if (const auto* const* whole = std::get_if<std::int64_t*>(&target_)) {
    return std::to_string(**whole);
  }
  if (const auto* const* real = std::get_if<double*>(&target_)) return number_text(**real);
  if (const auto* const* list = std::get_if<std::vector<std::string>*>(&target_)) {
    return join(**list, ", ");
  }
  return *std::get<std::string*>(target_);
}

void FieldList::assign(const std::string& section, const std::string& key,
                       const std::string& value) {
  std::vector<std::string> names;
  for (auto& field : fields_) {
    if (field.name() == key) {
      field.assign(section, value);
      return;
    }
    names.push_back(field.name());
  }
  throw UsageError(text("configuration key ", section, ".", key, " is unknown: the nearest is ",
                        section, ".", nearest(key, names)));
}

}  // namespace dfmoa::base
