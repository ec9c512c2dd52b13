// Rows go where counts say and their gradients come back; tokens go once to every owner.
#include "distributed/token_exchange.h"

#include <thread>

#include "distributed/comm/local.h"
#include "distributed/expert_transport.h"
#include "src/base/error.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::distributed {
namespace {

using Counts = std::vector<std::int64_t>;
using tests::distance;

constexpr std::int64_t kWidth = 3;

/// Rows from process p to q, ragged; the last process sends none at all.
std::int64_t rows_between(int p, int q, int processes) {
  return p == processes - 1 && processes > 1 ? 0 : (2 * p + 3 * q) % 4;
}

Counts sent_by(int p, int processes) {
  Counts counts;
  for (int q = 0; q < processes; ++q) counts.push_back(rows_between(p, q, processes));
  return counts;
}

Counts received_by(int q, int processes) {
  Counts counts;
  for (int p = 0; p < processes; ++p) counts.push_back(rows_between(p, q, processes));
  return counts;
}

std::int64_t total(const Counts& counts) {
  std::int64_t sum = 0;
  for (const auto count : counts) sum += count;
  return sum;
}

at::Tensor rows_of(int p, int processes) {
  return tests::normal({total(sent_by(p, processes)), kWidth}, 10 + static_cast<std::uint64_t>(p));
}
at::Tensor dy_of(int q, int processes) {
  return tests::normal({total(received_by(q, processes)), kWidth},
                       50 + static_cast<std::uint64_t>(q));
}

/// Of `rows`, which lie part by part, part number `index`.
at::Tensor part_at(const at::Tensor& rows, const Counts& counts, int index) {
  const Counts before(counts.begin(), counts.begin() + index);
  return rows.narrow(0, total(before), counts[static_cast<std::size_t>(index)]);
}

TEST(ExchangeRows, rows_and_their_gradients_are_those_gathered_by_hand) {
  for (const int processes : {1, 2, 3, 4}) {
    comm::run_local(processes, [&](comm::Communicator& comm) {
      const auto here = comm.process();
      const auto send = sent_by(here, processes);
      const auto receive = received_by(here, processes);
      EXPECT_EQ(exchange_counts(send, comm, "counts"), receive);
      const auto rows_XW = rows_of(here, processes).requires_grad_();
      const auto y = exchange_rows(rows_XW, send, receive, comm, "rows");
      std::vector<at::Tensor> expected;
      std::vector<at::Tensor> dx;
      for (int p = 0; p < processes; ++p) {
        expected.push_back(part_at(rows_of(p, processes), sent_by(p, processes), here));
        dx.push_back(part_at(dy_of(p, processes), received_by(p, processes), here));
      }
      EXPECT_TRUE(at::equal(y.detach(), at::cat(expected))) << processes << " " << here;
      const auto grad = tests::gradients({y}, {dy_of(here, processes)}, {rows_XW})[0];
      EXPECT_TRUE(at::equal(grad, at::cat(dx))) << processes << " " << here;
    });
  }
}

TEST(ExchangeRows, no_row_anywhere_is_a_collective_all_the_same) {
  comm::run_local(3, [](comm::Communicator& comm) {
    const Counts none(3, 0);
    const auto rows_XW = at::zeros({0, kWidth}, at::kDouble).requires_grad_();
    const auto y = exchange_rows(rows_XW, none, none, comm, "rows");
    EXPECT_EQ(y.sizes(), (std::vector<std::int64_t>{0, kWidth}));
    const auto grad = tests::gradients({y}, {at::zeros({0, kWidth}, at::kDouble)}, {rows_XW})[0];
    EXPECT_EQ(grad.sizes(), rows_XW.sizes());
    EXPECT_EQ(comm.recorder().records().size(), 2U) << "forward and backward";
  });
}

TEST(ExchangeRows, what_stays_here_is_not_sent) {
  comm::run_local(2, [](comm::Communicator& comm) {
    Counts send{0, 0};
    send[static_cast<std::size_t>(comm.process())] = 5;
    const auto rows_XW = tests::normal({5, kWidth}, 3);
    EXPECT_TRUE(at::equal(exchange_rows(rows_XW, send, send, comm, "rows"), rows_XW));
    EXPECT_EQ(comm.recorder().sent_bytes(), 0);
  });
}

TEST(ExchangeRows, backward_on_another_thread_is_refused) {
  comm::run_local(1, [](comm::Communicator& comm) {
    const auto rows_XW = tests::normal_leaf({4, kWidth}, 3);
    const auto y = exchange_rows(rows_XW, {4}, {4}, comm, "C2/layer/7/tokens");
    std::string sentence;
    std::thread([&] {
      sentence = tests::refusal<base::MachineError>([&] {
        (void)torch::autograd::grad({y}, {rows_XW}, {at::ones_like(y)}, /*retain_graph=*/true);
      });
    }).join();
    EXPECT_TRUE(tests::contains(sentence, "backward of C2/layer/7/tokens")) << sentence;
    EXPECT_TRUE(tests::contains(sentence, "another thread than its forward")) << sentence;
    EXPECT_EQ(comm.recorder().records().size(), 1U) << "nothing was sent";
    EXPECT_NO_THROW((void)tests::gradients({y}, {at::ones_like(y)}, {rows_XW}));
  });
}

/// A model with four experts, of which each of two processes owns every second one.
struct Shared {
  explicit Shared(comm::Communicator& comm)
      : model(model::tiny_base({}, at::kDouble)),
        transport(model, comm, config(), /*keeps_graphs=*/true) {
    transport.adapt(model::tiny_plan("token", 4), 1);
  }
  static ParallelConfig config() {
    ParallelConfig parallel;
    parallel.expert = 2;
    parallel.transport = "move_tokens";
    return parallel;
  }
  model::ArrivedTokens send(const at::Tensor& x_TD, const at::Tensor& gate_TG,
                            const gates::Documents& documents, bool wants_documents) {
    return transport.tokens()->send(model.blocks()[0], 0, x_TD, gate_TG, documents,
                                    wants_documents);
  }
  model::Transformer model;
  ExpertTransport transport;
};

/// Tokens 0 to 4: to experts 0 2, 1, 0 1, none, 3. Experts 0 and 2 lie with process 0.
at::Tensor five_gates() {
  return torch::tensor({{0.5, 0.0, 0.5, 0.0},
                        {0.0, 1.0, 0.0, 0.0},
                        {0.7, 0.3, 0.0, 0.0},
                        {0.0, 0.0, 0.0, 0.0},
                        {0.0, 0.0, 0.0, 1.0}},
                       at::kDouble);
}

/// Tokens that go to process 0 and to process 1, of five_gates.
const std::vector<std::vector<std::int64_t>> kGoing{{0, 2}, {1, 2, 4}};

TEST(AllToAllTokens, a_token_goes_once_to_every_owner_of_its_experts) {
  comm::run_local(2, [](comm::Communicator& comm) {
    Shared shared(comm);
    const auto here = static_cast<std::size_t>(comm.process());
    const auto x_of = [](int p) {
      return tests::normal({5, 16}, 20 + static_cast<std::uint64_t>(p));
    };
    const auto x_TD = x_of(comm.process()).requires_grad_();
    const auto arrived = shared.send(x_TD, five_gates(), {}, false);
    const auto index = torch::tensor(kGoing[here], at::kLong);
    EXPECT_TRUE(at::equal(arrived.x_TD.detach(), at::cat({x_of(0).index_select(0, index),
                                                          x_of(1).index_select(0, index)})));
    EXPECT_TRUE(at::equal(arrived.gate_TG, five_gates().index_select(0, index).repeat({2, 1})));
    EXPECT_TRUE(at::equal(arrived.whole,
                          tests::ints({0, static_cast<std::int32_t>(2 * kGoing[here].size())})));
    // Every owner gives a token back as it is: a token comes back once for each of them.
    const auto back_TD = shared.transport.tokens()->bring_back(arrived, arrived.x_TD);
    const auto owners_T1 = torch::tensor({{1.0}, {1.0}, {2.0}, {0.0}, {1.0}}, at::kDouble);
    EXPECT_LE(distance(back_TD, x_TD * owners_T1), 1e-15);
    const auto dy_TD = tests::normal({5, 16}, 30);
    const auto grad = tests::gradients({back_TD}, {dy_TD}, {x_TD})[0];
    EXPECT_LE(distance(grad, dy_TD * owners_T1), 1e-15);
  });
}

TEST(AllToAllTokens, gates_get_the_gradient_of_where_they_went) {
  comm::run_local(2, [](comm::Communicator& comm) {
    Shared shared(comm);
    const auto gate_TG = five_gates().requires_grad_();
    const auto arrived = shared.send(tests::normal({5, 16}, 20), gate_TG, {}, false);
    // The columns of its own experts are all that an owner reads.
    const auto weight_G = comm.process() == 0 ? torch::tensor({2.0, 0.0, 3.0, 0.0}, at::kDouble)
                                              : torch::tensor({0.0, 5.0, 0.0, 7.0}, at::kDouble);
    const auto y_TF = (arrived.gate_TG * weight_G).sum(1, /*keepdim=*/true);
    const auto back_TF = shared.transport.tokens()->bring_back(arrived, y_TF);
    const auto grad = tests::gradients({back_TF}, {at::ones_like(back_TF)}, {gate_TG})[0];
    const auto expected = torch::tensor({{2.0, 0.0, 3.0, 0.0},
                                         {0.0, 5.0, 0.0, 7.0},
                                         {2.0, 5.0, 3.0, 7.0},
                                         {0.0, 0.0, 0.0, 0.0},
                                         {0.0, 5.0, 0.0, 7.0}},
                                        at::kDouble);
    EXPECT_TRUE(at::equal(grad, expected)) << grad;
  });
}

TEST(AllToAllTokens, without_gates_every_owner_gets_every_token) {
  comm::run_local(2, [](comm::Communicator& comm) {
    Shared shared(comm);
    const std::int64_t tokens = comm.process() == 0 ? 0 : 3;  // the first has none
    const auto x_TD = tests::normal({tokens, 16}, 20);
    const auto arrived = shared.send(x_TD, {}, {}, false);
    EXPECT_EQ(arrived.x_TD.size(0), 3);
    EXPECT_FALSE(arrived.gate_TG.defined());
    const auto back_TD = shared.transport.tokens()->bring_back(arrived, arrived.x_TD);
    EXPECT_TRUE(at::equal(back_TD, x_TD * 2.0));
  });
}

/// Noise is keyed by document: of every token that comes the owner must know whose it is.
TEST(AllToAllTokens, documents_come_along_and_never_run_across_sources) {
  comm::run_local(2, [](comm::Communicator& comm) {
    Shared shared(comm);
    gates::Documents documents;
    documents.begin = {0, 2, 5};
    documents.id = {7, comm.process() == 0 ? 9 : 4};  // both have a document 7
    gates::finish(documents, {}, at::kDouble);
    const auto arrived = shared.send(tests::normal({5, 16}, 20), five_gates(), documents, true);
    if (comm.process() == 0) {  // tokens 0 and 2 of each
      EXPECT_EQ(arrived.document_id, (Counts{7, 9, 7, 4}));
      EXPECT_TRUE(at::equal(arrived.row_T, tests::ints({0, 1, 2, 3})));
      EXPECT_TRUE(at::equal(arrived.row_begin, tests::ints({0, 1, 2, 3, 4})));
    } else {  // tokens 1, 2 and 4 of each
      EXPECT_EQ(arrived.document_id, (Counts{7, 9, 7, 4}));
      EXPECT_TRUE(at::equal(arrived.row_T, tests::ints({0, 1, 1, 2, 3, 3})));
      EXPECT_TRUE(at::equal(arrived.row_begin, tests::ints({0, 1, 3, 4, 6})));
    }
  });
}

}  // namespace
}  // namespace dfmoa::distributed
