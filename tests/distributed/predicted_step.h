// A step that is carried out beside its prediction.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "distributed/cost_model.h"
#include "src/model/adapt.h"
#include "src/model/gate_record.h"
#include "src/train/rank_budget.h"
#include "src/train/state.h"
#include "src/train/step.h"
#include "src/train/step_cost.h"
#include "tests/distributed/parallel_run.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::distributed {

inline std::shared_ptr<const model::BaseModel> small_base() {
  model::TinyShape shape;
  shape.layers = 3;
  return model::tiny_base(shape, at::kFloat);
}

inline train::RunConfig configured(const model::AdapterPlan& plan, const Layout& layout,
                                   std::int64_t micro_batches) {
  train::RunConfig run;
  run.plan = plan;
  run.set("parallel.expert", std::to_string(layout.expert));
  run.set("parallel.transport", layout.transport);
  run.set("parallel.gather", layout.gather);
  run.set("train.memory", layout.memory);
  run.set("train.micro_batches", std::to_string(micro_batches));
  for (const auto& [key, value] : layout.more) run.set(key, value);
  return run;
}

/// Rows of different lengths; the second holds no loss on some documents.
inline std::vector<data::PackedRow> rows_of(std::int64_t micro_batches) {
  std::vector<data::PackedRow> rows;
  for (std::int64_t m = 0; m < micro_batches; ++m) {
    rows.push_back(model::tiny_row({5 + m, 3}, static_cast<std::uint64_t>(m + 1)));
  }
  return rows;
}

/// What process `process` records in one step that is carried out.
class RealStep {
 public:
  RealStep(const train::RunConfig& run, std::shared_ptr<const model::BaseModel> base)
      : run_(run), base_(std::move(base)) {}

  std::vector<std::vector<comm::Record>> records(int processes) const {
    std::vector<std::vector<comm::Record>> all(static_cast<std::size_t>(processes));
    const auto rows = rows_of(run_.train.micro_batches);
    comm::run_local(processes, [&](comm::Communicator& comm) {
      model::Transformer model(base_);
      const bool keeps = run_.train.memory == "keep";
      ExpertTransport transport(model, comm, run_.parallel, keeps);
      transport.adapt(run_.plan, 1);
      auto entropy = train::make_entropy(model);
      train::Step step(model, entropy, transport, {keeps, run_.train.statistics == "lag_one"});
      const train::RankBudget budget(run_.plan, run_.train.steps);
      const train::RankBudget dimensions(run_.plan, run_.train.steps, train::RankOwner::dimensions);
      comm.recorder().clear();
      (void)step.run(rows, {1, 0, budget.phase(0), dimensions.phase(0)}, {});
      all[static_cast<std::size_t>(comm.process())] = comm.recorder().records();
    });
    return all;
  }

 private:
  const train::RunConfig& run_;
  std::shared_ptr<const model::BaseModel> base_;
};

/// The tokens of every micro-batch that have a gate for an expert of each owner, counted from the
/// gates of one process that holds the whole model.
class Histogram {
 public:
  Histogram(const train::RunConfig& run, const std::shared_ptr<const model::BaseModel>& base,
            const std::vector<BlockLayout>& blocks, const std::vector<data::PackedRow>& rows)
      : expert_(static_cast<int>(run.parallel.expert)) {
    model::Transformer model(base);
    model.adapt(run.plan, 1);
    for (const auto& row : rows) {
      const auto packed = model.pack(row);
      model::GateRecord record(model);
      (void)model.hidden(packed, nullptr, &record);
      auto& counts = counts_.emplace_back();
      for (std::int64_t layer = 0; layer < static_cast<std::int64_t>(blocks.size()); ++layer) {
        for (int group = 0; group < 4; ++group) {
          for (int place = 0; place < expert_; ++place) {
            counts[{layer, group, place}] = count(
                blocks[static_cast<std::size_t>(layer)], group, place, packed,
                gates_of(blocks[static_cast<std::size_t>(layer)], layer, group, packed, record));
          }
        }
      }
    }
  }

  [[nodiscard]] Routing of(int process, int processes,
                           const std::vector<BlockLayout>& blocks) const {
    return [=, this, &blocks](std::int64_t slot, const BlockLayout& block, int group) {
      const auto layer = static_cast<std::int64_t>(&block - blocks.data());
      const int place = process % expert_;
      RoutedRows rows;
      for (int other = 0; other < expert_; ++other) {
        const auto at = [&](int who, int owner) -> std::int64_t {
          const auto m = static_cast<std::size_t>(slot * processes + process - place + who);
          return m < counts_.size() ? counts_[m].at({layer, group, owner}) : 0;
        };
        rows.sent.push_back(at(place, other));
        rows.received.push_back(at(other, place));
      }
      return rows;
    };
  }

