// What html_page.h promises about the data of a page.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <tuple>

#include "launch/html_page.h"
#include "src/base/file.h"
#include "src/base/text.h"
#include "src/formats/json.h"
#include "src/model/families.h"

namespace dfmoa::launch {
namespace {

constexpr std::size_t kPoints = 500;   // of one curve
constexpr std::size_t kColumns = 120;  // of the ranks over time

using Series = std::map<std::int64_t, double>;  // step -> value; the last one told holds

/// Layer, and what the name says after it: "12/q".
struct Place {
  std::int64_t layer = 0;
  std::size_t position = 0;  // of a site among the linears of a block
  std::string name;

  bool operator<(const Place& other) const {
    return std::tie(layer, position, name) < std::tie(other.layer, other.position, other.name);
  }
};

Place place_of(const std::string& name) {
  const auto slash = name.find('/');
  const auto site = std::find(model::kSites.begin(), model::kSites.end(), name.substr(slash + 1));
  return {std::strtoll(name.c_str(), nullptr, 10),
          static_cast<std::size_t>(site - model::kSites.begin()), name};
}

/// "rank/12/q/active" between "rank/" and "/active" is "12/q"; empty where the key is another.
std::string between(const std::string& key, const std::string& begin, const std::string& end) {
  if (!key.starts_with(begin) || !key.ends_with(end)) return "";
  if (key.size() <= begin.size() + end.size()) return "";
  const auto name = key.substr(begin.size(), key.size() - begin.size() - end.size());
  const bool has_layer = std::isdigit(static_cast<unsigned char>(name[0])) != 0;
  return has_layer && name.find('/') != std::string::npos ? name : "";
}

struct RunMetrics {
  std::map<std::string, Series> loss;
  std::map<Place, Series> entropy_weights;
  std::map<Place, Series> active;
  std::map<Place, Series> spectral;

