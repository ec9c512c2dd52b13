// Logits mixed over passes of the model with one expert each, against those passes done one by one.
#include "src/model/logit_mixture.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/model/family_ops.h"
#include "src/model/gate_means.h"
#include "src/model/gate_record.h"
#include "src/model/generate.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/systems.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_gpt2.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::model {
namespace {

using tests::distance;

constexpr std::int64_t kExperts = 3;

AdapterPlan logit_plan(const std::string& scope = "first_token") {
  auto plan = tests::experts_behind("topk_literal", kExperts);
  plan.adapters["mix"].scale = "literal";
  plan.routers["main"].mix = "logits";
  plan.routers["main"].scope = scope;
  return plan;
}

/// The same experts mixed inside the linears: under `expert:I` one pass of one expert.
AdapterPlan linear_plan() {
  auto plan = logit_plan();
  plan.routers["main"].mix = "linears";
  plan.routers["main"].kind = "softmax";
  return plan;
}

class LogitMixture : public formats::TemporaryFolder, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    formats::TemporaryFolder::SetUp();
    if (GetParam()) {
      write_tiny_gpt2(folder_);  // layer norms with a bias, learned positions
    } else {
      write_tiny_model(folder_);
    }
    base_ = load_tiny_model(folder_, at::kDouble);
  }

  [[nodiscard]] Transformer model(const AdapterPlan& plan) const {
    Transformer model(base_);
    model.adapt(plan, 3);
    stir(model);
    return model;
  }

  /// Three documents; the routers of their prompts read more than a token.
  static data::PackedRow row() {
    auto row = tiny_row({6, 1, 5});
    row.prompt_end[0] += 2;
    return row;
  }

  static at::Tensor logits(const Transformer& model, const PackedRows& rows) {
    const auto x_TD = model.hidden(rows);
    return model.logits(x_TD, at::arange(x_TD.size(0), at::kLong));
  }

  /// (E, T, V) logits of every expert alone, with the mixture's tensors.
  [[nodiscard]] at::Tensor logits_of_experts(const Transformer& mixture) const {
    auto single = model(linear_plan());
    for (std::size_t l = 0; l < single.blocks().size(); ++l) {
      const auto& from = mixture.blocks()[l].parameters();
      for (const auto& spec : from.specs()) {
        const at::NoGradGuard no_grad;
        auto leaf = single.blocks()[l].parameters().leaf(spec.name);
        leaf.copy_(from.leaf(spec.name));
      }
    }
    std::vector<at::Tensor> all;
    for (std::int64_t e = 0; e < kExperts; ++e) {
      single.override_gates(gates::Override::parse(base::text("expert:", e)));
      all.push_back(logits(single, single.pack(row())));
    }
    return at::stack(all);
  }

  /// (T, E) softmax over the first norm of the lowest block at each document's first token, the two
  /// largest as they are.
  [[nodiscard]] at::Tensor first_token_gates(const Transformer& mixture) const {
    const auto rows = Transformer(base_).pack(row());
    const auto& layer = base_->layers[0];
    const auto normed_TD = norm(base_->architecture, Transformer(base_).embed(rows),
                                layer.attention_norm_D, layer.attention_norm_bias_D);
    const auto& weight_ED = mixture.blocks()[0].parameters().leaf("router/main/weight");
    std::vector<at::Tensor> gates;
    for (std::int64_t d = 0; d < 3; ++d) {
      const auto begin = row().document_begin[static_cast<std::size_t>(d)];
      const auto end = row().document_begin[static_cast<std::size_t>(d) + 1];
      auto p_E = at::softmax(at::mv(weight_ED, normed_TD[begin]), 0).detach();
      p_E.index_fill_(0, p_E.argmin().view({1}), 0.0);
      gates.push_back(p_E.unsqueeze(0).expand({end - begin, kExperts}));
    }
    return at::cat(gates);
  }

  static at::Tensor mixed(const at::Tensor& logit_ETV, const at::Tensor& gate_TE) {
    return at::einsum("etv,te->tv", {logit_ETV, gate_TE});
  }

  std::shared_ptr<const BaseModel> base_;
};

TEST_P(LogitMixture, is_every_expert_s_pass_mixed_by_top_k_weights_as_they_are) {
  const auto mixture = model(logit_plan());
  const auto logit_ETV = logits_of_experts(mixture);
  const auto gate_TE = first_token_gates(mixture);
  EXPECT_LT(gate_TE.sum(1).max().item<double>(), 0.99) << "not renormalised";
  EXPECT_GT(distance(logit_ETV[0], logit_ETV[1]), 1.0) << "experts differ";
  const auto expected = mixed(logit_ETV, gate_TE);
  const double scale = expected.abs().max().item<double>();
  const auto rows = mixture.pack(row());
  EXPECT_LT(distance(logits(mixture, rows), expected), 1e-12 * scale);
  const auto head = mixture.head(mixture.hidden(rows), rows, 1.0, /*want_gradient=*/false);
  const auto nll_T = -at::log_softmax(expected, 1);
  const auto loss =
      nll_T.index_select(0, rows.loss_row_X).gather(1, rows.target_X.unsqueeze(1)).squeeze(1);
  EXPECT_LT(distance(head.nll_X, loss), 1e-12 * scale) << "cross-entropy is of the mixed logits";
}