 private:
  static at::Tensor gates_of(const BlockLayout& block, std::int64_t layer, int group,
                             const model::PackedRows& packed, const model::GateRecord& record) {
    std::vector<at::Tensor> columns;
    if (packed.copies && block.whole.copies > 0) columns.push_back(packed.copies->gate_TE);
    for (const auto& entry : record.entries()) {
      const auto& router = *entry.router;
      const bool serves = router.group < 0 || router.group == group;
      if (entry.layer != layer || !serves || router.of_heads) continue;
      if (!router.config.mixes_logits()) columns.push_back(entry.w_TE);
    }
    if (columns.empty()) return {};
    if (block.whole.has_ungated) columns.push_back(at::ones({columns[0].size(0), 1}));
    for (auto& column : columns) column = column.to(at::kDouble);
    return at::cat(columns, 1);
  }

  static std::int64_t count(const BlockLayout& block, int group, int place,
                            const model::PackedRows& packed, const at::Tensor& gate_TG) {
    const auto tokens = packed.token_T.size(0);
    auto any_T = at::zeros({tokens}, at::kBool);
    for (const auto& site : block.whole.groups[static_cast<std::size_t>(group)].sites) {
      for (std::int64_t e = 0; e < site.experts(); ++e) {
        if (site.rank_E[static_cast<std::size_t>(e)] == 0) continue;
        if (block.owners.units.at(unit_name(site, e)) != place) continue;
        any_T = gate_TG.defined() ? any_T.logical_or(gate_TG.select(1, site.column + e) != 0)
                                  : at::ones({tokens}, at::kBool);
      }
    }
    return any_T.sum().item<std::int64_t>();
  }

  int expert_;
  std::vector<std::map<std::tuple<std::int64_t, int, int>, std::int64_t>> counts_;
};

/// Tokens of all processes of a copy, and documents of one, in every slot.
inline RowsOfSlot rows_known(std::vector<data::PackedRow> rows_of_all, int process,
                             const Spread& spread) {
  return [=, rows_of_all = std::move(rows_of_all)](std::int64_t slot) {
    PeerRows rows;
    const auto micro_batches = static_cast<std::int64_t>(rows_of_all.size());
    const int place = process % spread.expert;
    for (int other = 0; other < spread.expert; ++other) {
      const auto m = slot * spread.processes + process - place + other;
      const bool has_row = m < micro_batches;
      const auto& row = rows_of_all[static_cast<std::size_t>(has_row ? m : 0)];
      rows.tokens_P.push_back(has_row ? row.tokens() : 0);
      if (other == place) rows.documents = has_row ? row.documents() : 0;
    }
    return rows;
  };
}

inline std::string words_of(const std::vector<comm::Record>& records) {
  std::string all;
  for (const auto& record : records) {
    all += base::text("  ", comm::describe(record), " over ", record.processes, ", kept ",
                      record.kept_elements, "\n");
  }
  return all;
}

/// What every process is predicted to record in a step with these rows, whose gates are those of
/// the first step.
inline std::vector<std::vector<comm::Record>> predicted_records(
    const train::RunConfig& run, const StepForm& form, const std::vector<BlockLayout>& blocks,
    const std::shared_ptr<const model::BaseModel>& base, const std::vector<data::PackedRow>& rows) {
  const int processes = form.spread.processes;
  const bool counts_tokens = form.spread.transport == Transport::move_tokens;
  const std::optional<Histogram> histogram =
      counts_tokens ? std::optional<Histogram>(std::in_place, run, base, blocks, rows)
                    : std::nullopt;
  std::vector<std::vector<comm::Record>> all(static_cast<std::size_t>(processes));
  for (int process = 0; process < processes; ++process) {
    const auto routing = histogram ? histogram->of(process, processes, blocks) : Routing();
    const auto known = rows_known(rows, process, form.spread);
    for (auto& one : collectives_of_step(blocks, form, process, routing, known)) {
      all[static_cast<std::size_t>(process)].push_back(std::move(one.record));
    }
  }
  return all;
}

/// Compares with a step on every process; -> bytes that were sent.
inline std::int64_t expect_predicted(const train::RunConfig& run, int processes,
                                     const std::shared_ptr<const model::BaseModel>& base) {
  const auto form = train::step_form(run, processes, 0);
  const auto blocks =
      plan_layout(model::plan_blocks(run.plan, *base), base->architecture, run.parallel);
  const auto planned = predicted_records(run, form, blocks, base, rows_of(run.train.micro_batches));
  const auto real = RealStep(run, base).records(processes);
  std::int64_t sent = 0;
  for (int process = 0; process < processes; ++process) {
    auto predicted = planned[static_cast<std::size_t>(process)];
    // The vote, and what follows it, is no part of the step that is carried out here.
    std::erase_if(predicted, [](const auto& record) { return record.tag.starts_with("C3"); });
    const auto& records = real[static_cast<std::size_t>(process)];
    EXPECT_EQ(words_of(predicted), words_of(records)) << "process " << process;
    for (std::size_t i = 0; i < std::min(records.size(), predicted.size()); ++i) {
      EXPECT_EQ(predicted[i].bytes(), records[i].bytes());
      EXPECT_EQ(predicted[i].sent_bytes(), records[i].sent_bytes());
      sent += records[i].sent_bytes();
    }
  }
  return sent;
}

}  // namespace dfmoa::distributed
