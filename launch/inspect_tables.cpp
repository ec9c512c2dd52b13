#include <cstdio>
#include <iostream>

#include "launch/inspect.h"
#include "src/base/text.h"

namespace dfmoa::launch {
namespace {

void print_experts(const nlohmann::json& sites) {
  std::printf("\n%-18s %6s %6s %7s %9s %9s\n", "linear", "expert", "rank", "active", "expected",
              "spectral");
  for (const auto& site : sites) {
    std::printf("%-18s %6d %6d %7d %9.2f %9.2f\n", site["name"].get<std::string>().c_str(),
                site["expert"].get<int>(), site["rank"].get<int>(), site["active"].get<int>(),
                site["expected"].get<double>(), site["spectral"].get<double>());
  }
}

/// The experts of every linear together.
void print_linears(const nlohmann::json& sites) {
  std::printf("\n%-18s %7s %6s %7s %9s %9s\n", "all experts of", "experts", "rank", "active",
              "expected", "spectral");
  for (std::size_t first = 0; first < sites.size();) {
    int experts = 0;
    int rank = 0;
    int active = 0;
    double expected = 0;
    double spectral = 0;
    auto at = first;
    for (; at < sites.size() && sites[at]["name"] == sites[first]["name"]; ++at) {
      ++experts;
      rank += sites[at]["rank"].get<int>();
      active += sites[at]["active"].get<int>();
      expected += sites[at]["expected"].get<double>();
      spectral += sites[at]["spectral"].get<double>();
    }
    std::printf("%-18s %7d %6d %7d %9.2f %9.2f\n", sites[first]["name"].get<std::string>().c_str(),
                experts, rank, active, expected, spectral);
    first = at;
  }
}

void print_dimensions(const nlohmann::json& dimensions) {
  std::printf("\n%-18s %7s %7s %9s %7s\n", "head dimensions", "total", "active", "expected",
              "open");
  for (const auto& mask : dimensions) {
    const int total = mask["total"].get<int>();
    const int active = mask["active"].get<int>();
    std::printf("%-18s %7d %7d %9.2f %5.1f %%\n", mask["name"].get<std::string>().c_str(), total,
                active, mask["expected"].get<double>(), 100.0 * active / total);
  }
}

/// Routers of experts, or of heads; nothing where there is none.
void print_routers(const nlohmann::json& routers, bool of_heads) {
  bool is_first = true;
  for (const auto& router : routers) {
    if (router.contains("of_heads") != of_heads) continue;
    if (is_first) {
      std::printf("\n%-18s %9s %9s %7s %-8s %s\n", of_heads ? "head router" : "router", "entropy",
                  "weight", "load_cv", "dead",
                  of_heads ? "mean gate of every head" : "load of every expert");
      is_first = false;
    }
    std::printf("%-18s %9.4f %9.5f %7.3f %-8s", router["name"].get<std::string>().c_str(),
                router["entropy"].get<double>(), router["entropy_weight"].get<double>(),
                router["load_cv"].get<double>(), numbers_text(router["dead"]).c_str());
    const auto& shown = router[of_heads ? "mean_gate" : "load"];
    for (std::size_t e = 0; e < shown.size(); ++e) {
      const auto label =
          router.contains("labels") ? router["labels"][e].get<std::string>() + ":" : std::string();
      std::printf(" %s%.3f", label.c_str(), shown[e].get<double>());
    }
    std::printf("\n");
  }
}

void print_gates(const nlohmann::json& routers) {
  print_routers(routers, /*of_heads=*/false);
  print_routers(routers, /*of_heads=*/true);
  std::printf(
      "dead: no token of the last step chose the expert or head, or its load is below %g / E\n",
      kDeadShare);
}

}  // namespace

std::string numbers_text(const nlohmann::json& numbers) {
  std::vector<std::string> texts;
  for (const auto& number : numbers) texts.push_back(number.dump());
  return texts.empty() ? "none" : base::join(texts, ",");
}

void print_checkpoint(const nlohmann::json& json) {
  auto values = json;
  for (const char* table : {"use", "tokens", "owners"}) values.erase(table);
  print_values(values);
  std::cout.flush();  // the tables go through stdio
  if (json.contains("sites") && !json["sites"].empty()) {
    print_experts(json["sites"]);
    print_linears(json["sites"]);
  }
  if (json.contains("dimensions") && !json["dimensions"].empty()) {
    print_dimensions(json["dimensions"]);
  }
  if (json.contains("owners")) print_owners(json["owners"]);
  if (json.contains("routers")) print_gates(json["routers"]);
  if (json.contains("use")) print_use(json["use"]);
  if (json.contains("tokens")) print_tokens(json["tokens"]);
}

}  // namespace dfmoa::launch
