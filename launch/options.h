// The command line on Boost.Program_options: one way to read it, one way to print help.
#pragma once

#include <boost/program_options/options_description.hpp>
#include <boost/program_options/variables_map.hpp>
#include <string>
#include <vector>

#include "src/base/fields.h"

namespace dfmoa::launch {

using Arguments = std::vector<std::string>;

/// A parsed subcommand line.
class Options {
 public:
  /// `positional` are the names of arguments without a dash, in order; a name ending in "..." takes
  /// all the rest. --help and -v exist everywhere.
  Options(std::string subcommand, std::string purpose, std::vector<std::string> positional = {});

  /// Text that --help prints after the options.
  void add_epilogue(std::string text) { epilogue_ = std::move(text); }

  /// Adds an option; see boost::program_options for the value semantic.
  boost::program_options::options_description_easy_init add();
  /// Adds one option per field, --learning-rate for learning_rate.
  void add_fields(const base::FieldList& fields);

  /// Throws UsageError naming the option (and the nearest that exists) or the missing argument.
  /// Returns false after printing help: nothing is left to do.
  [[nodiscard]] bool parse(const Arguments& arguments);
  /// Puts what was given for add_fields into the members.
  void assign_fields(base::FieldList& fields) const;

  [[nodiscard]] bool has(const std::string& name) const { return values_.count(name) > 0; }
  template <class Value>
  [[nodiscard]] const Value& get(const std::string& name) const {
    return values_[name].as<Value>();
  }
  [[nodiscard]] std::string text(const std::string& name) const {
    return has(name) ? get<std::string>(name) : std::string();
  }
  [[nodiscard]] std::vector<std::string> list(const std::string& name) const {
    return has(name) ? get<std::vector<std::string>>(name) : std::vector<std::string>();
  }
  [[nodiscard]] bool verbose() const { return has("verbose"); }

 private:
  void refuse_surplus() const;
  [[nodiscard]] std::string nearest(const std::string& option) const;

  std::string subcommand_;
  std::string purpose_;
  std::string epilogue_;
  std::vector<std::string> positional_;
  boost::program_options::options_description visible_;
  boost::program_options::options_description hidden_;
  boost::program_options::variables_map values_;
};

}  // namespace dfmoa::launch
