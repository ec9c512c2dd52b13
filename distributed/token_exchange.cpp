#include "distributed/token_exchange.h"

#include <torch/csrc/autograd/custom_function.h>

#include <numeric>
#include <set>
#include <thread>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/ops/dtype.h"

namespace dfmoa::distributed {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// One exchange and how to turn it round.
struct Trip : torch::CustomClassHolder {
  std::vector<std::int64_t> send, receive;
  comm::Communicator* comm = nullptr;
  std::string tag;
  std::thread::id thread = std::this_thread::get_id();
};

std::int64_t sum_of(const std::vector<std::int64_t>& counts, std::size_t end) {
  return std::accumulate(counts.begin(), counts.begin() + static_cast<std::ptrdiff_t>(end),
                         std::int64_t{0});
}

std::vector<std::int64_t> without(std::vector<std::int64_t> counts, std::size_t here,
                                  std::int64_t width) {
  counts[here] = 0;
  for (auto& count : counts) count *= width;
  return counts;
}

/// The rows without those of process `here`.
at::Tensor rows_of_others(const at::Tensor& rows_XW, const std::vector<std::int64_t>& counts,
                          std::size_t here) {
  const auto before = sum_of(counts, here);
  const auto after = before + counts[here];
  if (counts[here] == 0) return rows_XW.to(at::kCPU).contiguous();
  return at::cat({rows_XW.narrow(0, 0, before), rows_XW.narrow(0, after, rows_XW.size(0) - after)})
      .to(at::kCPU)
      .contiguous();
}

at::Tensor carry(const at::Tensor& rows_XW, const std::vector<std::int64_t>& send,
                 const std::vector<std::int64_t>& receive, const Trip& trip) {
  auto& comm = *trip.comm;
  const auto here = static_cast<std::size_t>(comm.process());
  const auto width = rows_XW.size(1);
  const auto outgoing = rows_of_others(rows_XW, send, here);
  const auto others = sum_of(receive, receive.size()) - receive[here];
  const auto incoming = at::empty({others, width}, outgoing.options());
  comm.all_to_all(outgoing.const_data_ptr(), without(send, here, width),
                  incoming.mutable_data_ptr(), without(receive, here, width),
                  ops::from_torch(rows_XW.scalar_type()), trip.tag);
  const auto came = incoming.to(rows_XW.device());
  const auto before = sum_of(receive, here);
  return at::cat({came.narrow(0, 0, before), rows_XW.narrow(0, sum_of(send, here), send[here]),
                  came.narrow(0, before, others - before)});
}

class ExchangeFunction : public torch::autograd::Function<ExchangeFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& rows_XW,
                            const c10::intrusive_ptr<Trip>& trip) {
    context->saved_data["trip"] = c10::IValue::make_capsule(trip);
    return carry(rows_XW, trip->send, trip->receive, *trip);
  }
  static variable_list backward(AutogradContext* context, const variable_list& dy) {
    const auto capsule = context->saved_data["trip"].toCapsule();
    const auto& trip = static_cast<const Trip&>(*capsule);
    if (trip.thread != std::this_thread::get_id()) {
      throw base::MachineError(base::text("backward of ", trip.tag,
                                          " runs on another thread than its forward: only one "
                                          "thread may talk to other processes"));
    }
    return {carry(dy[0], trip.receive, trip.send, trip), at::Tensor()};
  }
};

}  // namespace

at::Tensor exchange_rows(const at::Tensor& rows_XW, const std::vector<std::int64_t>& send_counts,
                         const std::vector<std::int64_t>& receive_counts, comm::Communicator& comm,
                         const std::string& tag) {
  auto trip = c10::make_intrusive<Trip>();
  trip->send = send_counts;
  trip->receive = receive_counts;
  trip->comm = &comm;
  trip->tag = tag;
  return ExchangeFunction::apply(rows_XW, trip);
}

std::vector<std::int64_t> exchange_counts(const std::vector<std::int64_t>& counts,
                                          comm::Communicator& comm, const std::string& tag) {
  const std::vector<std::int64_t> one(counts.size(), 1);
  std::vector<std::int64_t> received(counts.size());
  comm.all_to_all(counts.data(), one, received.data(), one, base::DType::i64, tag);
  return received;
}

struct AllToAllTokens::Route {
  std::vector<std::int64_t> send, receive;
  at::Tensor token_X;  ///< the token of every row that was sent
  std::int64_t tokens = 0;
  std::string tag;
};

