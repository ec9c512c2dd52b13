// Text from a model: prefill, then one token of every unfinished sequence a pass, over a cache.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "src/base/fields.h"
#include "src/base/random.h"
#include "src/model/transformer.h"

namespace dfmoa::model {

struct SamplingConfig {
  std::int64_t tokens = 128;
  bool greedy = false;
  double temperature = 1.0;
  std::int64_t top_k = 0;
  double top_p = 1.0;
  std::int64_t seed = 0;

  void fields(base::FieldList& list);
};

/// The next token. Greedy: the largest logit. Else a draw from softmax(logit / temperature), cut to
/// the `top_k` likeliest tokens and then to the fewest of them that hold `top_p` of the rest. Equal
/// logits: the lower id comes first.
/// Throws MachineError for logits that are not finite.
[[nodiscard]] std::int32_t choose_token(std::span<const double> logit_V,
                                        const SamplingConfig& config,
                                        const base::KeyedRandom& random);

class Generator {
 public:
  using Prompts = std::vector<std::vector<std::int32_t>>;
  using Spans = std::vector<std::pair<std::int64_t, std::int64_t>>;

  struct Result {
    std::vector<std::int32_t> tokens;  ///< without prompt and stop token
    bool stopped = false;              ///< a stop token came
    /// For every token the mean gate of each expert over the routers that have it, where the token
    /// was predicted. Only when asked for.
    std::vector<std::vector<float>> gates;
  };

  /// The model must outlive the generator. `vocabulary`: only ids below it are chosen, for models
  /// with more embedding rows than their tokenizer has tokens; 0: all.
  Generator(const Transformer& model, const SamplingConfig& config,
            std::vector<std::int32_t> stop_ids, std::int64_t vocabulary = 0);

  /// Told of every token when it comes: its sequence of this batch, and its gates where they are
  /// recorded. False ends the run, with what there is.
  using OnToken =
      std::function<bool(std::size_t sequence, std::int32_t token, std::span<const float> gates)>;

  /// One batch. Draws are keyed by (seed, number of the prompt, position), the first prompt having
  /// number `first`: the same texts however prompts are dealt to batches. `spans`: see
  /// pack_sequences. Throws as check, and MachineError as choose_token.
  [[nodiscard]] std::vector<Result> run(const Prompts& prompts, const Spans& spans,
                                        const OnToken& on_token = {}, bool record_gates = false,
                                        std::uint64_t first = 0) const;

  /// Throws ContentError for a prompt that is empty, too long or holds an id the model does not
  /// have, UsageError where it leaves no room for the tokens asked for.
  void check(const Prompts& prompts) const;

 private:
  const Transformer& model_;
  SamplingConfig config_;
  std::vector<std::int32_t> stop_ids_;
  std::int64_t vocabulary_;
};

}  // namespace dfmoa::model
