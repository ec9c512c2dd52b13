#include "src/model/generate.h"

#include <limits>
#include <set>

#include "src/base/error.h"
#include "src/data/packing.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/tiny_gpt2.h"

namespace dfmoa::model {
namespace {

using formats::contains;
using formats::sentence_of;
using Tokens = std::vector<std::int32_t>;

const Generator::Prompts kPrompts{{65, 3, 99, 17, 200}, {7, 8}, {41, 272, 5, 5, 9, 120, 33}};

class Generate : public formats::TemporaryFolder {
 protected:
  void SetUp() override {
    formats::TemporaryFolder::SetUp();
    write_tiny_model(folder_);
  }

  Transformer mixture(const std::string& scope, at::ScalarType dtype = at::kDouble) {
    Transformer model(load_tiny_model(folder_, dtype));
    model.adapt(tiny_plan(scope), 3);
    stir(model);
    return model;
  }

  static SamplingConfig greedy(std::int64_t tokens = 6) {
    SamplingConfig config;
    config.greedy = true;
    config.tokens = tokens;
    return config;
  }

  static SamplingConfig sampled(std::int64_t seed) {
    SamplingConfig config;
    config.tokens = 6;
    config.seed = seed;
    return config;
  }
};

at::Tensor all_logits(const Transformer& model, const at::Tensor& x_TD) {
  return model.logits(x_TD, at::arange(x_TD.size(0), at::kLong));
}

struct DecodeCase {
  std::string scope;
  at::ScalarType dtype;
  double tolerance;  // of the largest logit: sums run in another order
  bool gpt2 = false;
};

class Decode : public Generate, public testing::WithParamInterface<DecodeCase> {};

/// Three unequal sequences; in every later pass another one pauses, one gets several tokens at
/// once.
TEST_P(Decode, prefill_and_passes_equal_one_whole_forward_of_each_sequence_alone) {
  if (GetParam().gpt2) write_tiny_gpt2(folder_);
  const auto model = mixture(GetParam().scope, GetParam().dtype);
  const std::vector<Generator::Prompts> passes{
      kPrompts, {{}, {5}, {8}}, {{1, 2, 3}, {}, {9}}, {{4}, {6, 7}, {}}};
  DecodeCache cache(2, kPrompts.size());
  std::vector<std::vector<at::Tensor>> seen(kPrompts.size());
  std::vector<std::int64_t> start(kPrompts.size(), 0);
  Generator::Prompts wholes(kPrompts.size());
  for (const auto& fed : passes) {
    const auto logit_TV = all_logits(model, model.hidden(model.pack_sequences(fed, start), &cache));
    std::int64_t row = 0;
    for (std::size_t d = 0; d < fed.size(); ++d) {
      const auto count = static_cast<std::int64_t>(fed[d].size());
      seen[d].push_back(logit_TV.narrow(0, row, count));
      row += count;
      start[d] += count;
      wholes[d].insert(wholes[d].end(), fed[d].begin(), fed[d].end());
    }
  }
  for (std::size_t d = 0; d < kPrompts.size(); ++d) {
    const auto prompt = static_cast<std::int64_t>(kPrompts[d].size());
    const auto rows = model.pack_sequences({wholes[d]}, {0}, {{0, prompt - 1}});
    const auto expected = all_logits(model, model.hidden(rows));
    const auto decoded = at::cat(seen[d]);
    ASSERT_EQ(decoded.sizes(), expected.sizes());
    const auto largest = expected.abs().max().item<double>();
    const auto error = (decoded - expected).abs().max().item<double>();
    EXPECT_LT(error, GetParam().tolerance * largest) << "sequence " << d;
  }
}

INSTANTIATE_TEST_SUITE_P(Scopes, Decode,
                         testing::Values(DecodeCase{"token", at::kFloat, 1e-5},
                                         DecodeCase{"token", at::kDouble, 1e-12},
                                         DecodeCase{"span", at::kFloat, 1e-5},
                                         DecodeCase{"span", at::kDouble, 1e-12},
                                         DecodeCase{"token", at::kFloat, 1e-5, true},
                                         DecodeCase{"span", at::kDouble, 1e-12, true}),
                         [](const auto& test) {
                           return (test.param.gpt2 ? "gpt2_" : "") + test.param.scope + "_" +
                                  c10::toString(test.param.dtype);
                         });

TEST_F(Generate, a_pass_without_any_new_token_is_legal) {
  const auto model = mixture("span");
  DecodeCache cache(2, 1);
  (void)model.hidden(model.pack_sequences({{5, 6, 7}}, {0}), &cache);
  EXPECT_EQ(model.hidden(model.pack_sequences({{}}, {3}), &cache).size(0), 0);
  EXPECT_EQ(cache.layers[0][0].length, 3);
}

/// What is pooled decides the gate: generation must pool what training pooled.
TEST_F(Generate, span_gates_read_the_tokens_that_training_reads) {
  const auto model = mixture("span");
  data::Sample sample;
  sample.token = {10, 11, 12, 13, 14, 15};
  sample.trained = {0, 0, 0, 0, 1, 1};
  sample.prompt_tokens = 4;
  for (const std::pair<std::int64_t, std::int64_t> span : {std::pair{0, 0}, std::pair{1, 3}}) {
    sample.span_begin = span.first;
    sample.span_end = span.second;
    data::PackedRow row;
    row.append(sample, 0, 0, 6);
    const auto trained = model.pack(row).documents.pool_DT.at("span");
    const auto prompt =
        model.pack_sequences({{10, 11, 12, 13}}, {0}, {span}).documents.pool_DT.at("span");
    EXPECT_TRUE(at::equal(trained.narrow(1, 0, 4), prompt)) << span.first;
    EXPECT_EQ(trained.narrow(1, 4, 2).abs().sum().item<double>(), 0);
  }
}

TEST_F(Generate, refuses_a_span_without_a_token_or_outside_its_prompt) {
  const auto model = mixture("span");
  for (const std::pair<std::int64_t, std::int64_t> span : {std::pair{0, 0}, std::pair{0, 2}}) {
    const auto sentence = sentence_of<base::ContentError>(
        [&] { (void)Generator(model, greedy(), {}).run({{5}}, {span}); });
    EXPECT_TRUE(contains(sentence, "no token to read")) << sentence;
  }
}

TEST_F(Generate, greedy_tokens_are_the_largest_logits_of_whole_forwards) {
  const auto model = mixture("token");
  const auto results = Generator(model, greedy(), {}).run(kPrompts, {});
  ASSERT_EQ(results.size(), 3U);
  for (std::size_t d = 0; d < kPrompts.size(); ++d) {
    auto whole = kPrompts[d];
    ASSERT_EQ(results[d].tokens.size(), 6U);
    EXPECT_FALSE(results[d].stopped);
    for (const auto token : results[d].tokens) {
      const auto logits = all_logits(model, model.hidden(model.pack_sequences({whole}, {0})));
      EXPECT_EQ(logits[-1].argmax().item<std::int64_t>(), token) << d;
      whole.push_back(token);
    }
  }
}

TEST_F(Generate, the_same_texts_in_one_batch_and_one_by_one) {
  for (const std::string scope : {"token", "span"}) {
    const auto model = mixture(scope);
    for (const auto& config : {greedy(), sampled(11)}) {
      const Generator generator(model, config, {});
      const Generator::Spans spans{{1, 3}, {0, 1}, {0, 0}};
      const auto together = generator.run(kPrompts, spans);
      for (std::size_t d = 0; d < kPrompts.size(); ++d) {
        const auto alone = generator.run({kPrompts[d]}, {spans[d]}, {}, false, d);
        EXPECT_EQ(together[d].tokens, alone[0].tokens) << scope << d;
      }
    }
  }
}

/// A router that reads each token beside one that reads the prompt once; either is a block's first.
TEST_F(Generate, routers_of_both_scopes_in_one_block_decode_together_as_alone) {
  for (const std::string first : {"span", "token"}) {
    Transformer model(load_tiny_model(folder_, at::kDouble));
    auto plan = tiny_plan(first);  // adapter "mix", router "main"
    plan.routers["other"].scope = first == "span" ? "token" : "span";
    plan.adapters["other"] = plan.adapters["mix"];
    plan.adapters["other"].router = "other";
    plan.adapters["mix"].sites = {"q", "v"};
    plan.adapters["other"].sites = {"up", "down"};
    model.adapt(plan, 3);
    stir(model);
    const Generator generator(model, sampled(4), {});
    const auto together = generator.run(kPrompts, {});
    for (std::size_t d = 0; d < kPrompts.size(); ++d) {
      EXPECT_EQ(together[d].tokens, generator.run({kPrompts[d]}, {}, {}, false, d)[0].tokens);
    }
  }
}

/// Sequences that end early leave the batch at different steps; the cuts of the draw are on.
TEST_F(Generate, the_same_texts_together_and_alone_with_stops_and_cuts) {
  std::vector<std::int32_t> stops;
  for (std::int32_t token = 0; token < 273; token += 16) stops.push_back(token);
  const Generator::Spans spans{{1, 3}, {0, 1}, {0, 0}};
  for (const std::string scope : {"token", "span"}) {
    const auto model = mixture(scope);
    bool an_early_one_ended_first = false;
    for (const std::int64_t seed : {1, 2, 3, 4, 5, 6}) {
      auto config = sampled(seed);
      config.tokens = 24;
      config.top_k = 40;
      config.top_p = 0.9;
      const Generator generator(model, config, stops);
      const auto together = generator.run(kPrompts, spans);
      for (std::size_t d = 0; d < kPrompts.size(); ++d) {
        const auto alone = generator.run({kPrompts[d]}, {spans[d]}, {}, false, d)[0];
        EXPECT_EQ(together[d].tokens, alone.tokens) << scope << seed << d;
        EXPECT_EQ(together[d].stopped, alone.stopped) << scope << seed << d;
        an_early_one_ended_first =
            an_early_one_ended_first ||
            (d > 0 && together[d - 1].tokens.size() + 1 < together[d].tokens.size());
      }
    }
    EXPECT_TRUE(an_early_one_ended_first) << "else places in the batch never change";
  }
}

TEST_F(Generate, draws_differ_by_seed_and_by_sequence_and_repeat) {
  const auto model = mixture("token");
  const Generator::Prompts twice{kPrompts[0], kPrompts[0]};
  const auto first = Generator(model, sampled(1), {}).run(twice, {});
  EXPECT_NE(first[0].tokens, first[1].tokens);
  EXPECT_EQ(Generator(model, sampled(1), {}).run(twice, {})[1].tokens, first[1].tokens);
  EXPECT_NE(Generator(model, sampled(2), {}).run(twice, {})[0].tokens, first[0].tokens);
}

TEST_F(Generate, every_position_has_a_draw_of_its_own) {
  auto config = sampled(1);
  config.temperature = 1000;  // all tokens are as likely: one draw would give one token
  const auto tokens = Generator(mixture("token"), config, {}).run({{5}}, {})[0].tokens;
  EXPECT_GE(std::set(tokens.begin(), tokens.end()).size(), 4U);
}

TEST_F(Generate, top_k_of_one_is_greedy) {
  const auto model = mixture("token");
  auto config = sampled(5);
  config.top_k = 1;
  const auto drawn = Generator(model, config, {}).run(kPrompts, {});
  const auto best = Generator(model, greedy(), {}).run(kPrompts, {});
  for (std::size_t d = 0; d < kPrompts.size(); ++d) EXPECT_EQ(drawn[d].tokens, best[d].tokens);
}

TEST_F(Generate, a_stop_token_ends_its_sequence_and_disturbs_no_other) {
  const auto model = mixture("span");
  const auto free = Generator(model, greedy(), {}).run(kPrompts, {});
  const auto stop = free[1].tokens[2];
  const auto stopped = Generator(model, greedy(), {stop}).run(kPrompts, {});
  for (std::size_t d = 0; d < kPrompts.size(); ++d) {
    const auto end = std::find(free[d].tokens.begin(), free[d].tokens.end(), stop);
    EXPECT_EQ(stopped[d].tokens, Tokens(free[d].tokens.begin(), end)) << d;
    EXPECT_EQ(stopped[d].stopped, end != free[d].tokens.end()) << d;
  }
  EXPECT_TRUE(stopped[1].stopped);
}

TEST_F(Generate, tells_of_every_token_when_it_comes) {
  const auto model = mixture("token");
  std::vector<Tokens> told(kPrompts.size());
  const auto results = Generator(model, greedy(), {})
                           .run(kPrompts, {}, [&](std::size_t d, std::int32_t token, auto) {
                             told[d].push_back(token);
                             return true;
                           });
  for (std::size_t d = 0; d < kPrompts.size(); ++d) EXPECT_EQ(told[d], results[d].tokens);
}

TEST_F(Generate, tells_the_gates_of_a_token_and_ends_when_told_to) {
  const auto model = mixture("token");
  const Generator generator(model, greedy(), {});
  const auto all = generator.run({kPrompts[0]}, {}, {}, true)[0];
  std::size_t count = 0;
  const auto on_token = [&](std::size_t, std::int32_t, std::span<const float> gates) {
    EXPECT_EQ(std::vector<float>(gates.begin(), gates.end()), all.gates[count]);
    return ++count < 3;
  };
  const auto result = generator.run({kPrompts[0]}, {}, on_token, true)[0];
  EXPECT_EQ(count, 3U);
  EXPECT_EQ(result.tokens, Tokens(all.tokens.begin(), all.tokens.begin() + 3));
  EXPECT_FALSE(result.stopped);
  (void)generator.run({kPrompts[0]}, {}, [&](std::size_t, std::int32_t, auto gates) {
    EXPECT_TRUE(gates.empty()) << "not recorded";
    return false;
  });
}

TEST_F(Generate, records_the_mean_gate_of_every_token_when_asked) {
  const auto model = mixture("span");
  const Generator generator(model, greedy(), {});
  EXPECT_TRUE(generator.run(kPrompts, {})[0].gates.empty());
  for (const auto& result : generator.run(kPrompts, {}, {}, true)) {
    ASSERT_EQ(result.gates.size(), result.tokens.size());
    float sum = 0;
    ASSERT_EQ(result.gates[0].size(), 3U);
    for (const auto gate : result.gates[0]) sum += gate;
    EXPECT_NEAR(sum, 1, 1e-6) << "two routers, each with gates of sum 1";
    EXPECT_EQ(result.gates[0], result.gates[5]) << "one gate for a document of scope span";
  }
  const auto by_token = mixture("token");
  const Generator of_tokens(by_token, greedy(), {});
  const auto together = of_tokens.run(kPrompts, {}, {}, true);
  const auto alone = of_tokens.run({kPrompts[2]}, {}, {}, true, 2);
  EXPECT_NE(together[2].gates[0], together[2].gates[5]);
  for (std::size_t e = 0; e < 3; ++e) {
    EXPECT_NEAR(together[2].gates[0][e], alone[0].gates[0][e], 1e-6) << "of its own row";
  }
}

TEST_F(Generate, chooses_only_ids_that_the_tokenizer_has) {
  const auto model = mixture("token");
  auto config = sampled(1);
  config.temperature = 100;
  for (const auto& result : Generator(model, config, {}, 4).run(kPrompts, {})) {
    for (const auto token : result.tokens) EXPECT_LT(token, 4);
  }
}

TEST_F(Generate, refuses_prompts_it_cannot_go_on_from) {
  const auto model = mixture("token");
  const Generator generator(model, greedy(60), {});
  const auto refusal = [&](const Tokens& prompt) {
    return sentence_of<base::ContentError>([&] { (void)generator.run({prompt}, {}); });
  };
  EXPECT_EQ(generator.run({{1, 2, 3, 4}}, {})[0].tokens.size(), 60U) << "64 positions: just fits";
  const auto no_room = sentence_of<base::UsageError>([&] {
    (void)generator.run({{1, 2, 3, 4, 5}}, {});
  });
  EXPECT_TRUE(contains(no_room, "5 tokens and 60 more")) << no_room;
  EXPECT_TRUE(contains(no_room, "64")) << no_room;
  EXPECT_TRUE(contains(refusal(Tokens(64, 1)), "64 tokens and 60 more"));
  EXPECT_TRUE(contains(refusal({}), "has no token"));
  EXPECT_TRUE(contains(refusal({273}), "holds token 273, expected 0 to 272"));
  EXPECT_TRUE(contains(refusal({-1}), "holds token -1"));
}

TEST(ChooseToken, draws_each_token_as_often_as_its_probability_says) {
  const std::vector<double> logit_V{std::log(0.5), std::log(0.2), std::log(0.3)};
  const auto shares = [&](const SamplingConfig& config) {
    std::vector<double> share(3, 0.0);
    for (std::uint64_t i = 0; i < 4000; ++i) {
      share[static_cast<std::size_t>(choose_token(logit_V, config, {7, {i}}))] += 1.0 / 4000;
    }
    return share;
  };
  const double noise = 0.03;  // four standard deviations of a share of 4000 draws
  SamplingConfig config;
  EXPECT_NEAR(shares(config)[0], 0.5, noise);
  EXPECT_NEAR(shares(config)[1], 0.2, noise);
  config.top_k = 2;
  EXPECT_NEAR(shares(config)[0], 0.5 / 0.8, noise);
  EXPECT_EQ(shares(config)[1], 0);
  config.top_k = 0;
  config.top_p = 0.75;  // 0.5 + 0.3: the fewest that hold it
  EXPECT_NEAR(shares(config)[2], 0.3 / 0.8, noise);
  EXPECT_EQ(shares(config)[1], 0);
  config.top_p = 0.4;
  EXPECT_NEAR(shares(config)[0], 1, 1e-9) << "the likeliest token is always kept";
  config.top_p = 1;
  config.temperature = 0.5;  // probabilities squared
  EXPECT_NEAR(shares(config)[0], 0.25 / 0.38, noise);
}

TEST(ChooseToken, equal_logits_go_to_the_lowest_id) {
  SamplingConfig config;
  config.top_k = 1;
  EXPECT_EQ(choose_token(std::vector<double>{1, 3, 3}, config, {0, {}}), 1);
  config.greedy = true;
  EXPECT_EQ(choose_token(std::vector<double>{1, 3, 3}, config, {0, {}}), 1);
}

TEST(ChooseToken, refuses_logits_that_are_no_numbers) {
  const std::vector<double> logit_V{0, std::numeric_limits<double>::quiet_NaN()};
  const auto sentence = sentence_of<base::MachineError>([&] {
    (void)choose_token(logit_V, {}, {0, {}});
  });
  EXPECT_TRUE(contains(sentence, "logit of token 1 is nan")) << sentence;
}

TEST(SamplingConfig, fields_refuse_what_cannot_be_drawn) {
  SamplingConfig config;
  auto fields = base::FieldList::of(config);
  fields.assign("generate", "top_p", "0.9");
  EXPECT_EQ(config.top_p, 0.9);
  EXPECT_THROW(fields.assign("generate", "temperature", "0"), base::UsageError);
  EXPECT_THROW(fields.assign("generate", "top_p", "1.5"), base::UsageError);
  EXPECT_THROW(fields.assign("generate", "tokens", "-1"), base::UsageError);
}

}  // namespace
}  // namespace dfmoa::model
