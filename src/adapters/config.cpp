#include "src/adapters/config.h"

#include <charconv>
#include <cmath>
#include <set>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::adapters {

void AdapterConfig::fields(base::FieldList& list) {
  list.add("kind", kind,
           "lora: low-rank experts on linears; parallel: a small MLP beside the block's; prompt: "
           "trained tokens that every head attends to")
      .one_of({"lora", "parallel", "prompt"});
  list.add(
      "sites", sites,
      "adapted linears (lora): all, or some of q, k, v, o, gate, up, down (GPT-2 has no gate)");
  list.add("layers", layers, "all, or ranges such as 0-15,20");
  list.add("experts", experts, "experts of every adapted linear").range(1, 4096);
  list.add("rank", rank, "directions of one expert at the start").range(1, 65536);
  list.add("alpha", alpha, "LoRA alpha of the whole mixture").range(0, 1e6);
  list.add("scale", scale,
           "rslora: alpha/(sqrt(N) w0); lora: alpha/(N w0), w0 = mean gate; literal: alpha/rank")
      .one_of({"rslora", "lora", "literal"});
  list.add("shared_a", shared_a, "the experts of a linear share one A, as in HydraLoRA");
  list.add("width", width, "parallel: bottleneck, prompt: tokens; 0: 16 and 10").range(0, 65536);
  list.add("router", router, "name of a [router.NAME]; empty: every gate is 1");
  list.add("rank_gate", rank_gate, "name of a [rank.NAME]; empty: fixed rank");
}

std::int64_t AdapterConfig::width_or_default() const {
  if (width > 0) return width;
  return kind == "parallel" ? 16 : 10;
}

void AdapterConfig::validate(const std::string& name) const {
  const auto refuse = [&](const auto&... words) {
    throw base::UsageError(base::text("configuration adapter.", name, ": ", words...));
  };
  if (kind != "lora" && experts != 1) {
    refuse("an adapter of kind ", kind, " is one expert, experts is ", experts, ", expected 1");
  }
  if (kind != "lora" && !rank_gate.empty()) {
    refuse("an adapter of kind ", kind, " has no directions, expected no rank_gate");
  }
  if (kind != "lora" && shared_a) {
    refuse("an adapter of kind ", kind, " has no A that experts could share, expected no shared_a");
  }
  if (kind == "lora" && width != 0) {
    refuse("width is ", width,
           ", but of kind lora it is rank that sets the size: expected no width");
  }
  if (shared_a && !rank_gate.empty()) {
    refuse("directions of a shared A belong to no single expert, expected no rank_gate");
  }
}

double AdapterConfig::scale_factor(double mean_gate) const {
  if (scale == "literal") return alpha / static_cast<double>(rank);
  const auto directions = static_cast<double>(experts * rank);
  return alpha / ((scale == "rslora" ? std::sqrt(directions) : directions) * mean_gate);
}

void RankGateConfig::fields(base::FieldList& list) {
  list.add("kind", kind,
           "hard_concrete: noise per document and a cut; proximal: soft-thresholded and a cut; "
           "norm: cut by |A||B|; svd: by an expert's singular values; literal: sigmoid(m)")
      .one_of({"hard_concrete", "proximal", "norm", "svd", "literal"});
  list.add("budget", budget,
           "directions after the cut, of all adapters that name this gate; 0: no limit")
      .range(0, 1e9);
  list.add("start", start, "share of the steps at which noise and penalty begin").range(0, 1);
  list.add("cut", cut, "share of the steps at which directions are removed").range(0, 1);
  list.add("strength", strength,
           "penalty weight: hard_concrete and proximal without a budget; literal, of mean |m| per "
           "linear")
      .range(0, 1e6);
  list.add("learning_rate", learning_rate, "constant rate of the gates; -1: 10 / steps to the cut")
      .range(-1, 100);
}

namespace {

std::int64_t layer_number(const std::string& section, const std::string& text,
                          std::int64_t num_layers) {
  std::int64_t layer = -1;
  const auto* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, layer);
  if (result.ec != std::errc() || result.ptr != end || layer < 0 || layer >= num_layers) {
    throw base::UsageError(base::text("configuration ", section, ".layers: '", text,
                                      "' matches no layer, expected 0 to ", num_layers - 1));
  }
  return layer;
}

}  // namespace

std::vector<std::int64_t> layers_of(const std::string& section, const std::string& text,
                                    std::int64_t num_layers) {
  std::set<std::int64_t> layers;
  if (text == "all") {
    for (std::int64_t layer = 0; layer < num_layers; ++layer) layers.insert(layer);
  }
  for (const auto& part : text == "all" ? std::vector<std::string>{} : base::split(text, ',')) {
    const auto dash = part.find('-');
    const auto first = layer_number(section, part.substr(0, dash), num_layers);
    const auto last = dash == std::string::npos
                          ? first
                          : layer_number(section, part.substr(dash + 1), num_layers);
    for (auto layer = first; layer <= last; ++layer) layers.insert(layer);
  }
  if (layers.empty()) {
    throw base::UsageError(
        base::text("configuration ", section, ".layers = ", text,
                   ": matches no layer, expected all or ranges such as 0-15,20"));
  }
  return {layers.begin(), layers.end()};
}

}  // namespace dfmoa::adapters