  void add(const std::string& key, std::int64_t step, double value) {
    if (key == "train/ce" || key == "eval/loss") loss[key][step] = value;
    if (const auto name = between(key, "entropy_weight/", ""); !name.empty()) {
      entropy_weights[place_of(name)][step] = value;
    }
    if (const auto name = between(key, "rank/", "/active"); !name.empty()) {
      active[place_of(name)][step] = value;
    }
    if (const auto name = between(key, "rank/", "/spectral"); !name.empty()) {
      spectral[place_of(name)][step] = value;
    }
  }
};

bool is_drawn(std::string_view line) {
  for (const std::string_view key :
       {"\"train/ce\"", "\"eval/loss\"", "\"entropy_weight/", "\"rank/"}) {
    if (line.find(key) != std::string_view::npos) return true;
  }
  return false;
}

/// What a killed run left as half a line at the end is not read.
RunMetrics read_metrics(const std::filesystem::path& file) {
  RunMetrics metrics;
  if (!std::filesystem::exists(file)) return metrics;
  const auto text = base::read_file(file);
  std::int64_t number = 0;
  std::size_t begin = 0;
  for (auto end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    const auto line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (!is_drawn(line)) continue;
    const auto json = formats::parse_json_text(line, base::text(file.string(), ":", number));
    if (!json["value"].is_number()) continue;  // a figure that was not finite
    metrics.add(json["key"], json["step"], json["value"]);
  }
  return metrics;
}

/// n so that every n-th of `count` is kept and at most `most` are left, beside the last.
std::size_t stride_for(std::size_t count, std::size_t most) {
  return count == 0 ? 1 : (count + most - 1) / most;
}

nlohmann::json points_of(const Series& series, std::size_t stride) {
  nlohmann::json points = nlohmann::json::array();
  std::size_t at = 0;
  for (const auto& [step, value] : series) {
    if (at % stride == 0 || at + 1 == series.size()) points.push_back({step, value});
    ++at;
  }
  return points;
}

/// The ranks of every linear at the saves of a run.
nlohmann::json ranks_over_time(const RunMetrics& metrics, nlohmann::json& thinned) {
  Series saves;
  for (const auto& [place, series] : metrics.active) {
    for (const auto& [step, value] : series) saves[step] = value;
  }
  const auto stride = stride_for(saves.size(), kColumns);
  thinned["ranks"] = stride;
  std::vector<std::int64_t> steps;
  for (const auto& point : points_of(saves, stride)) steps.push_back(point[0]);
  const auto row_of = [&](const Series& series) {
    nlohmann::json row = nlohmann::json::array();
    for (const auto step : steps) {
      const auto found = series.find(step);
      row.push_back(found == series.end() ? nlohmann::json() : nlohmann::json(found->second));
    }
    return row;
  };
  nlohmann::json rows = nlohmann::json::array();
  for (const auto& [place, series] : metrics.active) {
    const auto spectral = metrics.spectral.find(place);
    rows.push_back(
        {{"name", place.name},
         {"active", row_of(series)},
         {"spectral", row_of(spectral == metrics.spectral.end() ? Series{} : spectral->second)}});
  }
  return {{"steps", steps}, {"rows", rows}};
}

/// The same at the one step of a checkpoint that stands alone.
nlohmann::json ranks_of_checkpoint(const nlohmann::json& found) {
  std::map<Place, std::array<double, 2>> sums;
  for (const auto& site : found["sites"]) {
    auto& sum =
        sums[place_of(site["name"].get<std::string>().substr(std::string("layer/").size()))];
    sum[0] += site["active"].get<double>();
    sum[1] += site["spectral"].get<double>();
  }
  nlohmann::json rows = nlohmann::json::array();
  for (const auto& [place, sum] : sums) {
    rows.push_back({{"name", place.name},
                    {"active", nlohmann::json::array({sum[0]})},
                    {"spectral", nlohmann::json::array({sum[1]})}});
  }
  return {{"steps", nlohmann::json::array({found["step"]})}, {"rows", rows}};
}

template <class Key, class Name>
nlohmann::json curves(const std::map<Key, Series>& all, std::size_t& stride, Name&& name) {
  nlohmann::json json = nlohmann::json::array();
  for (const auto& [key, series] : all) {
    const auto own = stride_for(series.size(), kPoints);
    stride = std::max(stride, own);
    json.push_back({{"name", name(key)}, {"points", points_of(series, own)}});
  }
  return json;
}

void round_numbers(nlohmann::json& json) {
  if (json.is_structured()) {
    for (auto& item : json) round_numbers(item);
  } else if (json.is_number_float()) {
    std::array<char, 32> digits{};
    std::snprintf(digits.data(), digits.size(), "%.5g", json.get<double>());
    json = std::strtod(digits.data(), nullptr);
  }
}

}  // namespace

nlohmann::json page_data(const std::filesystem::path& path, const nlohmann::json& found) {
  auto run = std::filesystem::weakly_canonical(path);
  if (run.parent_path().filename() == "checkpoints") run = run.parent_path().parent_path();
  const auto metrics = read_metrics(run / "metrics.jsonl");
  nlohmann::json data{{"checkpoint", found}};
  for (const char* name : {"sites", "use", "tokens"}) {
    data["checkpoint"].erase(name);
    if (found.contains(name) && std::string(name) != "sites") data[name] = found[name];
  }
  std::size_t loss_stride = 1;
  std::size_t weight_stride = 1;
  data["loss"] = curves(metrics.loss, loss_stride, [](const std::string& key) { return key; });
  data["entropy_weights"] =
      curves(metrics.entropy_weights, weight_stride, [](const Place& place) { return place.name; });
  data["thinned"] = {{"loss", loss_stride}, {"entropy_weights", weight_stride}, {"ranks", 1}};
  data["ranks"] = metrics.active.empty() ? ranks_of_checkpoint(found)
                                         : ranks_over_time(metrics, data["thinned"]);
  round_numbers(data);
  return data;
}

}  // namespace dfmoa::launch