namespace {

/// The gate columns of the experts of a group that each owner has; without experts there: none.
std::vector<std::set<std::int64_t>> columns_by_owner(const adapters::GroupBank& group,
                                                     const BlockOwners& owners, int processes) {
  std::vector<std::set<std::int64_t>> columns(static_cast<std::size_t>(processes));
  for (const auto& site : group.sites) {
    for (std::int64_t e = 0; e < site.experts(); ++e) {
      if (site.rank_E[static_cast<std::size_t>(e)] == 0) continue;
      const auto owner = owners.units.at(unit_name(site, e));
      columns[static_cast<std::size_t>(owner)].insert(site.column + e);
    }
  }
  return columns;
}

at::Tensor index_of(const std::set<std::int64_t>& columns, at::Device device) {
  return torch::tensor(std::vector<std::int64_t>(columns.begin(), columns.end()), torch::kLong)
      .to(device);
}

/// Runs of equal documents; tokens of different sources never share one.
void find_runs(const std::vector<std::int64_t>& id_T, const std::vector<std::int64_t>& sources,
               model::ArrivedTokens& arrived) {
  std::vector<std::int32_t> row_T;
  std::vector<std::int32_t> begin{0};
  std::size_t t = 0;
  for (const auto count : sources) {
    for (std::int64_t i = 0; i < count; ++i, ++t) {
      const bool starts = i == 0 || id_T[t] != id_T[t - 1];
      if (starts) {
        if (t > 0) begin.push_back(static_cast<std::int32_t>(t));
        arrived.document_id.push_back(id_T[t]);
      }
      row_T.push_back(static_cast<std::int32_t>(arrived.document_id.size()) - 1);
    }
  }
  if (t > 0) begin.push_back(static_cast<std::int32_t>(t));
  const auto device = arrived.x_TD.device();
  arrived.row_T = torch::tensor(row_T, torch::kInt).to(device);
  arrived.row_begin = torch::tensor(begin, torch::kInt).to(device);
}

}  // namespace

model::ArrivedTokens AllToAllTokens::send(const model::Block& block, int group,
                                          const at::Tensor& x_TD, const at::Tensor& gate_TG,
                                          const gates::Documents& documents, bool wants_documents) {
  const auto& bank = block.whole().groups[static_cast<std::size_t>(group)];
  const auto columns = columns_by_owner(bank, owners_(block.layer()), comm_.num_processes());
  auto route = std::make_shared<Route>();
  route->tokens = x_TD.size(0);
  route->tag = base::text("C2/layer/", block.layer(), "/tokens/", bank.name);
  std::vector<at::Tensor> index;
  std::vector<at::Tensor> gates;
  for (const auto& of_owner : columns) {
    at::Tensor token_X;
    if (of_owner.empty()) {
      token_X = at::empty({0}, x_TD.options().dtype(at::kLong));
    } else if (gate_TG.defined()) {
      const auto gate_TO = gate_TG.index_select(1, index_of(of_owner, x_TD.device()));
      token_X = (gate_TO.detach() != 0).any(1).nonzero().view({-1});
    } else {
      token_X = at::arange(route->tokens, x_TD.options().dtype(at::kLong));
    }
    route->send.push_back(token_X.size(0));
    index.push_back(token_X);
  }
  route->token_X = at::cat(index);
  route->receive = exchange_counts(route->send, comm_, route->tag + "/counts");
  const auto go = [&](const at::Tensor& rows, const char* what) {
    return exchange_rows(rows, route->send, route->receive, comm_, route->tag + what);
  };
  model::ArrivedTokens arrived;
  auto rows = x_TD.index_select(0, route->token_X);
  if (gate_TG.defined()) rows = at::cat({rows, gate_TG.index_select(0, route->token_X)}, 1);
  rows = go(rows, "/send");
  arrived.x_TD = rows.narrow(1, 0, x_TD.size(1));
  if (gate_TG.defined()) {
    // Columns of other owners' experts came along, and stay unread: nothing here belongs to them.
    arrived.gate_TG = rows.narrow(1, x_TD.size(1), gate_TG.size(1));
  }
  arrived.whole = torch::tensor({std::int64_t{0}, rows.size(0)}, torch::kInt).to(x_TD.device());
  if (wants_documents) {
    const auto id_D = torch::tensor(documents.id, torch::kLong).to(x_TD.device());
    const auto id_T = id_D.index_select(0, documents.row_T.to(at::kLong));
    const auto came = go(id_T.index_select(0, route->token_X).view({-1, 1}), "/documents")
                          .to(at::kCPU)
                          .contiguous();
    const auto* first = came.const_data_ptr<std::int64_t>();
    find_runs({first, first + came.numel()}, route->receive, arrived);
  }
  arrived.route = route;
  return arrived;
}

at::Tensor AllToAllTokens::bring_back(const model::ArrivedTokens& arrived, const at::Tensor& y_TF) {
  const auto& route = *static_cast<const Route*>(arrived.route.get());
  const auto back = exchange_rows(y_TF, route.receive, route.send, comm_, route.tag + "/back");
  // Owners' shares are added in their order: the same bits in every run.
  return at::zeros({route.tokens, y_TF.size(1)}, y_TF.options()).index_add(0, route.token_X, back);
}

}  // namespace dfmoa::distributed
