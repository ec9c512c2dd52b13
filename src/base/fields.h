// Configuration reflection: one `fields()` list per struct gives defaults, --help, INI reading,
// range errors, the resolved file, checkpoint attributes and the comparison at a resume.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <variant>
#include <vector>

namespace dfmoa::base {

/// One configurable member: where it lives, what it means, what it may be.
class Field {
 public:
  using Target =
      std::variant<bool*, std::int64_t*, double*, std::string*, std::vector<std::string>*>;

  Field(std::string name, Target target, std::string help)
      : name_(std::move(name)), target_(target), help_(std::move(help)) {}

  /// Both ends included; for integers and reals.
  Field& range(double lowest, double highest);
  Field& one_of(std::vector<std::string> choices);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& help() const { return help_; }
  [[nodiscard]] const std::vector<std::string>& choices() const { return choices_; }

  /// Parses `value` into the member.
  /// Throws UsageError naming `section.name`, the value and what was expected.
  void assign(const std::string& section, const std::string& value);

  /// The member's value as `assign` reads it.
  [[nodiscard]] std::string value() const;

 private:
  [[noreturn]] void refuse(const std::string& section, const std::string& value,
                           const std::string& expected) const;
  void check_range(const std::string& section, const std::string& value, double number) const;

  std::string name_;
  Target target_;
  std::string help_;
  bool bounded_ = false;
  double lowest_ = 0;
  double highest_ = 0;
  std::vector<std::string> choices_;
};

/// The fields of one struct, in the order of its `fields()`:
///   void fields(base::FieldList& list) { list.add("steps", steps, "optimiser steps").range(1,
///   1e9); }
class FieldList {
 public:
  template <class Config>
  [[nodiscard]] static FieldList of(Config& config) {
    FieldList list;
    config.fields(list);
    return list;
  }

  template <class Member>
  Field& add(const std::string& name, Member& member, const std::string& help) {
    return fields_.emplace_back(name, Field::Target(&member), help);
  }

  [[nodiscard]] const std::deque<Field>& all() const { return fields_; }

  /// Sets `key` of this section. Throws UsageError for an unknown key, naming the nearest one.
  void assign(const std::string& section, const std::string& key, const std::string& value);

 private:
  std::deque<Field> fields_;  // deque: references from add() stay valid
};

}  // namespace dfmoa::base
