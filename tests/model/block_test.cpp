// A block against the same block written out: a loop over experts, a router per linear, adapters
// with and without gates side by side.
#include "src/model/block.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/ops/attention.h"
#include "src/ops/norm.h"
#include "src/ops/swiglu.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/systems.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::model {
namespace {

std::shared_ptr<const BaseModel> one_layer() {
  TinyShape shape;
  shape.layers = 1;
  return tiny_base(shape, at::kDouble);
}

double block_distance(const at::Tensor& one, const at::Tensor& two) {
  return ((one - two).abs().max() / two.abs().max()).item<double>();
}

/// One linear as math writes it: base, and every expert by itself times its gate of (T, E); without
/// gates the experts are added up as they are.
class Spelled {
 public:
  Spelled(const Transformer& model) : model_(model) {}

  at::Tensor linear(const std::string& site, std::size_t position, const at::Tensor& x_TD,
                    const at::Tensor& gate_TE) const {
    const auto& block = model_.blocks()[0];
    auto y_TF = model_.base().layers[0].linears[position]->forward(x_TD);
    for (const auto& group : block.adapters().groups) {
      for (const auto& bank : group.sites) {
        if (bank.site != site) continue;
        const auto a_ND = block.parameters().leaf(group.name + "/A").detach();
        const auto b_NF = block.parameters().leaf(group.name + "/" + site + "/b").detach();
        for (std::int64_t e = 0; e < bank.experts(); ++e) {
          const auto rank = bank.rank_E[static_cast<std::size_t>(e)];
          const auto a = a_ND.narrow(0, bank.first + bank.begin_of(e), rank);
          const auto b = b_NF.narrow(0, bank.begin_of(e), rank);
          auto expert_TF = at::mm(at::mm(x_TD, a.t()), b) * bank.scale;
          if (gate_TE.defined()) expert_TF = expert_TF * gate_TE.narrow(1, e, 1);
          y_TF = y_TF + expert_TF;
        }
      }
    }
    return y_TF;
  }

  at::Tensor gate(const std::string& router, const at::Tensor& x_TD) const {
    const auto w_ED = model_.blocks()[0].parameters().leaf("router/" + router + "/weight").detach();
    return at::softmax(at::mm(x_TD, w_ED.t()), 1);
  }

