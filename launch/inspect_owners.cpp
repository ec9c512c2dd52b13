#include <cstdio>

#include "distributed/ownership.h"
#include "launch/inspect.h"
#include "src/base/text.h"

namespace dfmoa::launch {

nlohmann::json owners_of(const model::Transformer& model,
                         const distributed::ParallelConfig& config) {
  const auto processes = static_cast<int>(config.expert);
  distributed::Ownership ownership(config, processes);
  const bool owns_experts = config.chosen() != distributed::Transport::replicate;
  nlohmann::json layers = nlohmann::json::array();
  std::vector<std::int64_t> parameters(static_cast<std::size_t>(processes));
  for (const auto& block : model.blocks()) {
    if (block.whole().empty()) continue;
    const auto& owners = ownership.choose(block.whole(), block.shape(), block.layer());
    nlohmann::json units = nlohmann::json::array();
    for (const auto& unit : distributed::units_of(block.whole(), block.shape())) {
      if (!owns_experts) break;  // only heads run at owners
      const auto owner = owners.units.at(unit.name);
      parameters[static_cast<std::size_t>(owner)] += unit.parameters;
      units.push_back({{"name", unit.name}, {"process", owner}, {"parameters", unit.parameters}});
    }
    layers.push_back({{"layer", block.layer()}, {"experts", units}});
    if (!block.whole().attention.empty()) layers.back()["heads"] = owners.head_H;
  }
  nlohmann::json told{{"processes", processes}, {"layers", layers}};
  if (owns_experts) told["parameters"] = parameters;
  return told;
}

void print_owners(const nlohmann::json& owners) {
  const bool owns_experts = owners.contains("parameters");
  std::printf("\nowners: %d processes share the %s of a copy of the model\n",
              owners["processes"].get<int>(), owns_experts ? "experts" : "attention heads");
  const auto parameters = owners.value("parameters", nlohmann::json::array());
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    std::printf("process %-10zu %12lld parameters of experts and adapters\n", p,
                static_cast<long long>(parameters[p].get<std::int64_t>()));
  }
  for (const auto& layer : owners["layers"]) {
    std::string text;
    for (const auto& unit : layer["experts"]) {
      text += base::text(" ", unit["name"].get<std::string>(), ":", unit["process"].get<int>());
    }
    if (layer.contains("heads")) text += "  heads " + numbers_text(layer["heads"]);
    std::printf("layer %-12d%s\n", layer["layer"].get<int>(), text.c_str());
  }
}

}  // namespace dfmoa::launch
