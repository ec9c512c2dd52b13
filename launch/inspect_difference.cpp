#include <cmath>
#include <cstdio>

#include "checkpoints/difference.h"
#include "launch/inspect.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/train/ini.h"
#include "src/train/open_model.h"

namespace dfmoa::launch {
namespace {

constexpr const char* kConfigValue = "run/config";  // told key by key

checkpoints::Checkpoint open(const std::filesystem::path& path, base::Logger& log) {
  if (is_model_folder(path)) {
    throw base::UsageError(base::text("inspect --diff compares two checkpoints or runs: ",
                                      path.string(), " is the folder of a base model"));
  }
  return train::open_checkpoint(path, log);
}

nlohmann::json value_json(const std::optional<base::StateValue>& value) {
  if (!value) return nullptr;
  return std::visit([](const auto& held) { return nlohmann::json(held); }, *value);
}

nlohmann::json layout_json(const checkpoints::DatasetInfo& info) {
  return base::text(base::name_of(info.dtype), " ", base::shape_text(info.shape));
}

/// JSON has no infinity.
nlohmann::json figure(double value) {
  return std::isfinite(value) ? nlohmann::json(value) : nlohmann::json(nullptr);
}

/// Every key of one of them with both values, null where it is absent.
nlohmann::json changed_keys(const checkpoints::Checkpoint& first,
                            const checkpoints::Checkpoint& second) {
  std::map<std::string, std::array<nlohmann::json, 2>> values;
  std::size_t side = 0;
  for (const auto* checkpoint : {&first, &second}) {
    const auto found = checkpoint->values().find(kConfigValue);
    if (found != checkpoint->values().end()) {
      train::RunConfig config;
      train::read_ini_text(std::get<std::string>(found->second), checkpoint->folder().string(),
                           config);
      for (const auto& [key, value] : config.resolved()) values[key][side] = value;
    }
    ++side;
  }
  nlohmann::json changed = nlohmann::json::object();
  for (const auto& [key, pair] : values) {
    if (pair[0] != pair[1]) changed[key] = pair;
  }
  return changed;
}

nlohmann::json datasets_json(const checkpoints::Difference& difference) {
  auto changed = nlohmann::json::array();
  for (const auto& change : difference.changed) {
    changed.push_back({{"name", change.name},
                       {"elements", change.elements},
                       {"max_abs", figure(change.largest)},
                       {"relative", figure(change.relative)}});
  }
  auto other_layout = nlohmann::json::array();
  for (const auto& change : difference.other_layout) {
    other_layout.push_back({{"name", change.name},
                            {"first", layout_json(change.first)},
                            {"second", layout_json(change.second)}});
  }
  return {{"equal", difference.equal_datasets},
          {"changed", changed},
          {"other_layout", other_layout},
          {"only_first", difference.only_first},
          {"only_second", difference.only_second}};
}

std::string text_of(const nlohmann::json& value) {
  if (value.is_null()) return "(absent)";
  return value.is_string() ? value.get<std::string>() : value.dump();
}

double number_of(const nlohmann::json& value) {
  return value.is_null() ? std::numeric_limits<double>::infinity() : value.get<double>();
}

/// Lines of a kind without -v: a rank cut changes thousands of datasets.
constexpr std::size_t kShown = 12;

void print_rest(std::size_t all, std::size_t shown) {
  if (all > shown) std::printf("... and %zu more (-v lists all)\n", all - shown);
}

void print_layout(const nlohmann::json& datasets, std::size_t shown) {
  for (const char* side : {"first", "second"}) {
    const auto& names = datasets[std::string("only_") + side];
    for (std::size_t i = 0; i < std::min(shown, names.size()); ++i) {
      std::printf("only in the %s: %s\n", side, names[i].get<std::string>().c_str());
    }
    print_rest(names.size(), shown);
  }
  const auto& changes = datasets["other_layout"];
  for (std::size_t i = 0; i < std::min(shown, changes.size()); ++i) {
    std::printf("other layout: %s is %s, then %s\n", changes[i]["name"].get<std::string>().c_str(),
                changes[i]["first"].get<std::string>().c_str(),
                changes[i]["second"].get<std::string>().c_str());
  }
  print_rest(changes.size(), shown);
}

void print_pairs(const char* title, const nlohmann::json& pairs) {
  if (pairs.empty()) return;
  std::printf("\n%s\n", title);
  for (const auto& [key, pair] : pairs.items()) {
    std::printf("%-40s %s -> %s\n", key.c_str(), text_of(pair[0]).c_str(),
                text_of(pair[1]).c_str());
  }
}

}  // namespace

nlohmann::json inspect_difference(const std::filesystem::path& first,
                                  const std::filesystem::path& second, base::Logger& log) {
  const auto a = open(first, log);
  const auto b = open(second, log);
  const auto difference = checkpoints::compare(a, b);
  nlohmann::json values = nlohmann::json::object();
  for (const auto& [name, pair] : difference.values) {
    if (name != kConfigValue) values[name] = {value_json(pair.first), value_json(pair.second)};
  }
  return {{"kind", "difference"},
          {"first", a.folder().string()},
          {"second", b.folder().string()},
          {"identical", difference.identical()},
          {"same_layout", difference.same_layout()},
          {"datasets", datasets_json(difference)},
          {"equal_values", difference.equal_values},
          {"values", values},
          {"configuration", changed_keys(a, b)}};
}

void print_difference(const nlohmann::json& json, bool verbose) {
  const auto shown = verbose ? std::numeric_limits<std::size_t>::max() : kShown;
  const auto& datasets = json["datasets"];
  const auto equal = datasets["equal"].get<std::size_t>();
  std::printf("%s\n%s\n", json["first"].get<std::string>().c_str(),
              json["second"].get<std::string>().c_str());
  if (json["identical"].get<bool>()) {
    std::printf("identical: %zu datasets and %zu values\n", equal,
                json["equal_values"].get<std::size_t>());
    return;
  }
  std::printf(
      "%s layout; %zu datasets equal, %zu differ in values, %zu in layout, %zu in one only\n",
      json["same_layout"].get<bool>() ? "the same" : "another", equal, datasets["changed"].size(),
      datasets["other_layout"].size(),
      datasets["only_first"].size() + datasets["only_second"].size());
  print_layout(datasets, shown);
  if (!datasets["changed"].empty()) {
    std::printf("\n%-48s %9s %11s %11s\n", "dataset", "elements", "max |a - b|", "relative");
  }
  const auto& changed = datasets["changed"];
  for (std::size_t i = 0; i < std::min(shown, changed.size()); ++i) {
    const auto& change = changed[i];
    std::printf("%-48s %9lld %11.4g %11.4g\n", change["name"].get<std::string>().c_str(),
                change["elements"].get<long long>(), number_of(change["max_abs"]),
                number_of(change["relative"]));
  }
  print_rest(changed.size(), shown);
  print_pairs("value", json["values"]);
  print_pairs("configuration key", json["configuration"]);
}

}  // namespace dfmoa::launch
