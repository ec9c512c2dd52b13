#include "distributed/cost_model.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "distributed/head_parallel.h"
#include "src/base/text.h"

namespace dfmoa::distributed {

namespace {

using comm::Record;

std::int64_t sum_without(const std::vector<std::int64_t>& counts, int here) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0}) -
         counts.at(static_cast<std::size_t>(here));
}

/// What the exchanges of one group of a block look like.
struct GroupTrip {
  bool is_on = false;      ///< some of its linears are adapted
  std::int64_t width = 0;  ///< numbers of a token on its way: hidden state and gates
  std::int64_t back = 0;   ///< what experts add to it
  bool names_documents = false;
  bool has_gradient = false;  ///< something below or beside is trained: backward goes through
};

bool has_trained_gate(const model::BlockAdapters& whole, int group) {
  return std::any_of(whole.routers.begin(), whole.routers.end(), [&](const auto& router) {
    return (router.group == group || router.group < 0) && !router.of_heads &&
           !router.config.mixes_logits();
  });
}

bool trains_attention(const model::BlockAdapters& whole) {
  const bool has_prompt = std::any_of(whole.sides.begin(), whole.sides.end(),
                                      [](const auto& side) { return side.kind == "prompt"; });
  return has_prompt || whole.attention.router >= 0 || whole.attention.has_logits() ||
         whole.attention.literal;
}

/// `is_lowest`: nothing below the block is trained.
std::array<GroupTrip, 4> trips_of(const BlockLayout& block, bool is_lowest,
                                  adapters::RankPhase phase) {
  std::array<GroupTrip, 4> trips;
  bool below = !is_lowest;
  for (int g = 0; g < 4; ++g) {
    const auto& bank = block.whole.groups[static_cast<std::size_t>(g)];
    auto& trip = trips[static_cast<std::size_t>(g)];
    trip.is_on = !bank.sites.empty();
    trip.width = bank.in_features + gate_columns(block.whole, g);
    for (const auto& site : bank.sites) trip.back += site.out_features;
    trip.names_documents =
        bank.rank_gated && adapters::is_per_document(block.whole.rank_kind, phase);
    trip.has_gradient = below || has_trained_gate(block.whole, g);
    below = below || trip.is_on || (g == 0 && trains_attention(block.whole));
  }
  return trips;
}

/// The heads of a block on their way.
struct HeadTrip {
  std::vector<OwnedHeads> owned;  ///< by place; empty: they run at home
  std::int64_t width = 0;         ///< of a head
  bool has_gradient = false;      ///< queries, keys or values lead to something trained
};

HeadTrip head_trip_of(const BlockLayout& block, const StepForm& form, bool is_lowest) {
  if (!form.spread.shards_heads || !block.whole.attention.gates_pretrained()) return {};
  const auto& gates = block.whole.attention;
  const bool gates_queries = form.dimension_phase != adapters::RankPhase::held &&
                             gates.has_logits() &&
                             std::any_of(gates.masks.begin(), gates.masks.end(),
                                         [](const auto& mask) { return mask.name == "qk"; });
  return {heads_by_owner(block.owners.head_H, block.shape.kv_heads, form.spread.expert),
          block.shape.head_dim,
          !is_lowest || gates_queries || !block.whole.groups[0].sites.empty()};
}

/// A step as Step and ExpertTransport carry it out, with the state of the latter that decides what
/// is gathered when.
class PlannedStep {
 public:
  PlannedStep(const std::vector<BlockLayout>& blocks, const StepForm& form, int process,
              const Routing& routing, const RowsOfSlot& rows_of_slot)
      : blocks_(blocks),
        form_(form),
        place_(process % form.spread.expert),
        routing_(routing),
        rows_of_slot_(rows_of_slot) {
    const auto is_adapted = [](const auto& block) { return !block.whole.empty(); };
    lowest_ = std::find_if(blocks.begin(), blocks.end(), is_adapted) - blocks.begin();
    for (const auto& block : blocks) {
      rows_.push_back(layer_rows(block, form.spread, place_, form.dtype));
      const auto layer = static_cast<std::int64_t>(trips_.size());
      trips_.push_back(trips_of(block, layer <= lowest_, form.phase));
      head_trips_.push_back(head_trip_of(block, form, layer <= lowest_));
      for (const auto& router : block.whole.routers) statistics_ += router.layout().size();
    }
    is_gathered_.assign(blocks.size(), false);
  }

