#include "src/train/cut_candidate.h"

#include "distributed/comm/local.h"
#include "src/base/error.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_run.h"

namespace dfmoa::train {
namespace {

using Ids = std::vector<std::int64_t>;

Ids ids_of(const std::vector<CutCandidate>& candidates) {
  Ids ids;
  for (const auto& one : candidates) ids.push_back(one.id);
  return ids;
}

/// Of what a process that holds everything lists, what owner `place` of `places` holds.
std::vector<CutCandidate> candidates_of(int place, int places) {
  std::vector<CutCandidate> held;
  for (std::size_t layer = 0; layer < 2; ++layer) {
    for (std::size_t site = 0; site < 2; ++site) {
      for (std::int64_t id = 0; id < 5; ++id) {
        if (places > 1 && id % (places - 1) != place) continue;  // the last holds none
        held.push_back({0.125 * static_cast<double>(id),
                        1.0 / 3.0 + static_cast<double>(layer),
                        id,
                        {layer, 1, site}});
      }
    }
  }
  return held;
}

TEST(CutCandidates, of_all_owners_stand_as_in_one_process) {
  const auto expected = candidates_of(0, 1);
  for (const int processes : {2, 3, 4}) {
    comm::run_local(processes, [&](comm::Communicator& comm) {
      model::Transformer model(model::tiny_base({}, at::kDouble));
      distributed::ParallelConfig config;
      config.expert = processes;
      config.transport = "move_weights";
      distributed::ExpertTransport transport(model, comm, config, /*keeps_graphs=*/true);
      const auto all = candidates_of_all(candidates_of(comm.process(), processes), transport);
      ASSERT_EQ(all.size(), expected.size()) << processes;
      for (std::size_t i = 0; i < all.size(); ++i) {
        EXPECT_EQ(all[i].id, expected[i].id) << i;
        EXPECT_EQ(all[i].place, expected[i].place) << i;
        EXPECT_EQ(all[i].probability, expected[i].probability) << "to the last bit";
        EXPECT_EQ(all[i].norm, expected[i].norm) << "to the last bit";
      }
    });
  }
}

/// With two copies of the model each candidate counts once.
TEST(CutCandidates, copies_are_no_candidates_of_their_own) {
  comm::run_local(4, [](comm::Communicator& comm) {
    model::Transformer model(model::tiny_base({}, at::kDouble));
    distributed::ParallelConfig config;
    config.expert = 2;
    config.transport = "move_tokens";
    distributed::ExpertTransport transport(model, comm, config, /*keeps_graphs=*/true);
    const auto held = candidates_of(transport.mesh().experts().process(), 2);
    EXPECT_EQ(candidates_of_all(held, transport).size(), candidates_of(0, 1).size());
  });
}

TEST(CutCandidates, of_processes_that_hold_everything_are_their_own) {
  comm::run_local(2, [](comm::Communicator& comm) {
    model::Transformer model(model::tiny_base({}, at::kDouble));
    distributed::ExpertTransport transport(model, comm, {}, /*keeps_graphs=*/true);
    const auto before = comm.recorder().count();
    EXPECT_EQ(ids_of(candidates_of_all({{1, 1, 4, {}}, {1, 1, 2, {}}}, transport)), (Ids{4, 2}));
    EXPECT_EQ(comm.recorder().count(), before) << "nobody is asked";
  });
}

TEST(CutCandidates, the_likeliest_then_the_largest_then_the_first_stay) {
  const std::vector<CutCandidate> all{
      {0.5, 9, 0, {}}, {1, 2, 7, {}}, {1, 3, 5, {}}, {1, 2, 1, {}}, {0.5, 9, 3, {}}};
  const auto kept = [&](std::int64_t budget) {
    auto candidates = all;
    keep_best(candidates, budget);
    return ids_of(candidates);
  };
  EXPECT_EQ(kept(0), (Ids{5, 1, 7, 0, 3})) << "no limit";
  EXPECT_EQ(kept(9), (Ids{5, 1, 7, 0, 3}));
  EXPECT_EQ(kept(4), (Ids{5, 1, 7, 0}));
  EXPECT_EQ(kept(1), (Ids{5}));
}

TEST(CutCandidates, of_equal_ones_the_first_listed_stays) {
  std::vector<CutCandidate> equals{
      {1, 2, 4, {0, 0, 0}}, {1, 2, 4, {0, 0, 1}}, {1, 2, 4, {1, 0, 0}}};
  keep_best(equals, 2);
  ASSERT_EQ(equals.size(), 2U);
  EXPECT_EQ(equals[0].place, (std::array<std::size_t, 3>{0, 0, 0}));
  EXPECT_EQ(equals[1].place, (std::array<std::size_t, 3>{0, 0, 1}));
}

TEST(CutCandidates, an_id_that_a_bank_has_not_is_refused) {
  const Ids bank{2, 3, 7};
  EXPECT_EQ(position_of(2, bank), 0);
  EXPECT_EQ(position_of(7, bank), 2);
  for (const std::int64_t id : {0, 5, 8}) {
    const auto sentence = tests::refusal<base::ShapeError>([&] { (void)position_of(id, bank); });
    EXPECT_TRUE(tests::contains(sentence, base::text("dimension ", id))) << sentence;
    EXPECT_TRUE(tests::contains(sentence, "the 3 of its bank")) << sentence;
  }
}

}  // namespace
}  // namespace dfmoa::train
