// The segmented step against whole-graph autograd, for any cut of the work over processes.
#include "src/train/step.h"

#include <gtest/gtest.h>

#include "distributed/comm/local.h"
#include "src/base/error.h"
#include "src/ops/linear_cross_entropy.h"
#include "src/ops/norm.h"
#include "src/train/state.h"
#include "tests/formats/temporary_folder.h"
#include "tests/support/lone_transport.h"
#include "tests/support/tiny_model.h"

namespace dfmoa::train {
namespace {

using Gradients = std::vector<at::Tensor>;

class StepTest : public formats::TemporaryFolder {
 protected:
  void SetUp() override {
    formats::TemporaryFolder::SetUp();
    model::write_tiny_model(folder_);
    base_ = model::load_tiny_model(folder_, at::kDouble);
  }

  /// Unequal rows; row 2 bears no loss.
  static std::vector<data::PackedRow> rows(std::size_t count) {
    std::vector<data::PackedRow> all;
    for (std::size_t m = 0; m < count; ++m) {
      data::PackedRow row;
      const auto tokens = static_cast<std::int64_t>(3 + 2 * m);
      for (std::int64_t t = 0; t < tokens; ++t) {
        row.token_T.push_back((7 * t + 13 * static_cast<std::int64_t>(m)) % 250);
        row.position_T.push_back(t);
        row.target_T.push_back(t > 0 && m != 2 ? (11 * t + 1) % 250 : -1);
      }
      row.document_begin = {0, tokens};
      row.document_id = {static_cast<std::int64_t>(m)};
      row.prompt_end = {1};
      row.span_begin = {0};
      row.span_end = {1};
      row.task = {""};
      row.where = {base::text("rows:", m)};
      all.push_back(std::move(row));
    }
    return all;
  }

  model::Transformer model(const std::string& kind) const {
    model::Transformer mixed(base_);
    auto plan = model::tiny_plan("token");
    plan.routers["main"].kind = kind;
    plan.routers["main"].entropy = "fixed";
    plan.routers["main"].entropy_weight = 0.5;
    if (kind == "topk") {
      plan.routers["main"].balance = "switch";
      plan.routers["main"].balance_weight = 0.3;
    }
    plan.rank_gates["gate"] = {};
    plan.adapters["mix"].rank_gate = "gate";
    if (kind == "per_site") {  // three routers a block, and a LoRA without any
      plan.routers["main"].kind = "softmax";
      plan.routers["main"].input = "per_site";
      plan.adapters["mix"].sites = {"q", "k", "down"};
      plan.adapters["plain"].sites = {"o"};
    }
    mixed.adapt(plan, 3);
    model::stir(mixed);
    return mixed;
  }

  static Gradients gradients_of(const model::Transformer& model) {
    Gradients all;
    for (const auto& block : model.blocks()) {
      for (std::size_t i = 0; i < block.parameters().specs().size(); ++i) {
        all.push_back(block.parameters().gradient(i).clone());
      }
    }
    return all;
  }

  static const model::StepKey kKey;

  Gradients segmented(const std::string& kind, std::size_t micro_batches, int processes,
                      bool keep) const {
    Gradients result;
    std::mutex mutex;
    comm::run_local(processes, [&](comm::Communicator& comm) {
      auto mixed = model(kind);
      auto entropy = make_entropy(mixed);
      distributed::ExpertTransport transport(mixed, comm, {}, keep);
      Step step(mixed, entropy, transport, {keep, false});
      (void)step.run(rows(micro_batches), kKey, {});
      const std::lock_guard lock(mutex);
      if (comm.process() == comm.num_processes() - 1) result = gradients_of(mixed);
    });
    return result;
  }

  /// Statistics of every block times the gradient of the mean of all routers' balance terms there.
  static at::Tensor balance_seed(const std::vector<at::Tensor>& statistics,
                                 const std::vector<BlockEntropy>& entropy) {
    auto loss = at::zeros({}, at::kDouble);
    for (std::size_t l = 0; l < statistics.size(); ++l) {
      const auto values = statistics[l].detach().contiguous();
      const auto routers = entropy[l].size();
      const auto size = static_cast<std::size_t>(values.numel()) / routers;
      for (std::size_t r = 0; r < routers; ++r) {  // of the mean over all routers of the model
        const std::span<const double> own(values.const_data_ptr<double>() + r * size, size);
        const auto kappa = torch::tensor(entropy[l][r].gradient(own), torch::kDouble) /
                           static_cast<double>(statistics.size() * routers);
        const auto part = statistics[l].narrow(0, static_cast<std::int64_t>(r * size),
                                               static_cast<std::int64_t>(size));
        loss = loss + (part * kappa).sum();
      }
    }
    return loss;
  }

