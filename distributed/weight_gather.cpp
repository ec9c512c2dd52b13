#include "distributed/weight_gather.h"

#include <algorithm>
#include <map>

#include "src/base/dtype.h"
#include "src/base/error.h"

namespace dfmoa::distributed {
namespace {

using adapters::ParameterSpec;

std::map<std::string, std::size_t> index_by_name(const std::vector<ParameterSpec>& specs) {
  std::map<std::string, std::size_t> index;
  for (std::size_t i = 0; i < specs.size(); ++i) index[specs[i].name] = i;
  return index;
}

std::int64_t row_elements(const ParameterSpec& spec) {
  return base::count_of({spec.shape.begin() + 1, spec.shape.end()});
}

}  // namespace

WeightGather::WeightGather(const std::vector<RowRun>& runs, const std::vector<ParameterSpec>& whole,
                           const std::vector<ParameterSpec>& held, int place, int places,
                           const std::function<bool(const RowRun&)>& takes)
    : place_(place) {
  const auto whole_of = index_by_name(whole);
  const auto held_of = index_by_name(held);
  std::vector<std::int64_t> end(static_cast<std::size_t>(places), 0);
  std::map<std::string, std::int64_t> held_end;
  for (const auto& run : runs) {
    const auto w = whole_of.at(run.parameter);
    const bool is_here = run.owner == place || run.owner == kHeldByAll;
    auto& held_begin = held_end[run.parameter];
    if (takes(run)) {
      Piece piece{w, 0, run.begin, held_begin, run.count, is_here ? place : run.owner, 0, 0};
      if (is_here) piece.held = held_of.at(run.parameter);
      piece.elements = run.count * row_elements(whole[w]);
      auto& offset = end.at(static_cast<std::size_t>(piece.owner));
      piece.offset = offset;
      offset += piece.elements;
      if (parameters_.empty() || parameters_.back() != w) parameters_.push_back(w);
      pieces_.push_back(piece);
    }
    if (is_here) held_begin += run.count;
  }
  largest_ = end.empty() ? 0 : *std::max_element(end.begin(), end.end());
}

namespace {

at::Tensor part_of(const at::Tensor& message, std::int64_t offset, const at::Tensor& like) {
  return message.narrow(0, offset, like.numel()).view(like.sizes());
}

}  // namespace

void WeightGather::pack_own(const std::vector<at::Tensor>& held, const at::Tensor& message) const {
  for (const auto& piece : pieces_) {
    if (piece.owner != place_) continue;
    const auto rows = held.at(piece.held).narrow(0, piece.held_begin, piece.rows);
    part_of(message, piece.offset, rows).copy_(rows);
  }
}

void WeightGather::add_own(const at::Tensor& message, const std::vector<at::Tensor>& held) const {
  for (const auto& piece : pieces_) {
    if (piece.owner != place_) continue;
    const auto rows = held.at(piece.held).narrow(0, piece.held_begin, piece.rows);
    rows.add_(part_of(message, piece.offset, rows));
  }
}

void WeightGather::unpack_own(const at::Tensor& message,
                              const std::vector<at::Tensor>& held) const {
  for (const auto& piece : pieces_) {
    if (piece.owner != place_) continue;
    const auto rows = held.at(piece.held).narrow(0, piece.held_begin, piece.rows);
    rows.copy_(part_of(message, piece.offset, rows));
  }
}

std::vector<at::Tensor> WeightGather::own_rows(const std::vector<at::Tensor>& held) const {
  std::vector<at::Tensor> rows;
  for (const auto& piece : pieces_) {
    if (piece.owner != place_) continue;
    rows.push_back(held.at(piece.held).narrow(0, piece.held_begin, piece.rows));
  }
  return rows;
}

void WeightGather::copy_held(const std::vector<at::Tensor>& held,
                             const std::vector<at::Tensor>& whole) const {
  for (const auto& piece : pieces_) {
    if (piece.owner != place_ || !whole.at(piece.whole).defined()) continue;
    whole[piece.whole]
        .narrow(0, piece.whole_begin, piece.rows)
        .copy_(held.at(piece.held).narrow(0, piece.held_begin, piece.rows));
  }
}

void WeightGather::add_held(const std::vector<at::Tensor>& whole,
                            const std::vector<at::Tensor>& held) const {
  for (const auto& piece : pieces_) {
    if (piece.owner != place_ || !whole.at(piece.whole).defined()) continue;
    held.at(piece.held)
        .narrow(0, piece.held_begin, piece.rows)
        .add_(whole[piece.whole].narrow(0, piece.whole_begin, piece.rows));
  }
}

void WeightGather::pack_all(const std::vector<at::Tensor>& whole,
                            const at::Tensor& messages) const {
  for (const auto& piece : pieces_) {
    if (!whole.at(piece.whole).defined()) continue;
    const auto rows = whole[piece.whole].narrow(0, piece.whole_begin, piece.rows);
    part_of(messages, piece.owner * largest_ + piece.offset, rows).copy_(rows);
  }
}

void WeightGather::unpack_all(const at::Tensor& messages,
                              const std::vector<at::Tensor>& whole) const {
  for (const auto& piece : pieces_) {
    const auto rows = whole.at(piece.whole).narrow(0, piece.whole_begin, piece.rows);
    rows.copy_(part_of(messages, piece.owner * largest_ + piece.offset, rows));
  }
}

}  // namespace dfmoa::distributed