  std::vector<PlannedCollective> run() {
    add("C0", "all_reduce", 3, base::DType::f64, Group::world);
    if (form_.counts_first()) {
      for (std::int64_t slot = 0; slot < form_.slots(); ++slot) forward(slot);
      count();
    }
    for (std::int64_t slot = 0; slot < form_.slots(); ++slot) {
      forward(slot);
      if (!form_.lag_one && !form_.counts_first()) count();
      backward(slot);
    }
    finish_scatter();
    if (form_.lag_one) count();
    add("C3", "all_reduce", form_.vote_figures, base::DType::f64, Group::world);
    add("C3", "all_reduce", 4, base::DType::i64, Group::world);
    if (form_.compares_directions) compare_gates(adapters::ParameterGroup::rank_gate);
    if (form_.compares_dimensions) compare_gates(adapters::ParameterGroup::dimension_gate);
    return std::move(planned_);
  }

 private:
  [[nodiscard]] std::int64_t top() const { return static_cast<std::int64_t>(blocks_.size()) - 1; }
  [[nodiscard]] const LayerRows& rows(std::int64_t layer) const {
    return rows_[static_cast<std::size_t>(layer)];
  }
  [[nodiscard]] std::string tag(std::int64_t layer, const std::string& what) const {
    return base::text("C2/layer/", layer, what);
  }

  void add(std::string tag, const char* op, std::int64_t elements, base::DType dtype, Group group,
           std::int64_t kept = 0) {
    const auto& spread = form_.spread;
    Record record{std::move(tag), op, elements, dtype};
    record.processes = group == Group::world     ? spread.processes
                       : group == Group::experts ? spread.expert
                                                 : spread.copies();
    record.kept_elements = kept;
    planned_.push_back({std::move(record), group});
  }

  /// How many gates the others hold, then the gates.
  void compare_gates(adapters::ParameterGroup kind) {
    if (!form_.spread.is_sharded()) return;
    add("C3/proximal", "all_reduce", 1, base::DType::i64, Group::experts);
    add("C3/proximal", "all_gather", most_gates(blocks_, form_.spread, kind), form_.dtype,
        Group::experts);
  }
  void count() { add("C1", "all_reduce", statistics_, base::DType::f64, Group::world); }

  void forward(std::int64_t slot) {
    for (std::int64_t layer = 0; layer <= top(); ++layer) {
      fetch(layer, layer + 1);
      send_tokens(slot, layer);
      release(layer);
    }
  }

  void backward(std::int64_t slot) {
    const bool last = slot + 1 == form_.slots();
    for (auto layer = top(); layer >= lowest_; --layer) {
      fetch(layer, layer - 1);
      if (!form_.spread.keeps_graphs) send_tokens(slot, layer);
      return_gradients(slot, layer);
      release(layer);
      if (rows(layer).has_parameters) give_gradients(layer, last);
    }
  }

  void fetch(std::int64_t layer, std::int64_t next) {
    if (rows(layer).travelling == 0) return;
    gather(layer);
    const bool is_ahead = next >= lowest_ && next <= top() && !form_.spread.gathers_steps;
    if (is_ahead && rows(next).travelling > 0) gather(next);
  }
  void gather(std::int64_t layer) {
    if (is_gathered_[static_cast<std::size_t>(layer)]) return;
    is_gathered_[static_cast<std::size_t>(layer)] = true;
    add(tag(layer, "/gather"), "all_gather", rows(layer).travelling, form_.dtype, Group::experts);
  }
  void release(std::int64_t layer) {
    if (!form_.spread.gathers_steps) is_gathered_[static_cast<std::size_t>(layer)] = false;
  }

