#include "src/model/generate.h"

#include <numeric>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/model/gate_record.h"

namespace dfmoa::model {
namespace {

std::size_t largest(std::span<const double> logit_V) {
  return static_cast<std::size_t>(std::max_element(logit_V.begin(), logit_V.end()) -
                                  logit_V.begin());
}

/// Ids that may be drawn; likeliest first where a cut needs the order.
std::vector<std::size_t> candidates(std::span<const double> logit_V, const SamplingConfig& config) {
  std::vector<std::size_t> id(logit_V.size());
  std::iota(id.begin(), id.end(), std::size_t{0});
  const auto likelier = [&](std::size_t a, std::size_t b) {
    return logit_V[a] != logit_V[b] ? logit_V[a] > logit_V[b] : a < b;
  };
  const auto kept = static_cast<std::size_t>(config.top_k);
  if (kept > 0 && kept < id.size()) {
    std::nth_element(id.begin(), id.begin() + config.top_k, id.end(), likelier);
    id.resize(kept);
  }
  if (config.top_k > 0 || config.top_p < 1.0) std::sort(id.begin(), id.end(), likelier);
  return id;
}

/// The gates where this token was predicted; empty for a model without routers of experts.
std::vector<float> gates_of_row(const at::Tensor& mean_TE, std::int64_t row) {
  if (!mean_TE.defined()) return {};
  const auto mean_E = mean_TE[row].to(at::kFloat).contiguous();
  const auto* gate = mean_E.const_data_ptr<float>();
  return {gate, gate + mean_E.size(0)};
}

/// The sequences of a run. A finished one stays in its place with no new tokens.
struct Batch {
  Generator::Prompts fed;           // new tokens of this pass
  std::vector<std::int64_t> start;  // position of the first of them
  DecodeCache cache;

  Batch(const Generator::Prompts& prompts, std::int64_t num_layers)
      : fed(prompts), start(prompts.size(), 0), cache(num_layers, prompts.size()) {}

  /// Sequences with new tokens, and the row of the last token of each.
  [[nodiscard]] std::pair<std::vector<std::size_t>, std::vector<std::int64_t>> live() const {
    std::vector<std::size_t> sequences;
    std::vector<std::int64_t> rows;
    std::int64_t end = 0;
    for (std::size_t d = 0; d < fed.size(); ++d) {
      if (fed[d].empty()) continue;
      end += static_cast<std::int64_t>(fed[d].size());
      sequences.push_back(d);
      rows.push_back(end - 1);
    }
    return {sequences, rows};
  }

  void go_on(std::size_t d, std::int32_t token) {
    start[d] += static_cast<std::int64_t>(fed[d].size());
    fed[d] = {token};
  }

