// What expert_transport.h promises about state that several processes hold.
#include <charconv>

#include "distributed/expert_transport_parts.h"
#include "src/base/error.h"
#include "src/base/hash.h"
#include "src/base/text.h"

namespace dfmoa::distributed {
namespace {

void add_tensor(base::Hash128& hash, const at::Tensor& tensor) {
  const auto host = tensor.detach().to(at::kCPU).contiguous();
  hash.add(host.const_data_ptr(), static_cast<std::size_t>(host.nbytes()));
}

/// 63 bits: a reduction can take it and its complement.
std::int64_t number_of(const base::Hash128& hash) {
  const auto hex = hash.hex();
  std::uint64_t number = 0;
  (void)std::from_chars(hex.data(), hex.data() + 16, number, 16);
  return static_cast<std::int64_t>(number >> 1);
}

/// Values and both moments, one tensor per spec each.
std::array<std::vector<at::Tensor>, 3> state_of(const adapters::ParameterSet& held) {
  std::array<std::vector<at::Tensor>, 3> all;
  for (std::size_t i = 0; i < held.specs().size(); ++i) {
    all[0].push_back(held.leaves()[i].detach());
    all[1].push_back(held.moment1(i));
    all[2].push_back(held.moment2(i));
  }
  return all;
}

void require_equal(const base::Hash128& hash, comm::Communicator& comm, const std::string& what,
                   std::string_view tag) {
  const auto number = number_of(hash);
  std::array<std::int64_t, 2> ends{number, -number};
  comm.all_reduce(ends.data(), 2, base::DType::i64, comm::Op::max, tag);
  if (ends[0] == -ends[1]) return;
  throw base::MachineError(base::text(what, " differ between the ", comm.num_processes(),
                                      " processes that hold them, expected the same bits"));
}

}  // namespace

void ExpertTransport::check_replicas(std::string_view tag) const {
  base::Hash128 shared;
  base::Hash128 owned;
  for (const auto& block : model_.blocks()) {
    const auto& held = block.parameters();
    if (held.empty()) continue;
    for (const auto& tensors : state_of(held)) {
      if (!is_sharded()) {
        for (const auto& tensor : tensors) add_tensor(shared, tensor);
        continue;
      }
      const auto& layer = layers_[static_cast<std::size_t>(block.layer())];
      for (const auto& rows : layer.shared.own_rows(tensors)) add_tensor(shared, rows);
      for (const auto& rows : layer.owned.own_rows(tensors)) add_tensor(owned, rows);
    }
  }
  require_equal(shared, mesh_.world(), is_sharded() ? "routers and what else all hold" : "adapters",
                tag);
  if (is_sharded()) require_equal(owned, mesh_.copies(), "experts of one owner", tag);
}

}  // namespace dfmoa::distributed