  void give_gradients(std::int64_t layer, bool last) {
    if (!form_.spread.is_sharded()) {
      if (last) add(tag(layer, ""), "all_reduce", rows(layer).flat, form_.dtype, Group::world);
      return;
    }
    if (rows(layer).travelling == 0) {
      finish_scatter();
      if (last) sum(layer);
      return;
    }
    if (form_.spread.gathers_steps && !last) return;
    finish_scatter();
    add(tag(layer, "/scatter"), "reduce_scatter", rows(layer).travelling, form_.dtype,
        Group::experts);
    is_scattering_ = true;
    scattered_ = last ? layer : -1;
  }
  /// What was scattered last is summed over the copies when the next one begins.
  void finish_scatter() {
    if (is_scattering_ && scattered_ >= 0) sum(scattered_);
    is_scattering_ = false;
  }
  void sum(std::int64_t layer) {
    const auto& spread = form_.spread;
    if (rows(layer).owned > 0 && spread.copies() > 1) {
      add(tag(layer, "/owned"), "all_reduce", rows(layer).owned, form_.dtype, Group::copies);
    }
    if (rows(layer).shared > 0 && spread.processes > 1) {
      add(tag(layer, "/shared"), "all_reduce", rows(layer).shared, form_.dtype, Group::world);
    }
  }

  [[nodiscard]] const GroupTrip* trip(std::int64_t layer, int group) const {
    const auto& found = trips_[static_cast<std::size_t>(layer)][static_cast<std::size_t>(group)];
    return form_.spread.transport == Transport::move_tokens && found.is_on ? &found : nullptr;
  }
  [[nodiscard]] RoutedRows routed(std::int64_t slot, std::int64_t layer, int group) const {
    return routing_(slot, blocks_[static_cast<std::size_t>(layer)], group);
  }
  void exchange(std::int64_t layer, int group, const char* what, std::int64_t elements) {
    add(tag(layer, base::text("/tokens/", model::kGroups[static_cast<std::size_t>(group)], what)),
        "all_to_all", elements, form_.dtype, Group::experts);
  }
  void send_tokens(std::int64_t slot, std::int64_t layer) {
    for (int g = 0; g < 4; ++g) {
      if (g == 1) send_heads(slot, layer);
      const auto* const way = trip(layer, g);
      if (way == nullptr) continue;
      const auto tokens = routed(slot, layer, g);
      const auto out = sum_without(tokens.sent, place_);
      exchange(layer, g, "/counts", form_.spread.expert);
      planned_.back().record.dtype = base::DType::i64;
      planned_.back().record.kept_elements = 1;
      exchange(layer, g, "/send", out * way->width);
      if (way->names_documents) {
        exchange(layer, g, "/documents", out);
        planned_.back().record.dtype = base::DType::i64;
      }
      exchange(layer, g, "/back", sum_without(tokens.received, place_) * way->back);
    }
  }
  /// Slices of heads that this process gives away and gets, for tokens that go to their owners and
  /// outputs that come back.
  struct HeadSlices {
    std::int64_t to_owners = 0, from_peers = 0, outputs_given = 0, outputs_got = 0;
  };
  [[nodiscard]] HeadSlices head_slices(const HeadTrip& way, const PeerRows& rows) const {
    const auto here = static_cast<std::size_t>(place_);
    const auto heads = [&](std::size_t p) {
      return static_cast<std::int64_t>(way.owned[p].query.size());
    };
    HeadSlices slices;
    for (std::size_t p = 0; p < way.owned.size(); ++p) {
      if (p == here) continue;
      slices.to_owners += rows.tokens_P[here] * way.owned[p].slices() * way.width;
      slices.from_peers += rows.tokens_P[p] * way.owned[here].slices() * way.width;
      slices.outputs_given += rows.tokens_P[p] * heads(here) * way.width;
      slices.outputs_got += rows.tokens_P[here] * heads(p) * way.width;
    }
    return slices;
  }
  void exchange_heads(std::int64_t layer, const char* what, std::int64_t elements,
                      base::DType dtype, std::int64_t kept = 0) {
    add(tag(layer, base::text("/heads/", what)), "all_to_all", elements, dtype, Group::experts,
        kept);
  }
  void send_heads(std::int64_t slot, std::int64_t layer) {
    const auto& way = head_trips_[static_cast<std::size_t>(layer)];
    if (way.owned.empty()) return;
    const auto rows = rows_of_slot_(slot);
    const auto others = std::int64_t{form_.spread.expert} - 1;
    const auto slices = head_slices(way, rows);
    exchange_heads(layer, "documents/counts", others + 1, base::DType::i64, 1);
    exchange_heads(layer, "documents", rows.documents * others, base::DType::i64);
    exchange_heads(layer, "send", slices.to_owners, form_.dtype);
    exchange_heads(layer, "back", slices.outputs_given, form_.dtype);
  }
  void return_head_gradients(std::int64_t slot, std::int64_t layer) {
    const auto& way = head_trips_[static_cast<std::size_t>(layer)];
    if (way.owned.empty() || !way.has_gradient) return;
    const auto slices = head_slices(way, rows_of_slot_(slot));
    exchange_heads(layer, "back", slices.outputs_got, form_.dtype);
    exchange_heads(layer, "send", slices.from_peers, form_.dtype);
  }