  /// One graph over all rows and blocks, balance terms seeded by their gradient at the global
  /// statistics. Its loss is cross-entropy from whole logits, or the head's own gradient as a seed.
  Gradients whole_graph(const std::string& kind, std::size_t micro_batches,
                        bool own_head = false) const {
    auto mixed = model(kind);
    auto entropy = make_entropy(mixed);
    const auto all = rows(micro_batches);
    std::int64_t n_loss = 0;
    for (const auto& row : all) n_loss += row.loss_tokens();
    std::vector<at::Tensor> statistics(mixed.blocks().size());
    auto loss = at::zeros({}, at::kDouble);
    for (const auto& row : all) {
      const auto packed = mixed.pack(row);
      auto x = mixed.embed(packed);
      for (std::size_t l = 0; l < mixed.blocks().size(); ++l) {
        const auto out = mixed.blocks()[l].forward(x, {packed, kKey});
        x = out.y_TD;
        statistics[l] =
            statistics[l].defined() ? statistics[l] + out.statistics_U : out.statistics_U;
      }
      if (own_head) {
        const auto head =
            mixed.head(x.detach(), packed, 1.0 / static_cast<double>(n_loss), /*gradient=*/true);
        loss = loss + (x * head.dx_TD).sum();
        continue;
      }
      const auto normed = ops::rms_norm_plain(x.index_select(0, packed.loss_row_X),
                                              base_->final_norm_D, base_->architecture.norm_eps);
      loss = loss + ops::linear_cross_entropy_plain(normed, base_->head_VD, packed.target_X).sum() /
                        static_cast<double>(n_loss);
    }
    loss = loss + balance_seed(statistics, entropy);
    std::vector<at::Tensor> leaves;
    for (auto& block : mixed.blocks()) {
      const auto& own = block.parameters().leaves();
      leaves.insert(leaves.end(), own.begin(), own.end());
    }
    auto result = torch::autograd::grad({loss}, leaves, {}, false, false, true);
    for (std::size_t i = 0; i < result.size(); ++i) {
      if (!result[i].defined()) result[i] = at::zeros_like(leaves[i]);
    }
    return result;
  }

  static double distance(const Gradients& one, const Gradients& two) {
    double worst = one.size() == two.size() ? 0.0 : 1e9;
    for (std::size_t i = 0; i < std::min(one.size(), two.size()); ++i) {
      const double scale = std::max(two[i].abs().max().item<double>(), 1e-30);
      worst = std::max(worst, (one[i] - two[i]).abs().max().item<double>() / scale);
    }
    return worst;
  }

