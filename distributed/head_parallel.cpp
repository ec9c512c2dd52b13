#include "distributed/head_parallel.h"

#include <algorithm>

#include "distributed/token_exchange.h"
#include "src/base/error.h"
#include "src/base/text.h"
#include "src/ops/attention.h"

namespace dfmoa::distributed {
namespace {

/// The documents of all processes one after the other, as one packed row.
struct PeerDocuments {
  std::vector<std::int64_t> tokens_P;
  std::vector<std::int64_t> begin{0};
};

PeerDocuments exchange_documents(const std::vector<std::int64_t>& begin, comm::Communicator& comm,
                                 const std::string& tag) {
  const auto processes = static_cast<std::size_t>(comm.num_processes());
  const std::vector<std::int64_t> send(processes, static_cast<std::int64_t>(begin.size()) - 1);
  const auto receive = exchange_counts(send, comm, tag + "documents/counts");
  std::vector<std::int64_t> length_D;
  for (std::size_t d = 0; d + 1 < begin.size(); ++d) length_D.push_back(begin[d + 1] - begin[d]);
  const auto mine = torch::tensor(length_D, torch::kLong).view({-1, 1});
  const auto came =
      exchange_rows(mine.repeat({comm.num_processes(), 1}), send, receive, comm, tag + "documents");
  PeerDocuments peers;
  const auto* length = came.const_data_ptr<std::int64_t>();
  for (const auto documents : receive) {
    const auto before = peers.begin.back();
    for (std::int64_t d = 0; d < documents; ++d) {
      peers.begin.push_back(peers.begin.back() + *length++);
    }
    peers.tokens_P.push_back(peers.begin.back() - before);
  }
  return peers;
}

at::Tensor select_heads(const at::Tensor& x_TXC, const std::vector<std::int64_t>& heads) {
  return x_TXC.index_select(1, torch::tensor(heads, torch::kLong).to(x_TXC.device()));
}

/// As many heads next to each other for every KV head, in their order: what packed_attention reads.
bool is_grouped(const OwnedHeads& own) {
  if (own.query.size() % own.kv.size() != 0) return false;
  const auto each = own.query.size() / own.kv.size();
  for (std::size_t h = 0; h < own.query.size(); ++h) {
    if (own.kv_of_query[h] != static_cast<std::int64_t>(h / each)) return false;
  }
  return true;
}

/// Shapes  slices_XC (T of all * slices, C) -> (T of all * heads, C), a token's next to each other.
at::Tensor attend_here(const at::Tensor& slices_XC, const OwnedHeads& own,
                       const std::vector<std::int64_t>& begin) {
  // No rows then; but they lead back to the exchange, which every process must enter in backward.
  if (own.query.empty()) return slices_XC;
  const auto heads = static_cast<std::int64_t>(own.query.size());
  const auto kv_heads = static_cast<std::int64_t>(own.kv.size());
  const auto width = slices_XC.size(1);
  const auto all_TXC = slices_XC.view({begin.back(), own.slices(), width});
  const auto q_THC = all_TXC.narrow(1, 0, heads);
  auto k_TKC = all_TXC.narrow(1, heads, kv_heads);
  auto v_TKC = all_TXC.narrow(1, heads + kv_heads, kv_heads);
  if (!is_grouped(own)) {
    k_TKC = select_heads(k_TKC, own.kv_of_query);
    v_TKC = select_heads(v_TKC, own.kv_of_query);
  }
  return ops::packed_attention(q_THC, k_TKC, v_TKC, begin).reshape({begin.back() * heads, width});
}

std::vector<std::int64_t> times(std::vector<std::int64_t> counts, std::int64_t each) {
  for (auto& count : counts) count *= each;
  return counts;
}

/// Rows that are ordered by owner, and by token in each, as (T, H, C) in the order of the heads.
at::Tensor in_head_order(const at::Tensor& rows_XC, const std::vector<OwnedHeads>& owned,
                         std::int64_t tokens) {
  std::vector<at::Tensor> parts;
  std::vector<std::int64_t> order;  // the head at each place
  std::int64_t row = 0;
  for (const auto& of_owner : owned) {
    const auto heads = static_cast<std::int64_t>(of_owner.query.size());
    parts.push_back(rows_XC.narrow(0, row, tokens * heads).view({tokens, heads, rows_XC.size(1)}));
    row += tokens * heads;
    order.insert(order.end(), of_owner.query.begin(), of_owner.query.end());
  }
  std::vector<std::int64_t> place_H(order.size());
  for (std::size_t place = 0; place < order.size(); ++place) {
    place_H[static_cast<std::size_t>(order[place])] = static_cast<std::int64_t>(place);
  }
  return select_heads(at::cat(parts, 1), place_H);
}

}  // namespace

std::vector<OwnedHeads> heads_by_owner(const std::vector<int>& head_H, std::int64_t kv_heads,
                                       int processes) {
  std::vector<OwnedHeads> owned(static_cast<std::size_t>(processes));
  const auto queries = static_cast<std::int64_t>(head_H.size()) / kv_heads;
  for (std::size_t h = 0; h < head_H.size(); ++h) {
    auto& own = owned.at(static_cast<std::size_t>(head_H[h]));
    const auto head = static_cast<std::int64_t>(h);
    const auto kv = head / queries;
    own.query.push_back(head);
    if (own.kv.empty() || own.kv.back() != kv) own.kv.push_back(kv);
    own.kv_of_query.push_back(static_cast<std::int64_t>(own.kv.size()) - 1);
  }
  return owned;
}

void require_gated_heads(const std::vector<model::BlockAdapters>& blocks) {
  const bool is_there = std::any_of(blocks.begin(), blocks.end(), [](const auto& block) {
    return block.attention.gates_pretrained();
  });
  if (is_there) return;
  throw base::UsageError(
      "configuration parallel.heads = shard without gates of pretrained attention: no head could "
      "run at its owner, expected a [dfa] section with attention = pretrained, or heads = home");
}

at::Tensor ShardedHeads::attend(std::int64_t layer, const at::Tensor& q_THC,
                                const at::Tensor& k_TKC, const at::Tensor& v_TKC,
                                const std::vector<std::int64_t>& begin) {
  const auto tokens = q_THC.size(0);
  const auto heads = q_THC.size(1);
  const auto kv_heads = k_TKC.size(1);
  const auto width = q_THC.size(2);
  const auto owned = heads_by_owner(owners_(layer).head_H, kv_heads, comm_.num_processes());
  const auto& own = owned[static_cast<std::size_t>(comm_.process())];
  const auto tag = base::text("C2/layer/", layer, "/heads/");
  const auto peers = exchange_documents(begin, comm_, tag);
  const auto all_TXC = at::cat({q_THC, k_TKC, v_TKC}, 1);
  std::vector<at::Tensor> rows;
  std::vector<std::int64_t> send;
  std::vector<std::int64_t> heads_P;
  for (const auto& of_owner : owned) {
    auto slices = of_owner.query;
    for (const auto kv : of_owner.kv) slices.push_back(heads + kv);
    for (const auto kv : of_owner.kv) slices.push_back(heads + kv_heads + kv);
    send.push_back(tokens * of_owner.slices());
    heads_P.push_back(tokens * static_cast<std::int64_t>(of_owner.query.size()));
    // A KV head that several owners read has its gradients summed here, by autograd.
    rows.push_back(select_heads(all_TXC, slices).view({send.back(), width}));
  }
  const auto arrived =
      exchange_rows(at::cat(rows), send, times(peers.tokens_P, own.slices()), comm_, tag + "send");
  const auto own_heads = static_cast<std::int64_t>(own.query.size());
  const auto back = exchange_rows(attend_here(arrived, own, peers.begin),
                                  times(peers.tokens_P, own_heads), heads_P, comm_, tag + "back");
  return in_head_order(back, owned, tokens).view({tokens, heads * width});
}

}  // namespace dfmoa::distributed