  void return_gradients(std::int64_t slot, std::int64_t layer) {
    for (int g = 3; g >= 0; --g) {
      if (g == 0) return_head_gradients(slot, layer);
      const auto* const way = trip(layer, g);
      if (way == nullptr) continue;
      const auto tokens = routed(slot, layer, g);
      exchange(layer, g, "/back", sum_without(tokens.sent, place_) * way->back);
      if (!way->has_gradient) continue;
      exchange(layer, g, "/send", sum_without(tokens.received, place_) * way->width);
    }
  }

  const std::vector<BlockLayout>& blocks_;
  const StepForm& form_;
  int place_;
  const Routing& routing_;
  const RowsOfSlot& rows_of_slot_;
  std::vector<LayerRows> rows_;
  std::vector<std::array<GroupTrip, 4>> trips_;
  std::vector<HeadTrip> head_trips_;
  std::int64_t lowest_ = 0;
  std::int64_t statistics_ = 0;
  std::vector<bool> is_gathered_;
  bool is_scattering_ = false;
  std::int64_t scattered_ = -1;  ///< the layer under way if nothing more will come for it
  std::vector<PlannedCollective> planned_;
};

}  // namespace

std::vector<PlannedCollective> collectives_of_step(const std::vector<BlockLayout>& blocks,
                                                   const StepForm& form, int process,
                                                   const Routing& routing, const RowsOfSlot& rows) {
  return PlannedStep(blocks, form, process, routing, rows).run();
}

namespace {

/// "C2/layer/17/gather" -> "C2/gather", "C2/layer/3/tokens/mlp_in/send" -> "C2/tokens/send".
std::string purpose_of(const std::string& tag) {
  auto parts = base::split(tag, '/');
  if (parts.size() < 3 || parts[1] != "layer") return tag;
  parts.erase(parts.begin() + 1, parts.begin() + 3);
  if (parts.size() == 4) parts.erase(parts.begin() + 2);
  return parts.size() == 1 ? "C2/sum" : base::join(parts, "/");
}

std::int64_t messages_of(const Record& record) {
  if (record.processes == 1) return 0;
  return (record.op == "all_reduce" ? 2 : 1) * (record.processes - 1);
}

}  // namespace

std::vector<Traffic> traffic_of(const std::vector<PlannedCollective>& planned) {
  std::vector<Traffic> all;
  for (const auto& [record, group] : planned) {
    const auto purpose = purpose_of(record.tag);
    auto found = std::find_if(all.begin(), all.end(),
                              [&](const auto& one) { return one.collective == purpose; });
    if (found == all.end()) found = all.insert(all.end(), {purpose, group});
    found->calls += 1;
    found->bytes += record.bytes();
    found->sent_bytes += record.sent_bytes();
    found->messages += messages_of(record);
  }
  return all;
}

}  // namespace dfmoa::distributed
