// How experts, tokens and gradients travel between the processes of a run: one mathematics, three
// ways (docs/architecture.md).
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "distributed/config.h"
#include "distributed/head_parallel.h"
#include "distributed/mesh.h"
#include "distributed/ownership.h"
#include "distributed/token_exchange.h"
#include "distributed/weight_gather.h"
#include "src/model/expert_source.h"
#include "src/model/transformer.h"

namespace dfmoa::distributed {

/// Sums of gradients that are under way at once: enough to run beside the blocks that are still in
/// backward, few enough that messages of all blocks never exist together.
inline constexpr std::size_t kSumsInFlight = 4;

/// Every sum is over exactly the processes that hold a contribution, and never an average: the loss
/// is divided by the global number of loss-bearing tokens already. A process without tokens takes
/// part with zeros.
class ExpertTransport final : public model::ExpertSource {
 public:
  /// Collective. Serves `model` from now on; `keeps_graphs`: train.memory = keep. Both references
  /// are held. A model that is adapted already holds all of its experts, as `replicate` wants them.
  /// Throws UsageError for keys that do not go together, or with the size of the world.
  ExpertTransport(model::Transformer& model, comm::Communicator& world,
                  const ParallelConfig& config, bool keeps_graphs);
  ~ExpertTransport() override;
  ExpertTransport(const ExpertTransport&) = delete;
  ExpertTransport& operator=(const ExpertTransport&) = delete;

  /// Installs adapters, of which this process holds what it owns. Throws as Transformer::adapt, and
  /// UsageError for heads = shard if no block has gates that heads could be sharded by.
  void adapt(const model::AdapterPlan& plan, std::uint64_t seed);
  /// After the banks of the blocks were cut: messages get other sizes, owners stay.
  void rearrange();
  /// After `match_ranks` of a checkpoint: owners are chosen anew from the ranks that are left. What
  /// the blocks hold afterwards has no values yet.
  void choose_owners();

  [[nodiscard]] const ParallelConfig& config() const { return config_; }
  [[nodiscard]] const Mesh& mesh() const { return mesh_; }
  [[nodiscard]] Transport transport() const { return transport_; }
  [[nodiscard]] bool is_sharded() const { return transport_ != Transport::replicate; }
  /// Whether this process counts what it holds of experts in a sum over the world: one for each.
  [[nodiscard]] bool speaks() const {
    return is_sharded() ? mesh_.speaks() : mesh_.world().process() == 0;
  }
  /// Null where nothing is owned: all is held and run everywhere, or the layer has no adapters.
  [[nodiscard]] const BlockOwners* owners(std::int64_t layer) const;

  /// In words: all of transport and owners that decides in which order sums are made.
  [[nodiscard]] std::string order_of_sums() const;

  /// Collective: values and moments that several processes hold have the same bits in all of them.
  /// Throws MachineError on every process that holds some that differ.
  void check_replicas(std::string_view tag) const;

  // What a block computes with (the port).
  [[nodiscard]] const model::TrainedPart& fetch(const model::Block& block,
                                                const model::Block* next) override;
  void release(const model::Block& block) override;
  [[nodiscard]] model::TokenExchange* tokens() override;
  [[nodiscard]] model::HeadExchange* heads() override;

  // The gradients of a step.
  /// All gradients are 0; weights that stay for the step are gathered.
  void begin_step();
  /// Adds what a micro-batch gave for the leaves of `fetch`; `last`: nothing more will come, sums
  /// over processes may start.
  void add(model::Block& block, const std::vector<at::Tensor>& gradients, bool last);
  /// Afterwards every held gradient is the sum over the world.
  void finish_step();
  /// () fp64: what this process counts of the squared norm of all gradients, in a sum over the
  /// world.
  [[nodiscard]] at::Tensor squared_norm_share() const;

 private:
  struct Layer;  // what travels of a block
  struct Lent;   // weights that are there for a pass
  [[nodiscard]] Layer arrange(const model::Block& block) const;
  /// Where every process holds all experts, heads have owners nevertheless.
  void choose_head_owners();
  [[nodiscard]] Lent& lent_for(const model::Block& block);
  void make_room(Lent& lent, const Layer& layer) const;
  /// Elements of the largest message of one owner.
  [[nodiscard]] std::int64_t largest_message() const;
  void start_gather(Lent& lent, const model::Block& block);
  void finish_gather(Lent& lent, const model::Block& block);
  void start_scatter(model::Block& block, const std::vector<at::Tensor>& gradients, bool last);
  void finish_scatter();
  void start_sums(model::Block& block);
  void start_sum(model::Block& block, const WeightGather& rows, comm::Communicator& comm,
                 const char* what);
  /// The oldest ones, until so many are left.
  void finish_sums(std::size_t left);
  /// Flat, where the model computes; and where communicators read.
  [[nodiscard]] at::Tensor buffer(std::int64_t elements) const;
  [[nodiscard]] at::Tensor message_buffer(std::int64_t elements) const;

  model::Transformer& model_;
  ParallelConfig config_;
  Mesh mesh_;
  Transport transport_;
  bool gathers_steps_;
  Ownership ownership_;
  std::unique_ptr<AllToAllTokens> tokens_;
  std::unique_ptr<ShardedHeads> heads_;
  std::vector<Layer> layers_;
  std::vector<std::unique_ptr<Lent>> lent_;  ///< two, used in turn; or one a layer for the step
  struct Gather;
  std::unique_ptr<Gather> gather_;  ///< the one under way, and its memory
  struct Scatter;
  std::unique_ptr<Scatter> scatter_;
  struct Sum;
  std::vector<Sum> sums_;
};

}  // namespace dfmoa::distributed
