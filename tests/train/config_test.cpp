#include "src/train/config.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::train {
namespace {

TEST(RunConfigTest, a_key_without_its_section_is_refused_with_the_whole_key) {
  RunConfig run;
  const auto known = formats::sentence_of<base::UsageError>([&] { run.set("learning_rate", "1"); });
  EXPECT_TRUE(formats::contains(known, "learning_rate: expected section.key, such as train.l"))
      << known;
  const auto unknown = formats::sentence_of<base::UsageError>([&] { run.set("nonsense", "1"); });
  EXPECT_TRUE(formats::contains(unknown, "nonsense: expected section.key, such as train.steps"))
      << unknown;
}

TEST(RunConfigTest, a_name_without_its_section_is_what_is_told_first) {
  for (const std::string key :
       {"adapter.main.router", "adapter.main.rank_gate", "dfa.router", "dfa.rank_gate"}) {
    RunConfig run;
    run.set("router.mian.kind", "softmax");  // named by nobody, which is told after it
    run.set(key, "main");
    const auto sentence = formats::sentence_of<base::UsageError>([&] { run.validate(); });
    const auto kind = key.ends_with("router") ? "router" : "rank";
    EXPECT_TRUE(formats::contains(
        sentence, base::text(key, " = main: there is no section [", kind, ".main]")))
        << sentence;
  }
}

TEST(RunConfigTest, a_section_that_no_adapter_names_is_refused_with_the_nearest) {
  RunConfig run;
  run.set("adapter.main.router", "main");
  run.set("router.main.kind", "softmax");
  run.validate();
  run.set("router.mian.kind", "topk");
  const auto router = formats::sentence_of<base::UsageError>([&] { run.validate(); });
  EXPECT_TRUE(
      formats::contains(router,
                        "[router.mian]: no adapter and no [dfa] names it; the nearest that one "
                        "names is [router.main]"))
      << router;
  RunConfig bare;
  bare.set("adapter.main.rank", "4");
  bare.set("rank.main.budget", "9");
  const auto rank = formats::sentence_of<base::UsageError>([&] { bare.validate(); });
  EXPECT_TRUE(formats::contains(rank,
                                "[rank.main]: no adapter and no [dfa] names it; "
                                "adapter.NAME.rank_gate = main would"))
      << rank;
}

/// A later piece of a document has no prompt that such a gate could read.
TEST(RunConfigTest, pieces_of_documents_do_not_go_with_gates_of_a_span) {
  RunConfig run;
  run.set("adapter.main.router", "main");
  run.set("router.main.scope", "span");
  run.set("data.long", "truncate");
  run.validate();
  run.set("data.long", "split");
  const auto sentence = formats::sentence_of<base::UsageError>([&] { run.validate(); });
  EXPECT_TRUE(formats::contains(sentence, "router.main.scope = span")) << sentence;
}

/// They would divide 0 by 0, or correct a bias by 1 / 0.
TEST(RunConfigTest, an_optimizer_that_cannot_be_is_refused) {
  RunConfig run;
  for (const auto& [key, value] : {std::pair("epsilon", "0"), std::pair("beta1", "1"),
                                   std::pair("beta2", "1"), std::pair("beta1", "-0.1")}) {
    EXPECT_THROW(run.set(std::string("train.") + key, value), base::UsageError) << key;
  }
}

}  // namespace
}  // namespace dfmoa::train