 private:
  const Transformer& model_;
};

/// q, v and down have a router each, o is a LoRA without one, k, gate and up are not adapted.
Transformer per_site_model() {
  Transformer mixed(one_layer());
  auto plan = tiny_plan("token");
  plan.adapters["mix"].sites = {"q", "v", "down"};
  plan.routers["main"].input = "per_site";
  plan.adapters["plain"].sites = {"o"};
  plan.adapters["plain"].experts = 1;
  plan.adapters["plain"].rank = 2;
  plan.adapters["second"].sites = {"k"};  // beside q and v: gated and ungated in one group
  plan.adapters["second"].experts = 1;
  plan.adapters["second"].rank = 3;
  mixed.adapt(plan, 3);
  stir(mixed);
  return mixed;
}

TEST(Block, routers_per_site_read_the_input_of_their_own_linear) {
  const auto mixed = per_site_model();
  const auto& base = mixed.base();
  const at::NoGradGuard no_grad;
  const auto rows = mixed.pack(tiny_row({5, 4}));
  const auto x_TD = mixed.embed(rows);
  const Spelled spelled(mixed);
  const auto& weights = base.layers[0];
  const auto& shape = base.architecture;
  const at::Tensor none;

  const auto normed = ops::rms_norm_plain(x_TD, weights.attention_norm_D, shape.norm_eps);
  const auto q = spelled.linear("q", 0, normed, spelled.gate("main/q", normed));
  const auto k = spelled.linear("k", 1, normed, none);
  const auto v = spelled.linear("v", 2, normed, spelled.gate("main/v", normed));
  const auto attended = ops::packed_attention_plain(
      ops::rotate(q.view({-1, shape.heads, shape.head_dim}), rows.rotary),
      ops::rotate(k.view({-1, shape.kv_heads, shape.head_dim}), rows.rotary),
      v.view({-1, shape.kv_heads, shape.head_dim}), rows.documents.begin);
  const auto middle = x_TD + spelled.linear("o", 3, attended, none);
  const auto mlp_in = ops::rms_norm_plain(middle, weights.mlp_norm_D, shape.norm_eps);
  const auto inner = ops::swiglu_plain(spelled.linear("gate", 4, mlp_in, none),
                                       spelled.linear("up", 5, mlp_in, none));
  const auto y = middle + spelled.linear("down", 6, inner, spelled.gate("main/down", inner));

  const auto out = mixed.blocks()[0].forward(x_TD, {rows, {}});
  EXPECT_LE(block_distance(out.y_TD, y), 1e-13);
  const auto& routers = mixed.blocks()[0].adapters().routers;
  ASSERT_EQ(routers.size(), 3U);
  std::vector<at::Tensor> statistics;
  for (const auto& router : routers) {
    const auto w = spelled.gate(router.name, router.name == "main/down" ? inner : normed);
    statistics.push_back(gates::statistics_of({}, {w, w, {}}));
  }
  EXPECT_LE(block_distance(out.statistics_U, at::cat(statistics)), 1e-13);
}

/// A model whose rank gates are of kind literal, and its gates z = sigmoid(m).
Transformer literal_model(bool has_gates) {
  Transformer mixed(one_layer());
  auto plan = tiny_plan("token");
  if (has_gates) {
    plan.adapters["mix"].rank_gate = "gate";
    plan.rank_gates["gate"].kind = "literal";
  }
  mixed.adapt(plan, 3);
  stir(mixed);
  return mixed;
}

at::Tensor forward_of(const Transformer& model) {
  const at::NoGradGuard no_grad;
  const auto rows = model.pack(tiny_row({5, 4}));
  return model.blocks()[0].forward(model.embed(rows), {rows, {5, 3, RankPhase::noisy}}).y_TD;
}

/// Visits A, B and logits of every adapted linear, its rows of A and logits cut out.
template <class Visit>
void for_each_site(Transformer& model, Visit&& visit) {
  const at::NoGradGuard no_grad;
  const auto& parameters = model.blocks()[0].parameters();
  for (const auto& group : model.blocks()[0].adapters().groups) {
    for (const auto& site : group.sites) {
      const auto rows = [&](const std::string& name) {
        return parameters.leaf(group.name + "/" + name).narrow(0, site.first, site.directions());
      };
      visit(rows("A"), parameters.leaf(group.name + "/" + site.site + "/b"), rows("logit"));
    }
  }
}

TEST(Block, literal_rank_gates_are_the_sigmoid_of_their_logits) {
  auto gated = literal_model(true);
  auto plain = literal_model(false);
  EXPECT_GT(block_distance(forward_of(gated), forward_of(plain)), 1e-3) << "z starts at 1 / 2";
  for_each_site(gated, [](at::Tensor, at::Tensor, at::Tensor logit_N) {
    logit_N.copy_(at::linspace(-2, 3, logit_N.size(0), at::kDouble));
  });
  const at::NoGradGuard no_grad;
  const auto& from = gated.blocks()[0].parameters();
  for (const auto& group : gated.blocks()[0].adapters().groups) {
    for (const auto& site : group.sites) {
      const auto z_N =
          at::sigmoid(from.leaf(group.name + "/logit").narrow(0, site.first, site.directions()));
      plain.blocks()[0]
          .parameters()
          .leaf(group.name + "/" + site.site + "/b")
          .mul_(z_N.unsqueeze(1));
    }
  }
  EXPECT_LE(block_distance(forward_of(gated), forward_of(plain)), 1e-13);
}

/// Why a penalty on sigmoid(m) would prune nothing either: z / c with c A is the same layer at a
/// c-th of the penalty.
TEST(Block, literal_rank_gates_can_be_rescaled_away) {
  auto gated = literal_model(true);
  const auto expected = forward_of(gated);
  for_each_site(gated, [](at::Tensor a_ND, at::Tensor, at::Tensor logit_N) {
    const auto z_N = at::sigmoid(logit_N);
    logit_N.copy_(at::logit(z_N / 100));
    a_ND.mul_(100);
    EXPECT_LT(at::sigmoid(logit_N).sum().item<double>(), 0.011 * z_N.sum().item<double>());
  });
  EXPECT_LE(block_distance(forward_of(gated), expected), 1e-12);
}

TEST(Block, linears_that_share_an_input_have_rank_gates_all_or_none) {
  auto plan = tiny_plan("token");
  plan.adapters["mix"].sites = {"q"};
  plan.adapters["mix"].rank_gate = "gate";
  plan.rank_gates["gate"] = {};
  plan.adapters["other"].sites = {"k"};
  Transformer model(one_layer());
  const auto sentence = formats::sentence_of<base::UsageError>([&] { model.adapt(plan, 1); });
  EXPECT_TRUE(formats::contains(sentence,
                                "adapter.other: site k of layer 0 has no rank gates, "
                                "but q of adapter.mix has"))
      << sentence;
  plan.adapters["other"].sites = {"o"};  // another input
  model.adapt(plan, 1);
  EXPECT_TRUE(model.blocks()[0].adapters().groups[0].rank_gated);
  EXPECT_FALSE(model.blocks()[0].adapters().groups[1].rank_gated);
}

/// Attention written out head by head, each times its gates, and the prompt's part.
TEST(Block, gated_attention_is_its_formula) {
  Transformer mixed(one_layer());
  auto plan = tests::attention_gates("softmax", "hard_concrete");
  plan.adapters["prompt"].kind = "prompt";
  plan.adapters["prompt"].experts = 1;
  plan.adapters["prompt"].width = 3;
  mixed.adapt(plan, 3);
  stir(mixed, 0.3);
  const at::NoGradGuard no_grad;
  auto& parameters = mixed.blocks()[0].parameters();
  parameters.leaf("dfa/qk/logit").copy_(random_normal({4}, 1, 1, "qk"));
  parameters.leaf("dfa/v/logit").copy_(random_normal({16}, 1, 1, "v"));
  const auto& a = mixed.base().architecture;
  const auto& weights = mixed.base().layers[0];
  const auto rows = mixed.pack(tiny_row({5, 4}));
  const auto x_TD = mixed.embed(rows);
  const auto normed = ops::rms_norm_plain(x_TD, weights.attention_norm_D, a.norm_eps);
  const auto of = [&](std::size_t site, const at::Tensor& x, std::int64_t heads) {
    return weights.linears[site]->forward(x).view({-1, heads, a.head_dim});
  };
  const auto q = of(0, normed, 4);
  const auto k = of(1, normed, 2);
  const auto v = of(2, normed, 2);
  const auto z_qk = adapters::hard_concrete(parameters.leaf("dfa/qk/logit")).view({2, 2});
  const auto z_v = adapters::hard_concrete(parameters.leaf("dfa/v/logit")).view({4, 4});
  const auto logit_TH = at::mm(normed, parameters.leaf("router/heads/weight").t());
  const auto gate_TH = at::softmax(logit_TH, 1) * 4;
  const auto tokens = parameters.leaf("prompt/prompt/tokens");
  std::vector<at::Tensor> heads;
  for (std::int64_t h = 0; h < 4; ++h) {
    const auto pair = z_qk[h / 2];
    const auto masked = q.narrow(1, h, 1) * at::cat({pair, pair});
    const auto head = ops::packed_attention_plain(
        ops::rotate(masked, rows.rotary), ops::rotate(k.narrow(1, h / 2, 1), rows.rotary),
        v.narrow(1, h / 2, 1) * z_v[h], rows.documents.begin);
    const auto score =
        at::mm(q.select(1, h), of(1, tokens, 2).select(1, h / 2).t()) / std::sqrt(4.0);
    const auto prompted = at::mm(at::softmax(score, 1), of(2, tokens, 2).select(1, h / 2)) *
                          parameters.leaf("prompt/prompt/head_gate")[h];
    heads.push_back(head * gate_TH.narrow(1, h, 1) + prompted);
  }
  const auto middle = x_TD + weights.linears[3]->forward(at::cat(heads, 1));
  const auto mlp_in = ops::rms_norm_plain(middle, weights.mlp_norm_D, a.norm_eps);
  const auto inner =
      ops::swiglu_plain(weights.linears[4]->forward(mlp_in), weights.linears[5]->forward(mlp_in));
  const auto y = middle + weights.linears[6]->forward(inner);
  EXPECT_LE(block_distance(mixed.blocks()[0].forward(x_TD, {rows, {}}).y_TD, y), 1e-13);
}

/// One router: LoRA on q and down, a parallel adapter, each times its own membership.
TEST(Block, a_heterogeneous_mixture_gates_every_adapter_by_itself) {
  Transformer mixed(one_layer());
  auto plan = tests::heterogeneous("sigmoid");
  plan.adapters["lora"].sites = {"q", "down"};
  plan.adapters.erase("prompt");
  mixed.adapt(plan, 3);
  stir(mixed, 0.3);
  const at::NoGradGuard no_grad;
  const auto& block = mixed.blocks()[0];
  ASSERT_EQ(block.adapters().routers.size(), 1U);
  EXPECT_EQ(block.adapters().routers[0].labels,
            (std::vector<std::string>{"q", "down", "parallel"}));
  const auto& a = mixed.base().architecture;
  const auto& weights = mixed.base().layers[0];
  const auto rows = mixed.pack(tiny_row({5, 4}));
  const auto x_TD = mixed.embed(rows);
  const auto normed = ops::rms_norm_plain(x_TD, weights.attention_norm_D, a.norm_eps);
  const auto leaf = [&](const std::string& name) { return block.parameters().leaf(name).detach(); };
  const auto gate_TE = at::sigmoid(at::mm(normed, leaf("router/block/weight").t()));
  const Spelled spelled(mixed);
  const at::Tensor none;
  const auto of = [&](const char* site, std::size_t position, const at::Tensor& x,
                      std::int64_t gate) {
    return spelled.linear(site, position, x, gate < 0 ? none : gate_TE.narrow(1, gate, 1));
  };
  const auto attended =
      ops::packed_attention_plain(ops::rotate(of("q", 0, normed, 0).view({-1, 4, 4}), rows.rotary),
                                  ops::rotate(of("k", 1, normed, -1).view({-1, 2, 4}), rows.rotary),
                                  of("v", 2, normed, -1).view({-1, 2, 4}), rows.documents.begin);
  const auto middle = x_TD + of("o", 3, attended, -1);
  const auto mlp_in = ops::rms_norm_plain(middle, weights.mlp_norm_D, a.norm_eps);
  const auto inner = ops::swiglu_plain(of("gate", 4, mlp_in, -1), of("up", 5, mlp_in, -1));
  const auto hidden =
      at::mm(mlp_in, leaf("parallel/parallel/down").t()) + leaf("parallel/parallel/down_bias");
  const auto beside = at::mm(at::silu(hidden), leaf("parallel/parallel/up").t()) +
                      leaf("parallel/parallel/up_bias");
  const auto y = middle + of("down", 6, inner, 1) + beside * gate_TE.narrow(1, 2, 1);
  EXPECT_LE(block_distance(block.forward(x_TD, {rows, {}}).y_TD, y), 1e-13);
}

}  // namespace
}  // namespace dfmoa::model
