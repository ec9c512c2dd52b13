#include "checkpoints/cover.h"

#include "src/base/error.h"
#include "src/base/hash.h"
#include "src/base/text.h"

namespace dfmoa::checkpoints {
namespace {

std::string listing_hash(const base::StateTree& tree) {
  base::Hash128 hash;
  for (const auto& [name, entry] : tree.entries()) {
    hash.add_text(name);
    hash.add_text(base::name_of(entry.dtype));
    hash.add_text(base::shape_text(entry.shape));
    hash.add_text(std::to_string(entry.owner));
  }
  return hash.hex();
}

void check_entry(const base::StateEntry& entry, int process, int num_processes) {
  const auto refuse = [&](const auto&... words) {
    throw base::ContentError(base::text("saving state ", entry.name, ": ", words...));
  };
  if (entry.owner < 0 || entry.owner >= num_processes) {
    refuse("its owner is process ", entry.owner, ", expected one of 0 to ", num_processes - 1);
  }
  if (entry.shape.empty()) refuse("its shape is (), expected a value or the shape (1)");
  for (const auto extent : entry.shape) {
    if (extent < 0) refuse("its shape is ", base::shape_text(entry.shape));
  }
  if (entry.owner == process && entry.data == nullptr && entry.bytes() != 0) {
    refuse("process ", process, " owns it and has no data, its shape ",
           base::shape_text(entry.shape), " asks for ", entry.bytes(), " bytes");
  }
}

/// A name can be a dataset or the group of others, not both.
void check_groups(const base::StateTree& tree) {
  for (const auto& [name, entry] : tree.entries()) {
    const auto inner = tree.entries().lower_bound(name + "/");
    if (inner != tree.entries().end() && inner->first.starts_with(name + "/")) {
      throw base::ContentError(base::text("saving state ", name,
                                          ": it is an array and also the "
                                          "group of ",
                                          inner->first));
    }
  }
}

void check_values(const base::StateTree& tree) {
  for (const auto& [name, value] : tree.values()) {
    if (name.empty() || name == kFormatValue || name == kStepValue) {
      throw base::ContentError(base::text("saving value '", name, "': this name is reserved"));
    }
    const auto* words = std::get_if<std::string>(&value);
    if (words != nullptr && words->find('\0') != std::string::npos) {
      throw base::ContentError(base::text("saving value ", name, ": its text holds a NUL byte"));
    }
  }
}

}  // namespace

void check_storable(const base::StateTree& tree, int process, int num_processes) {
  for (const auto& [name, entry] : tree.entries()) check_entry(entry, process, num_processes);
  check_groups(tree);
  check_values(tree);
}

void check_cover(const base::StateTree& tree, comm::Communicator& comm) {
  std::string refusal;
  try {
    check_storable(tree, comm.process(), comm.num_processes());
  } catch (const base::ContentError& error) {
    refusal = error.what();
  }
  const auto own = listing_hash(tree);
  auto first = own;
  comm.broadcast(first.data(), static_cast<std::int64_t>(first.size()), base::DType::u8, 0,
                 "checkpoint listing");
  if (refusal.empty() && own != first) {
    refusal =
        base::text("saving: process ", comm.process(), " lists ", tree.entries().size(),
                   " arrays that differ from those of process 0 in name, type, shape or owner");
  }
  if (comm.agree(refusal.empty(), "checkpoint cover")) return;
  if (refusal.empty()) refusal = "saving: another process refused its state";
  throw base::ContentError(refusal);
}

}  // namespace dfmoa::checkpoints
