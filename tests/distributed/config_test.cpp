#include "distributed/config.h"

#include "src/base/error.h"
#include "tests/support/tensors.h"

namespace dfmoa::distributed {
namespace {

using tests::contains;
using tests::refusal;

ParallelConfig parallel(std::int64_t expert, const std::string& transport,
                        const std::string& gather = "auto") {
  ParallelConfig config;
  config.expert = expert;
  config.transport = transport;
  config.gather = gather;
  return config;
}

TEST(ParallelConfig, every_field_is_reachable_by_its_name) {
  ParallelConfig config;
  auto list = base::FieldList::of(config);
  list.assign("parallel", "expert", "4");
  list.assign("parallel", "transport", "move_tokens");
  list.assign("parallel", "gather", "step");
  list.assign("parallel", "owners", "1,0,1");
  list.assign("parallel", "head_owners", "0,1");
  list.assign("parallel", "heads", "shard");
  EXPECT_EQ(config.expert, 4);
  EXPECT_EQ(config.transport, "move_tokens");
  EXPECT_EQ(config.gather, "step");
  EXPECT_EQ(config.owners, (std::vector<std::string>{"1", "0", "1"}));
  EXPECT_EQ(config.head_owners, (std::vector<std::string>{"0", "1"}));
  EXPECT_EQ(config.heads, "shard");
}

TEST(ParallelConfig, impossible_values_are_refused_by_the_field) {
  ParallelConfig config;
  auto list = base::FieldList::of(config);
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"expert", "0"}, {"transport", "carrier"}, {"gather", "never"}, {"heads", "away"}}) {
    const auto sentence = refusal<base::UsageError>([&] { list.assign("parallel", key, value); });
    EXPECT_TRUE(contains(sentence, "parallel." + key)) << sentence;
  }
}

TEST(ParallelConfig, auto_shards_where_there_is_somebody_to_share_with) {
  EXPECT_EQ(parallel(1, "auto").chosen(), Transport::replicate);
  EXPECT_EQ(parallel(2, "auto").chosen(), Transport::move_weights);
  for (const std::int64_t expert : {1, 3}) {
    EXPECT_EQ(parallel(expert, "replicate").chosen(), Transport::replicate);
    EXPECT_EQ(parallel(expert, "move_weights").chosen(), Transport::move_weights);
    EXPECT_EQ(parallel(expert, "move_tokens").chosen(), Transport::move_tokens);
  }
}

TEST(ParallelConfig, transports_are_called_as_they_are_chosen) {
  for (const std::string name : {"replicate", "move_weights", "move_tokens"}) {
    EXPECT_EQ(name_of(parallel(2, name).chosen()), name);
  }
}

TEST(ParallelConfig, gathered_weights_stay_where_graphs_are_kept) {
  EXPECT_TRUE(parallel(2, "auto", "auto").gathers_steps(/*keeps_graphs=*/true));
  EXPECT_FALSE(parallel(2, "auto", "auto").gathers_steps(/*keeps_graphs=*/false));
  for (const bool keeps_graphs : {true, false}) {
    EXPECT_TRUE(parallel(2, "auto", "step").gathers_steps(keeps_graphs));
    EXPECT_FALSE(parallel(2, "auto", "block").gathers_steps(keeps_graphs));
  }
}

TEST(ParallelConfig, a_kept_graph_does_not_go_with_weights_of_a_block) {
  for (const std::string transport : {"move_weights", "move_tokens"}) {
    const auto config = parallel(2, transport, "block");
    const auto sentence =
        refusal<base::UsageError>([&] { config.validate(/*keeps_graphs=*/true); });
    EXPECT_TRUE(contains(sentence, "parallel.gather = block with train.memory = keep")) << sentence;
    EXPECT_TRUE(contains(sentence, "expected train.memory = recompute or gather = step"));
    EXPECT_NO_THROW(config.validate(/*keeps_graphs=*/false));
  }
  EXPECT_NO_THROW(parallel(2, "replicate", "block").validate(/*keeps_graphs=*/true));
  EXPECT_NO_THROW(parallel(2, "move_weights", "step").validate(/*keeps_graphs=*/true));
}

TEST(ExplicitOwners, are_numbers_of_processes_or_left_to_a_rule) {
  const std::vector<std::string> rules{"default", "balanced"};
  EXPECT_EQ(explicit_owners("owners", {"2", "0", "2"}, rules, 3), (std::vector<int>{2, 0, 2}));
  EXPECT_TRUE(explicit_owners("owners", {"default"}, rules, 3).empty());
  EXPECT_TRUE(explicit_owners("owners", {"balanced"}, rules, 3).empty());
}

TEST(ExplicitOwners, a_rule_of_another_key_is_no_word) {
  const auto sentence = refusal<base::UsageError>(
      [&] { (void)explicit_owners("head_owners", {"balanced"}, {"default"}, 3); });
  EXPECT_TRUE(contains(sentence, "parallel.head_owners = balanced")) << sentence;
  EXPECT_TRUE(contains(sentence, "expected default or processes from 0 to 2")) << sentence;
}

TEST(ParallelConfig, of_other_groups_forgets_lists_of_their_places) {
  auto config = parallel(4, "move_weights", "auto");
  config.owners = {"3", "0", "1"};
  config.head_owners = {"0", "3"};
  config.heads = "shard";
  EXPECT_EQ(config.shared_by(4).owners, config.owners);
  const auto two = config.shared_by(2);
  EXPECT_EQ(two.expert, 2);
  EXPECT_EQ(two.owners, (std::vector<std::string>{"default"}));
  EXPECT_EQ(two.head_owners, (std::vector<std::string>{"default"}));
  EXPECT_EQ(two.heads, "shard");
  EXPECT_EQ(two.transport, "move_weights");
  EXPECT_NO_THROW(config.shared_by(1).validate(/*keeps_graphs=*/true));
  config.owners = {"balanced"};
  EXPECT_EQ(config.shared_by(2).owners, (std::vector<std::string>{"balanced"}));
}

TEST(ExplicitOwners, other_words_are_refused_with_the_key) {
  for (const std::string word : {"3", "-1", "one", "1x", "", "default"}) {
    const auto sentence = refusal<base::UsageError>([&] {
      (void)explicit_owners("head_owners", {"0", word}, {"default"}, 3);
    });
    EXPECT_TRUE(contains(sentence, "parallel.head_owners = 0," + word)) << sentence;
    EXPECT_TRUE(contains(sentence, "processes from 0 to 2")) << sentence;
  }
}

}  // namespace
}  // namespace dfmoa::distributed