  std::shared_ptr<const model::BaseModel> base_;
};

const model::StepKey StepTest::kKey{5, 3, model::RankPhase::noisy};

/// Walking the blocks is what autograd does over the whole graph. Against logits in plain ops the
/// head's own rounding is added, enlarged where a gradient cancels (measured 2e-14 and 4e-14).
TEST_F(StepTest, equals_whole_graph_autograd_for_keep_and_recompute) {
  for (const std::string kind : {"softmax", "topk", "per_site"}) {
    const auto keep = segmented(kind, 1, 1, true);
    const auto walked = distance(keep, whole_graph(kind, 1, /*own_head=*/true));
    const auto plain = distance(keep, whole_graph(kind, 1));
    RecordProperty(kind + "_walked", std::to_string(walked * 1e16) + "e-16");
    RecordProperty(kind + "_plain", std::to_string(plain * 1e16) + "e-16");
    EXPECT_LE(walked, 1e-14) << kind;
    EXPECT_LE(plain, 2e-13) << kind;
    const auto recompute = segmented(kind, 1, 1, false);
    for (std::size_t i = 0; i < keep.size(); ++i) EXPECT_TRUE(at::equal(keep[i], recompute[i]));
  }
}

TEST_F(StepTest, does_not_depend_on_the_number_of_processes_or_on_the_cut) {
  for (const std::string kind : {"softmax", "topk", "per_site"}) {
    for (const std::size_t micro_batches : {1U, 3U, 4U}) {
      const auto expected = whole_graph(kind, micro_batches);
      for (const int processes : {1, 2, 3, 4}) {  // with 1 row, processes 1.. have none
        EXPECT_LE(distance(segmented(kind, micro_batches, processes, true), expected), 1e-12)
            << kind << " M " << micro_batches << " P " << processes;
      }
    }
  }
}

TEST_F(StepTest, a_micro_batch_without_tokens_changes_no_bit) {
  const auto with = [&](const std::vector<data::PackedRow>& all) {
    auto mixed = model("topk");
    auto entropy = make_entropy(mixed);
    const auto comm = comm::make_single();
    distributed::ExpertTransport transport(mixed, *comm, {}, true);
    Step step(mixed, entropy, transport, {true, false});
    (void)step.run(all, kKey, {});
    return gradients_of(mixed);
  };
  auto all = rows(2);
  const auto expected = with(all);
  all.insert(all.begin() + 1, data::PackedRow{});
  const auto padded = with(all);
  ASSERT_EQ(padded.size(), expected.size());
  for (std::size_t i = 0; i < padded.size(); ++i) {
    EXPECT_TRUE(at::equal(padded[i], expected[i])) << i;
  }
}

/// Logits mixed by one router: three numbers of every tensor, its router's through the mixture and
/// through the balance term, which counts documents once.
TEST_F(StepTest, gradients_of_mixed_logits_are_the_slopes_of_the_whole_loss) {
  auto plan = model::tiny_plan("first_token");
  auto& router = plan.routers["main"];
  router.mix = "logits";
  router.kind = "topk_literal";
  router.entropy = "fixed";
  router.entropy_of = "unit";
  router.entropy_weight = 0.5;
  model::Transformer mixed(base_);
  mixed.adapt(plan, 3);
  model::stir(mixed);
  const auto all = rows(2);
  const auto entropy_of_model = make_entropy(mixed);
  const auto run = [&](bool keep) {
    auto entropy = entropy_of_model;
    LoneTransport alone(mixed, keep);
    return Step(mixed, entropy, *alone, {keep, false}).run(all, kKey, {});
  };
  const auto loss = [&] {
    const auto result = run(true);
    return result.ce_sum.item<double>() / result.n_loss + result.balance;
  };
  const auto units = mixed.blocks()[0].adapters().routers[0].layout().units();
  EXPECT_EQ(run(false).statistics[0][static_cast<std::size_t>(units)], 2.0);
  const auto gradients = gradients_of(mixed);
  std::size_t tensor = 0;
  for (const auto& block : mixed.blocks()) {
    for (const auto& spec : block.parameters().specs()) {
      const auto gradient = gradients[tensor++].reshape({-1});
      const auto flat = block.parameters().leaf(spec.name).detach().view({-1});
      EXPECT_GT(gradient.abs().max().item<double>(), 1e-6) << block.layer() << spec.name;
      for (const auto at_place : {std::int64_t{0}, flat.numel() / 2, flat.numel() - 1}) {
        const auto place = flat[at_place];
        const double kept = place.item<double>();
        const auto moved = [&](double by) {
          place.fill_(kept + by);
          const double value = loss();
          place.fill_(kept);
          return value;
        };
        const double slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        EXPECT_NEAR(gradient[at_place].item<double>(), slope, 1e-6 * std::max(1.0, std::abs(slope)))
            << block.layer() << spec.name << " " << at_place;
      }
    }
  }
}

TEST_F(StepTest, issues_exactly_C0_to_C2) {
  auto mixed = model("softmax");
  auto entropy = make_entropy(mixed);
  const auto comm = comm::make_single();
  distributed::ExpertTransport transport(mixed, *comm, {}, true);
  Step step(mixed, entropy, transport, {true, false});
  (void)step.run(rows(1), kKey, {});
  std::vector<std::string> tags;
  for (const auto& record : comm->recorder().records()) {
    if (!record.tag.starts_with("mesh/")) tags.push_back(record.tag);  // once, before any step
  }
  EXPECT_EQ(tags, (std::vector<std::string>{"C0", "C1", "C2/layer/1", "C2/layer/0"}));
}

TEST_F(StepTest, rows_without_any_loss_are_refused_by_name) {
  auto mixed = model("softmax");
  auto entropy = make_entropy(mixed);
  const auto comm = comm::make_single();
  distributed::ExpertTransport transport(mixed, *comm, {}, true);
  Step step(mixed, entropy, transport, {true, false});
  auto all = rows(3);
  all.erase(all.begin(), all.begin() + 2);
  const auto sentence =
      formats::sentence_of<base::ContentError>([&] { (void)step.run(all, kKey, {}); });
  EXPECT_TRUE(formats::contains(sentence, "rows:2")) << sentence;
}

}  // namespace
}  // namespace dfmoa::train
