#include "launch/options.h"

#include <algorithm>
#include <boost/program_options/errors.hpp>
#include <boost/program_options/parsers.hpp>
#include <boost/program_options/positional_options.hpp>
#include <iostream>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::launch {

namespace po = boost::program_options;

namespace {

/// Takes the words that belong to no option and no place, so that they can be named.
constexpr const char* kSurplus = "surplus words";

std::string option_name(std::string field) {
  std::replace(field.begin(), field.end(), '_', '-');
  return field;
}

}  // namespace

Options::Options(std::string subcommand, std::string purpose, std::vector<std::string> positional)
    : subcommand_(std::move(subcommand)),
      purpose_(std::move(purpose)),
      positional_(std::move(positional)),
      visible_("Options") {
  visible_.add_options()("help,h", "this text")("verbose,v", "say more");
  for (const auto& name : positional_) {
    if (name.ends_with("...")) {
      hidden_.add_options()(name.c_str(), po::value<std::vector<std::string>>());
    } else {
      hidden_.add_options()(name.c_str(), po::value<std::string>());
    }
  }
  hidden_.add_options()(kSurplus, po::value<std::vector<std::string>>());
}

po::options_description_easy_init Options::add() {
  return visible_.add_options();
}

void Options::add_fields(const base::FieldList& fields) {
  for (const auto& field : fields.all()) {
    auto help =
        field.help() + " (default " + (field.value().empty() ? "none" : field.value()) + ")";
    auto* semantic = po::value<std::string>();
    // A switch that is off is turned on by its name alone; every other field takes a value.
    if (field.value() == "false") semantic->implicit_value("true")->zero_tokens();
    visible_.add_options()(option_name(field.name()).c_str(), semantic, help.c_str());
  }
}

bool Options::parse(const Arguments& arguments) {
  po::options_description all;
  all.add(visible_).add(hidden_);
  po::positional_options_description positions;
  for (const auto& name : positional_) positions.add(name.c_str(), name.ends_with("...") ? -1 : 1);
  if (positional_.empty() || !positional_.back().ends_with("...")) positions.add(kSurplus, -1);
  try {
    using Style = po::command_line_style::style_t;
    const auto style = Style::default_style & ~Style::allow_guessing;  // no half-typed names
    po::store(
        po::command_line_parser(arguments).options(all).positional(positions).style(style).run(),
        values_);
  } catch (const po::unknown_option& error) {
    throw base::UsageError(base::text(subcommand_, ": there is no option ", error.get_option_name(),
                                      "; the nearest is ", nearest(error.get_option_name())));
  } catch (const po::error& error) {
    throw base::UsageError(
        base::text(subcommand_, ": ", error.what(), " (dfmoa ", subcommand_, " --help)"));
  }
  if (has("help")) {
    std::cout << "dfmoa " << subcommand_;
    for (const auto& name : positional_) std::cout << ' ' << name;
    std::cout << "\n" << purpose_ << "\n\n" << visible_ << epilogue_;
    return false;
  }
  refuse_surplus();
  for (const auto& name : positional_) {
    if (name.starts_with("[") || has(name)) continue;
    throw base::UsageError(
        base::text(subcommand_, ": ", name, " is missing (dfmoa ", subcommand_, " --help)"));
  }
  return true;
}

void Options::refuse_surplus() const {
  if (!has(kSurplus)) return;
  const auto word = get<std::vector<std::string>>(kSurplus).front();
  const bool is_setting = word.find('=') != std::string::npos;
  throw base::UsageError(base::text(
      subcommand_, ": '", word, "' is one word too many",
      is_setting ? ", expected an option in front of it: every --set takes one KEY=VALUE" : "",
      " (dfmoa ", subcommand_, " --help)"));
}

std::string Options::nearest(const std::string& option) const {
  std::vector<std::string> known;
  for (const auto& each : visible_.options()) known.push_back("--" + each->long_name());
  return base::nearest(option, known);
}

void Options::assign_fields(base::FieldList& fields) const {
  std::vector<std::pair<std::string, std::string>> given;
  for (const auto& field : fields.all()) {
    const auto name = option_name(field.name());
    if (has(name)) given.emplace_back(field.name(), get<std::string>(name));
  }
  for (const auto& [name, value] : given) fields.assign(subcommand_, name, value);
}

}  // namespace dfmoa::launch