TEST_P(LogitMixture, other_gates_act_on_the_weights_of_the_logits) {
  auto mixture = model(logit_plan());
  const auto logit_ETV = logits_of_experts(mixture);
  const auto gate_TE = first_token_gates(mixture);
  const auto sum_T1 = gate_TE.sum(1, /*keepdim=*/true);
  const auto expect = [&](const std::string& gates, const at::Tensor& expected_TE) {
    override_gates(mixture, gates::Override::parse(gates), [&](GateSink& sink) {
      (void)mixture.hidden(mixture.pack(row()), nullptr, &sink);
    });
    const auto expected = mixed(logit_ETV, expected_TE);
    EXPECT_LT(distance(logits(mixture, mixture.pack(row())), expected),
              1e-12 * expected.abs().max().item<double>())
        << gates;
  };
  const auto one_TE = [&](std::int64_t e) {
    return at::one_hot(at::full({12}, e, at::kLong), kExperts).to(at::kDouble);
  };
  expect("expert:1", one_TE(1) * sum_T1);
  const auto largest_TE = at::one_hot(gate_TE.argmax(1), kExperts).to(at::kDouble);
  expect("top1", largest_TE * sum_T1);
  expect("topk", gate_TE);
  expect("mean", gate_TE.mean(0, /*keepdim=*/true).expand({12, kExperts}));
  expect("soft", gate_TE);
}

TEST_P(LogitMixture, has_one_router_which_counts_every_document_once) {
  const auto mixture = model(logit_plan());
  EXPECT_TRUE(mixture.mixes_logits());
  const auto routers = model(linear_plan()).trainable_parameters() - mixture.trainable_parameters();
  EXPECT_EQ(routers, kExperts * base_->architecture.hidden) << "two blocks' routers less one";
  const auto rows = mixture.pack(row());
  GateRecord record(mixture);
  (void)mixture.hidden(rows, nullptr, &record);
  ASSERT_EQ(record.entries().size(), 1U);
  EXPECT_EQ(record.entries()[0].layer, 0);
  EXPECT_LT(distance(record.entries()[0].w_TE, first_token_gates(mixture)), 1e-12);
  const auto out = mixture.blocks()[0].forward(mixture.embed(rows), {rows, {}});
  const auto layout = mixture.blocks()[0].adapters().routers[0].layout();
  EXPECT_EQ(out.statistics_U[layout.units()].item<double>(), 3);
  EXPECT_FALSE(mixture.blocks()[1].forward(out.y_TD, {rows, {}}).mix_TE.defined());
}

TEST_P(LogitMixture, its_router_lies_in_the_lowest_block_that_needs_it) {
  auto plan = logit_plan("prompt_mean");
  plan.adapters["mix"].layers = "1";
  plan.adapters["plain"].layers = "0";  // beside it, without a gate, in every pass
  plan.adapters["plain"].sites = {"q"};
  const auto mixture = model(plan);
  EXPECT_EQ(mixture.blocks()[0].adapters().copies, 0);
  EXPECT_EQ(mixture.blocks()[1].adapters().copies, kExperts);
  EXPECT_EQ(mixture.blocks()[1].adapters().routers.size(), 1U);
  plan.routers["main"].mix = "linears";
  plan.routers["main"].kind = "softmax";
  auto single = model(plan);
  GateRecord record(mixture);
  const auto actual = [&] {
    const auto rows = mixture.pack(row());
    const auto x_TD = mixture.hidden(rows, nullptr, &record);
    return mixture.logits(x_TD, at::arange(12, at::kLong));
  }();
  at::Tensor expected;
  for (std::int64_t e = 0; e < kExperts; ++e) {
    single.override_gates(gates::Override::parse(base::text("expert:", e)));
    const auto part = logits(single, single.pack(row())) * record.entries()[0].w_TE.narrow(1, e, 1);
    expected = e == 0 ? part : expected + part;
  }
  EXPECT_LT(distance(actual, expected), 1e-12 * expected.abs().max().item<double>());
}

TEST_P(LogitMixture, mixing_has_the_gradients_of_its_formula) {
  const auto& a = base_->architecture;
  const auto x_TD = tests::normal_leaf({kExperts * 4, a.hidden}, 1);
  const auto gate_TE = tests::normal_leaf({4, kExperts}, 2);
  const auto dy_TD = tests::normal({4, a.hidden}, 3);
  const auto rms = [&](const at::Tensor& x) {
    return x * (x.square().mean(1, true) + a.norm_eps).rsqrt() * base_->final_norm_D;
  };
  const auto normed_TD = a.norm == Norm::rms ? rms(x_TD)
                                             : at::layer_norm(x_TD, {a.hidden}, base_->final_norm_D,
                                                              base_->final_norm_bias_D, a.norm_eps);
  at::Tensor y_TD = at::zeros({4, a.hidden}, at::kDouble);
  for (std::int64_t e = 0; e < kExperts; ++e) {
    y_TD = y_TD + normed_TD.narrow(0, 4 * e, 4) * gate_TE.narrow(1, e, 1);
  }
  EXPECT_LT(distance(mix_normed(*base_, x_TD.detach(), gate_TE.detach()), y_TD), 1e-12);
  const auto expected = tests::gradients({y_TD}, {dy_TD}, {x_TD, gate_TE});
  const auto [dx_TD, dgate_TE] =
      mix_normed_backward(*base_, dy_TD, x_TD.detach(), gate_TE.detach());
  EXPECT_LT(distance(dx_TD, expected[0]), 1e-12);
  EXPECT_LT(distance(dgate_TE, expected[1]), 1e-12);
}

