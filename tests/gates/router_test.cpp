#include "src/gates/router.h"

#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::gates {
namespace {

using tests::distance;
using tests::normal;
using tests::reals;

Documents router_documents(std::int64_t tokens) {
  Documents documents;
  documents.begin = {0, tokens};
  documents.id = {0};
  finish(documents, {}, at::kDouble);
  return documents;
}

RouterParameters linear_router(const at::Tensor& weight_ED) {
  RouterParameters parameters;
  parameters.weight_EJ = weight_ED;
  return parameters;
}

/// All tensors of a router, random leaves.
RouterParameters random_router(const RouterConfig& config, std::int64_t experts,
                               std::int64_t in_features) {
  RouterParameters parameters;
  std::uint64_t seed = 60;
  for (const auto& tensor : router_tensors(config, experts, in_features)) {
    parameters.*tensor.member = tests::normal_leaf(tensor.shape, ++seed);
  }
  return parameters;
}

TEST(Router, logits_are_the_product_over_the_temperature) {
  RouterConfig config;
  config.temperature = 0.5;
  const auto x_TD = normal({6, 3}, 8);
  const auto weight_ED = normal({4, 3}, 9);
  const auto gates = route(config, x_TD, linear_router(weight_ED), router_documents(6));
  const auto expected = at::softmax(at::matmul(x_TD, weight_ED.t()) * 2, 1);
  EXPECT_LT(distance(gates.w_TE, expected), 1e-14);
  EXPECT_EQ(distance(gates.w_UE, gates.w_TE), 0);
  EXPECT_EQ(gates.statistics_U[10].item<double>(), 6);
}

TEST(Router, a_span_gate_is_one_per_document_and_reads_its_span_alone) {
  RouterConfig config;
  config.scope = "span";
  Documents documents;
  documents.begin = {0, 4, 9};
  documents.id = {3, 8};
  documents.span_begin = {1, 4};
  documents.span_end = {3, 9};
  documents.prompt_end = {3, 8};
  finish(documents, {"span"}, at::kDouble);
  const auto x_TD = normal({9, 3}, 10);
  const auto weight_ED = normal({4, 3}, 11);
  const auto gates = route(config, x_TD, linear_router(weight_ED), documents);
  const auto pooled = at::stack({x_TD.narrow(0, 1, 2).mean(0), x_TD.narrow(0, 4, 5).mean(0)});
  const auto expected = at::softmax(at::matmul(pooled, weight_ED.t()), 1);
  EXPECT_LT(distance(gates.w_UE, expected), 1e-14);
  EXPECT_EQ(distance(gates.w_TE, gates.w_UE.index_select(0, documents.row_T)), 0);
  EXPECT_EQ(gates.statistics_U[10].item<double>(), 2);
  x_TD[0].fill_(100);  // a token of the first document outside its span
  x_TD[3].fill_(-100);
  EXPECT_EQ(distance(route(config, x_TD, linear_router(weight_ED), documents).w_UE, gates.w_UE), 0);
}

TEST(Router, takes_zero_tokens) {
  const auto gates = route({}, at::empty({0, 3}, at::kDouble), linear_router(normal({4, 3}, 9)),
                           router_documents(0));
  EXPECT_EQ(gates.w_TE.size(0), 0);
  EXPECT_EQ(distance(gates.statistics_U, at::zeros({11}, at::kDouble)), 0);
}

TEST(Router, tensors_that_do_not_fit_are_refused) {
  const auto documents = router_documents(6);
  const auto call = [&](const at::Tensor& x, const at::Tensor& weight) {
    (void)route({}, x, linear_router(weight), documents);
  };
  const auto sentence = tests::refusal<base::ShapeError>([&] {
    call(normal({5, 3}, 1), normal({4, 3}, 1));
  });
  EXPECT_TRUE(tests::contains(sentence, "x is [5, 3], its weight [4, 3], tokens 6")) << sentence;
  EXPECT_THROW(call(normal({6, 3}, 1), normal({4, 2}, 1)), base::ShapeError);
  EXPECT_THROW(call(normal({6}, 1), normal({4, 2}, 1)), base::ShapeError);
}

TEST(Router, gradients_of_every_tensor_of_every_kind_and_network_are_the_slopes) {
  const auto x_TD = tests::normal_leaf({5, 3}, 50);
  const auto documents = router_documents(5);
  const auto dw = normal({5, 4}, 51);
  for (const std::string network : {"linear", "mlp"}) {
    for (const std::string kind : {"softmax", "threshold", "sigmoid_threshold", "sparsegen"}) {
      RouterConfig config;
      config.kind = kind;
      config.network = network;
      const auto parameters = random_router(config, 4, 3);
      const auto f = [&] {
        return (route(config, x_TD, parameters, documents).w_TE * dw).sum().item<double>();
      };
      std::vector<at::Tensor> leaves{x_TD};
      for (const auto& tensor : router_tensors(config, 4, 3)) {
        leaves.push_back(parameters.*tensor.member);
      }
      const auto w_TE = route(config, x_TD, parameters, documents).w_TE;
      const auto grads = tests::gradients({w_TE}, {dw}, leaves);
      for (std::size_t i = 0; i < leaves.size(); ++i) {
        EXPECT_LT(distance(grads[i], tests::central_differences(f, leaves[i])), 1e-7)
            << kind << " " << network << " " << i;
      }
    }
  }
}

TEST(Router, an_mlp_is_its_formula) {
  RouterConfig config;
  config.kind = "sigmoid";
  config.network = "mlp";
  const auto p = random_router(config, 2, 3);
  EXPECT_EQ(p.hidden_gate_JD.sizes(), (at::IntArrayRef{8, 3})) << "4 hidden units an expert";
  const auto x_TD = normal({4, 3}, 52);
  const auto hidden =
      at::silu(at::matmul(x_TD, p.hidden_gate_JD.t())) * at::matmul(x_TD, p.hidden_up_JD.t());
  const auto expected = at::sigmoid(at::matmul(hidden, p.weight_EJ.t()));
  EXPECT_LT(distance(route(config, x_TD, p, router_documents(4)).w_TE, expected), 1e-15);
}

TEST(Router, starts_as_configured_and_the_same_for_every_number_of_experts) {
  RouterConfig config;
  config.kind = "threshold";
  const auto started = [&](std::int64_t experts, const std::string& init) {
    config.init = init;
    RouterParameters parameters;
    for (const auto& tensor : router_tensors(config, experts, 6)) {
      parameters.*tensor.member = at::full(tensor.shape, 7.0, at::kDouble);
    }
    for (const auto& tensor : router_tensors(config, experts, 6)) {
      (parameters.*tensor.member).zero_();
    }
    initialise(config, parameters, 1, 2, "main");
    return parameters;
  };
  EXPECT_EQ(started(4, "auto").weight_EJ.abs().max().item<double>(), 0);
  const auto normal_start = started(4, "normal");
  EXPECT_GT(normal_start.weight_EJ.abs().max().item<double>(), 1e-3);
  EXPECT_EQ(distance(started(2, "normal").weight_EJ, normal_start.weight_EJ.narrow(0, 0, 2)), 0);
  const auto uniform_start = started(4, "uniform");
  EXPECT_LE(uniform_start.weight_EJ.abs().max().item<double>(), 1 / std::sqrt(6.0));
  EXPECT_GT(uniform_start.weight_EJ.abs().max().item<double>(), 0.2);
  EXPECT_EQ(uniform_start.threshold_1D.abs().max().item<double>(), 0);
  config.network = "mlp";
  const auto mlp = started(4, "auto");
  EXPECT_EQ(mlp.weight_EJ.abs().max().item<double>(), 0) << "undecided at the start";
  EXPECT_GT(distance(mlp.hidden_gate_JD, mlp.hidden_up_JD), 0.1);
}

TEST(Router, a_running_mean_gate_reads_its_document_until_the_token) {
  RouterConfig config;
  config.scope = "running_mean";
  Documents documents;
  documents.begin = {0, 3, 5};
  documents.id = {3, 8};
  finish(documents, {}, at::kDouble);
  const auto x_TD = normal({5, 3}, 53);
  const auto router = linear_router(normal({4, 3}, 54));
  const auto gates = route(config, x_TD, router, documents);
  EXPECT_EQ(gates.statistics_U[10].item<double>(), 5) << "a gate per token";
  const auto means = at::stack({x_TD[0], x_TD.narrow(0, 0, 2).mean(0), x_TD.narrow(0, 0, 3).mean(0),
                                x_TD[3], x_TD.narrow(0, 3, 2).mean(0)});
  const auto expected = at::softmax(at::matmul(means, router.weight_EJ.t()), 1);
  EXPECT_LT(distance(gates.w_TE, expected), 1e-15);
  // Token by token over carried sums: the same gates.
  RunningSum carried;
  const auto piece = [&](std::vector<std::int64_t> begin, const at::Tensor& x) {
    Documents part;
    part.begin = std::move(begin);
    part.id = {3, 8};
    finish(part, {}, at::kDouble);
    return route(config, x, router, part, &carried).w_TE;
  };
  const auto first = piece({0, 2, 3}, at::cat({x_TD.narrow(0, 0, 2), x_TD.narrow(0, 3, 1)}));
  const auto second = piece({0, 1, 2}, at::stack({x_TD[2], x_TD[4]}));
  EXPECT_LT(distance(first, expected.index_select(0, torch::tensor({0, 1, 3}))), 1e-15);
  EXPECT_LT(distance(second, expected.index_select(0, torch::tensor({2, 4}))), 1e-15);
}

}  // namespace
}  // namespace dfmoa::gates
