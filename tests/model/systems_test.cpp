// The laws of the model for every system: it starts as its base, is causal, decodes what it would
// compute at once, and has the gradients of its formula.
#include <gtest/gtest.h>

#include "src/adapters/rank_gate.h"
#include "tests/support/systems.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_gpt2.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::model {
namespace {

using tests::System;

/// Prompts of three tokens, the rest answers.
data::PackedRow prompted_row(const std::vector<std::int64_t>& lengths) {
  auto row = tiny_row(lengths);
  for (std::size_t d = 0; d < lengths.size(); ++d) {
    const auto begin = row.document_begin[d];
    row.prompt_end[d] = begin + 2;
    for (auto t = begin; t < begin + 2; ++t) row.target_T[static_cast<std::size_t>(t)] = -1;
    row.span_end[d] = row.span_begin[d];  // not marked
  }
  return row;
}

/// Gates in the middle of their range, on top of what `stir` does.
void stir_all(Transformer& model) {
  stir(model, 0.05);  // more, and three layers of it amplify the rounding of fp32 beyond sense
  const at::NoGradGuard no_grad;
  for (auto& block : model.blocks()) {
    auto& parameters = block.parameters();
    for (const auto& spec : parameters.specs()) {
      if (spec.group < adapters::ParameterGroup::rank_gate) continue;
      auto leaf = parameters.leaf(spec.name);
      leaf.add_(random_normal(leaf.sizes(), 0.8, 4, base::text(block.layer(), spec.name)));
    }
  }
}

Transformer adapted(const System& system, const std::shared_ptr<const BaseModel>& base) {
  Transformer model(base);
  model.adapt(system.plan, 3);
  return model;
}

TinyShape heads_of(std::int64_t heads, std::int64_t kv_heads) {
  TinyShape shape;
  shape.heads = heads;
  shape.kv_heads = kv_heads;
  shape.hidden = 2 * heads;
  return shape;
}

void expect_its_base(const System& system, const std::shared_ptr<const BaseModel>& base) {
  const Transformer bare(base);
  const auto mixed = adapted(system, base);
  EXPECT_GT(mixed.trainable_parameters(), 0);
  const auto expected = bare.hidden(bare.pack(prompted_row({6, 5})));
  EXPECT_TRUE(at::equal(mixed.hidden(mixed.pack(prompted_row({6, 5}))), expected))
      << base->architecture.heads << " heads";
}

/// Outputs of a prompt may depend on all of it; nothing else on a later token, nor on another
/// document.
void expect_causal(const System& system, const std::shared_ptr<const BaseModel>& base) {
  auto mixed = adapted(system, base);
  stir_all(mixed);
  const auto row = prompted_row({6, 5});
  const auto before = mixed.hidden(mixed.pack(row));
  for (std::int64_t s = 0; s < 11; ++s) {
    auto changed = row;
    auto& token = changed.token_T[static_cast<std::size_t>(s)];
    token = (token + 1) % 273;
    const auto after = mixed.hidden(mixed.pack(changed));
    for (std::int64_t t = 0; t < 11; ++t) {
      const bool same_document = (t < 6) == (s < 6);
      const bool in_prompt = t % 6 < 2;
      const bool may_differ = same_document && (t >= s || in_prompt);
      if (may_differ) continue;
      EXPECT_TRUE(at::equal(after[t], before[t])) << "token " << s << " row " << t;
    }
    EXPECT_FALSE(at::equal(after[s], before[s])) << s;
  }
}

class Corrected : public testing::TestWithParam<System> {};

TEST_P(Corrected, starts_as_its_base_bit_for_bit) {
  expect_its_base(GetParam(), tiny_base({}, at::kDouble));
}

TEST_P(Corrected, is_causal_and_keeps_documents_apart) {
  expect_causal(GetParam(), tiny_base({}, at::kDouble));
}

INSTANTIATE_TEST_SUITE_P(Systems, Corrected, testing::ValuesIn(tests::corrected_systems()),
                         [](const auto& system) { return system.param.name; });

class HeadCounts : public testing::TestWithParam<std::pair<std::int64_t, std::int64_t>> {};

TEST_P(HeadCounts, gated_attention_starts_as_its_base_and_is_causal) {
  const auto base = tiny_base(heads_of(GetParam().first, GetParam().second), at::kDouble);
  for (const auto& system : tests::corrected_systems()) {
    if (!system.plan.dfa.is_on()) continue;
    expect_its_base(system, base);
    expect_causal(system, base);
  }
}

INSTANTIATE_TEST_SUITE_P(Of, HeadCounts,
                         testing::Values(std::pair{9, 3}, std::pair{9, 9}, std::pair{12, 12},
                                         std::pair{49, 49}, std::pair{1, 1}),
                         [](const auto& heads) {
                           return base::text(heads.param.first, "_", heads.param.second);
                         });

/// A GPT-2: learned positions, biases, no gate in its MLP, dimensions without rotary pairs.
std::shared_ptr<const BaseModel> gpt2_base(std::int64_t heads) {
  std::string name = (std::filesystem::temp_directory_path() / "dfmoa_gpt2_XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
  TinyGpt2 shape;
  shape.heads = heads;
  shape.hidden = 4 * heads;
  write_tiny_gpt2(name, shape);
  auto base = load_tiny_model(name, at::kDouble);
  std::filesystem::remove_all(name);
  return base;
}

TEST_P(Corrected, on_gpt2_it_starts_as_its_base_and_is_causal) {
  const auto base = gpt2_base(GetParam().plan.dfa.is_on() ? 12 : 9);
  expect_its_base(GetParam(), base);
  expect_causal(GetParam(), base);
}

TEST(Literal, logits_mixed_by_the_first_token_are_causal) {
  for (const auto& system : tests::literal_systems()) {
    if (system.name != "gate_conditioned_literal") continue;
    expect_causal(system, tiny_base({}, at::kDouble));
    expect_causal(system, gpt2_base(9));
    return;
  }
  FAIL() << "there is no such system";
}

class AnySystem : public testing::TestWithParam<System> {};

/// Three sequences; later passes feed them unequally.
void expect_decoding(const System& system, const std::shared_ptr<const BaseModel>& base,
                     double tolerance) {
  auto model = adapted(system, base);
  stir_all(model);
  const std::vector<std::vector<std::vector<std::int32_t>>> passes{
      {{65, 3, 99, 17}, {7, 8, 9}, {41, 272, 5, 5, 9}}, {{}, {5}, {8}}, {{1, 2, 3}, {}, {9}}};
  DecodeCache cache(2, 3);
  std::vector<std::int64_t> start(3, 0);
  std::vector<std::vector<at::Tensor>> seen(3);
  std::vector<std::vector<std::int32_t>> wholes(3);
  for (const auto& fed : passes) {
    const auto x_TD = model.hidden(model.pack_sequences(fed, start), &cache);
    std::int64_t row = 0;
    for (std::size_t d = 0; d < 3; ++d) {
      const auto count = static_cast<std::int64_t>(fed[d].size());
      seen[d].push_back(x_TD.narrow(0, row, count));
      row += count;
      start[d] += count;
      wholes[d].insert(wholes[d].end(), fed[d].begin(), fed[d].end());
    }
  }
  for (std::size_t d = 0; d < 3; ++d) {
    // The whole sequence at once, its prompt being what was fed first.
    data::PackedRow row;
    data::Sample sample;
    sample.token.assign(wholes[d].begin(), wholes[d].end());
    sample.prompt_tokens = static_cast<std::int64_t>(passes[0][d].size());
    sample.trained.assign(sample.token.size(), 1);
    row.append(sample, 0, 0, static_cast<std::int64_t>(sample.token.size()));
    const auto expected = model.hidden(model.pack(row));
    const auto decoded = at::cat(seen[d]);
    const auto scale = expected.abs().max().item<double>();
    EXPECT_LT((decoded - expected).abs().max().item<double>(), tolerance * scale) << d;
  }
}

TEST_P(AnySystem, prefill_and_decoding_equal_one_forward) {
  expect_decoding(GetParam(), tiny_base({}, at::kDouble), 1e-12);
  expect_decoding(GetParam(), tiny_base({}, at::kFloat), 1e-5);
  expect_decoding(GetParam(), gpt2_base(9), 1e-12);
}

/// Three numbers of every trained tensor, under the noise of a training step.
TEST_P(AnySystem, gradients_are_the_slopes_of_its_block) {
  auto model = adapted(GetParam(), tiny_base({}, at::kDouble));
  stir_all(model);
  auto& block = model.blocks()[1];
  const auto rows = model.pack(prompted_row({6, 5}));
  const StepKey key{5, 3, RankPhase::noisy, RankPhase::noisy};
  const auto x_TD = tests::normal_leaf({rows.tokens(), 16}, 40);
  const auto dy_TD = tests::normal({rows.tokens(), 16}, 41);
  const gates::StatisticsLayout first = block.adapters().routers.empty()
                                            ? gates::StatisticsLayout{}
                                            : block.adapters().routers[0].layout();
  const auto objective = [&] {
    const auto out = block.forward(x_TD, {rows, key});
    auto sum = (out.y_TD * dy_TD).sum();
    if (first.experts == 0) return sum;
    return sum + 0.1 * out.statistics_U.narrow(0, 0, first.experts).square().sum();
  };
  auto leaves = block.parameters().leaves();
  leaves.push_back(x_TD);
  const auto grads = torch::autograd::grad({objective()}, leaves, {}, false, false, true);
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    const auto flat = leaves[i].detach().view({-1});
    for (const auto at_place : {std::int64_t{0}, flat.numel() / 2, flat.numel() - 1}) {
      const auto place = flat[at_place];
      const double kept = place.item<double>();
      const auto value = [&](double moved) {
        place.fill_(kept + moved);
        const at::NoGradGuard no_grad;
        const double found = objective().item<double>();
        place.fill_(kept);
        return found;
      };
      const double slope = (value(1e-5) - value(-1e-5)) / 2e-5;
      const double grad =
          grads[i].defined() ? grads[i].reshape({-1})[at_place].item<double>() : 0.0;
      const auto name = i < block.parameters().specs().size() ? block.parameters().specs()[i].name
                                                              : std::string("x");
      EXPECT_NEAR(grad, slope, 1e-6 * std::max(1.0, std::abs(slope))) << name << " " << at_place;
    }
  }
}

TEST_P(AnySystem, takes_a_row_without_tokens) {
  auto model = adapted(GetParam(), tiny_base({}, at::kDouble));
  EXPECT_EQ(model.hidden(model.pack(data::PackedRow{})).size(0), 0);
}

INSTANTIATE_TEST_SUITE_P(Systems, AnySystem, testing::ValuesIn(tests::all_systems()),
                         [](const auto& system) { return system.param.name; });

}  // namespace
}  // namespace dfmoa::model