  void finish(std::size_t d) {
    start[d] += static_cast<std::int64_t>(fed[d].size());
    fed[d].clear();
    cache.release(d);  // its memory serves the others
  }
};

}  // namespace

void SamplingConfig::fields(base::FieldList& list) {
  list.add("tokens", tokens, "tokens to generate at most").range(0, 1e9);
  list.add("greedy", greedy, "always the likeliest token");
  list.add("temperature", temperature, "logits are divided by it").range(1e-3, 1e3);
  list.add("top_k", top_k, "draw from this many likeliest tokens; 0: from all").range(0, 1e9);
  list.add("top_p", top_p, "draw from the fewest tokens that hold this probability").range(1e-6, 1);
  list.add("seed", seed, "of the draws").range(0, 1e18);
}

std::int32_t choose_token(std::span<const double> logit_V, const SamplingConfig& config,
                          const base::KeyedRandom& random) {
  for (std::size_t v = 0; v < logit_V.size(); ++v) {
    if (!std::isfinite(logit_V[v])) {
      throw base::MachineError(base::text("generating: the logit of token ", v, " is ", logit_V[v],
                                          ", expected a finite number"));
    }
  }
  const auto best = largest(logit_V);
  if (config.greedy) return static_cast<std::int32_t>(best);
  auto id = candidates(logit_V, config);
  std::vector<double> weight;
  double total = 0;
  for (const auto v : id) {
    weight.push_back(std::exp((logit_V[v] - logit_V[best]) / config.temperature));
    total += weight.back();
  }
  if (config.top_p < 1.0) {
    const double wanted = config.top_p * total;
    std::size_t kept = 0;
    for (total = 0; kept < id.size() && total < wanted; ++kept) total += weight[kept];
    id.resize(kept);
  }
  const double draw = random.uniform(0) * total;
  double sum = 0;
  for (std::size_t i = 0; i < id.size(); ++i) {
    sum += weight[i];
    if (draw < sum) return static_cast<std::int32_t>(id[i]);
  }
  return static_cast<std::int32_t>(id.back());  // the sum rounded below the draw
}

Generator::Generator(const Transformer& model, const SamplingConfig& config,
                     std::vector<std::int32_t> stop_ids, std::int64_t vocabulary)
    : model_(model), config_(config), stop_ids_(std::move(stop_ids)), vocabulary_(vocabulary) {
  const auto rows = model.base().architecture.vocabulary;
  if (vocabulary_ <= 0 || vocabulary_ > rows) vocabulary_ = rows;
}

void Generator::check(const Prompts& prompts) const {
  const auto& architecture = model_.base().architecture;
  for (std::size_t d = 0; d < prompts.size(); ++d) {
    const auto length = static_cast<std::int64_t>(prompts[d].size());
    if (length == 0) {
      throw base::ContentError(
          base::text("generating: prompt ", d, " has no token, expected at least one"));
    }
    if (length + config_.tokens > architecture.max_positions) {
      const auto sentence =
          base::text("generating: prompt ", d, " has ", length, " tokens and ", config_.tokens,
                     " more were asked for, expected at most the ", architecture.max_positions,
                     " positions of the model together");
      if (length >= architecture.max_positions) throw base::ContentError(sentence);
      throw base::UsageError(sentence);  // fewer would do
    }
    for (const auto token : prompts[d]) {
      if (token < 0 || token >= architecture.vocabulary) {
        throw base::ContentError(base::text("generating: prompt ", d, " holds token ", token,
                                            ", expected 0 to ", architecture.vocabulary - 1));
      }
    }
  }
}

std::vector<Generator::Result> Generator::run(const Prompts& prompts, const Spans& spans,
                                              const OnToken& on_token, bool record_gates,
                                              std::uint64_t first) const {
  check(prompts);
  std::vector<Result> results(prompts.size());
  Batch batch(prompts, model_.base().architecture.layers);
  for (std::int64_t step = 0; step < config_.tokens; ++step) {
    const auto [sequences, last_rows] = batch.live();
    if (sequences.empty()) break;
    const auto rows = model_.pack_sequences(batch.fed, batch.start, spans);
    GateRecord record(model_);
    const auto x_TD = model_.hidden(rows, &batch.cache, record_gates ? &record : nullptr);
    const auto gate_TE = record.mean_of_experts();
    const auto row_X = torch::tensor(last_rows, torch::kLong).to(x_TD.device());
    const auto logit_XV = model_.logits(x_TD, row_X).to(at::kCPU, at::kDouble).contiguous();
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const auto d = sequences[i];
      const auto position = batch.start[d] + static_cast<std::int64_t>(batch.fed[d].size());
      const base::KeyedRandom random(static_cast<std::uint64_t>(config_.seed),
                                     {first + d, static_cast<std::uint64_t>(position)});
      const auto* logit_V = logit_XV[static_cast<std::int64_t>(i)].const_data_ptr<double>();
      const auto token =
          choose_token({logit_V, static_cast<std::size_t>(vocabulary_)}, config_, random);
      if (std::find(stop_ids_.begin(), stop_ids_.end(), token) != stop_ids_.end()) {
        results[d].stopped = true;
        batch.finish(d);
        continue;
      }
      results[d].tokens.push_back(token);
      if (record_gates) results[d].gates.push_back(gates_of_row(gate_TE, last_rows[i]));
      batch.go_on(d, token);
      const auto gate_E =
          record_gates ? std::span<const float>(results[d].gates.back()) : std::span<const float>();
      if (on_token && !on_token(d, token, gate_E)) return results;
    }
  }
  return results;
}

}  // namespace dfmoa::model
