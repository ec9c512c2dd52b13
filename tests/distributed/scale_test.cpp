// The same code on as many processes as a cluster has, as threads of one program.
#include "tests/distributed/parallel_run.h"
#include "tests/support/systems.h"

namespace dfmoa::distributed {
namespace {

class Scale : public ParallelRun, public testing::WithParamInterface<Layout> {};

TEST_P(Scale, one_step_of_many_processes_is_that_of_one) {
  auto plan = tests::corrected_systems()[0].plan;
  plan.adapters["mix"].experts = 8;  // some owners of 16 have none in a layer
  plan.rank_gates["gate"].start = 0;
  plan.rank_gates["gate"].budget = 12;
  const auto run = config(plan, {{"train.optimizer", "sgd"}, {"train.micro_batches", "40"}});
  const auto from = stirred(run, "stirred");
  (void)train_on({}, run, "one", from, 1);
  (void)train_on(GetParam(), run, "many", from, 1);
  expect_same("many", state_of("one"));
}

INSTANTIATE_TEST_SUITE_P(Layouts, Scale,
                         testing::Values(Layout{16, 16, "move_weights", "recompute"},
                                         Layout{16, 4, "move_tokens"}, Layout{64, 1, "replicate"},
                                         Layout{64, 8, "move_weights", "recompute"},
                                         Layout{64, 4, "move_tokens"}),
                         [](const auto& one) {
                           return base::text("P", one.param.processes, "EP", one.param.expert, "_",
                                             one.param.transport);
                         });

}  // namespace
}  // namespace dfmoa::distributed
