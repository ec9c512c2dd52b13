#include "src/model/literal_forms.h"

#include <gtest/gtest.h>

#include "tests/support/systems.h"

namespace dfmoa::model {
namespace {

TEST(LiteralForms, corrected_systems_have_nothing_to_say) {
  for (const auto& system : tests::corrected_systems()) {
    EXPECT_TRUE(literal_forms(system.plan).empty()) << system.name;
  }
}

TEST(LiteralForms, every_literal_system_says_what_it_is_and_what_was_repaired) {
  std::string all;
  for (const auto& system : tests::literal_systems()) {
    const auto notes = literal_forms(system.plan);
    EXPECT_FALSE(notes.empty()) << system.name;
    for (const auto& note : notes) all += note + "\n";
  }
  for (const std::string part :
       {"router.main: the gate of a document is read from its first token",
        "router.main: the entropy weight is trained on the loss itself", "rank.gate: gates are",
        "adapter.mix: the scale is alpha / rank", "router.block: the threshold has no gradient",
        "router.main: the balance term counts", "router.main: top-k weights are not renormalised",
        "router.main: every expert is a whole pass of the model",
        "repaired: heads are concatenated"}) {
    EXPECT_NE(all.find(part), std::string::npos) << part << "\n" << all;
  }
}

}  // namespace
}  // namespace dfmoa::model