/// Greedy texts of a batch whose sequences end one after the other.
TEST_P(LogitMixture, a_batch_generates_what_whole_forwards_of_each_sequence_choose) {
  const auto mixture = model(logit_plan("last_prompt"));
  SamplingConfig config;
  config.greedy = true;
  config.tokens = 6;
  const Generator::Prompts prompts{{65, 3, 99, 17}, {7, 8}, {41, 272, 5, 9, 33}};
  const auto free = Generator(mixture, config, {}).run(prompts, {});
  const auto stop = free[1].tokens[2];  // ends the second sequence in the middle
  const auto results = Generator(mixture, config, {stop}).run(prompts, {}, {}, true);
  EXPECT_LT(results[1].tokens.size(), 6U);
  for (std::size_t d = 0; d < prompts.size(); ++d) {
    auto whole = prompts[d];
    const auto prompt = static_cast<std::int64_t>(whole.size());
    ASSERT_EQ(results[d].gates.size(), results[d].tokens.size());
    for (const auto token : results[d].tokens) {
      data::Sample sample;
      sample.token.assign(whole.begin(), whole.end());
      sample.prompt_tokens = prompt;
      sample.trained.assign(whole.size(), 1);
      data::PackedRow alone;
      alone.append(sample, 0, 0, static_cast<std::int64_t>(whole.size()));
      EXPECT_EQ(logits(mixture, mixture.pack(alone))[-1].argmax().item<std::int64_t>(), token) << d;
      whole.push_back(token);
    }
  }
}

TEST_P(LogitMixture, a_finished_sequence_frees_the_keys_of_all_its_copies) {
  const auto mixture = model(logit_plan());
  DecodeCache cache(2, 2);
  (void)mixture.hidden(mixture.pack_sequences({{65, 3, 99}, {7, 8}}, {0, 0}), &cache);
  cache.release(1);
  for (const auto& layer : cache.layers) {
    ASSERT_EQ(layer.size(), 2U * kExperts);
    for (std::size_t e = 0; e < kExperts; ++e) {
      EXPECT_EQ(layer[2 * e].length, 3);
      EXPECT_FALSE(layer[2 * e + 1].k_LKC.defined()) << e;
    }
  }
}

TEST_P(LogitMixture, refuses_what_has_no_one_gate_for_a_document) {
  const auto refusal = [&](const AdapterPlan& plan) {
    return formats::sentence_of<base::UsageError>([&] { (void)model(plan); });
  };
  const auto other = [](auto&& change) {
    auto plan = logit_plan();
    change(plan);
    return plan;
  };
  const std::string one_gate = "mix = logits gives a document one gate in the whole model";
  for (const std::string scope : {"token", "running_mean"}) {
    EXPECT_TRUE(formats::contains(refusal(logit_plan(scope)), one_gate)) << scope;
  }
  EXPECT_TRUE(formats::contains(
      refusal(other([](auto& plan) { plan.routers["main"].input = "per_site"; })), one_gate));
  EXPECT_TRUE(formats::contains(
      refusal(other([](auto& plan) { plan.routers["main"].over = "adapters"; })), one_gate));
  auto sentence = refusal(other([](auto& plan) {
    plan.adapters["mix"].layers = "0";
    plan.adapters["more"] = plan.adapters["mix"];
    plan.adapters["more"].layers = "1";
    plan.adapters["more"].experts = 2;
  }));
  EXPECT_TRUE(formats::contains(sentence, "2 different numbers of experts")) << sentence;
  sentence = refusal(other([](auto& plan) {
    plan.routers["heads"].kind = "softmax";
    plan.dfa.router = "heads";
  }));
  EXPECT_TRUE(formats::contains(sentence, "there are 2 routers (heads, main)")) << sentence;
  AdapterPlan heads;
  heads.routers["heads"] = logit_plan().routers["main"];
  heads.routers["heads"].kind = "softmax";
  heads.dfa.router = "heads";
  sentence = refusal(heads);
  EXPECT_TRUE(formats::contains(sentence, "mix logits, expected softmax or sigmoid")) << sentence;
}

INSTANTIATE_TEST_SUITE_P(Families, LogitMixture, testing::Bool(),
                         [](const auto& family) { return family.param ? "gpt2" : "llama"; });

}  // namespace
}  // namespace dfmoa::model
