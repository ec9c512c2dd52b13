#include "src/train/choices.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "src/base/error.h"
#include "tests/data/small_data.h"
#include "tests/support/tiny_model.h"

namespace dfmoa::train {
namespace {

using formats::contains;
using formats::sentence_of;
using model::Transformer;

data::ChoiceItem item_of(const std::string& question, std::vector<std::string> texts,
                         std::size_t answer = 0) {
  return {{question, "", "", false}, std::move(texts), answer, "t", "f:" + question};
}

class ChoicesScored : public data::SmallData {
 protected:
  void SetUp() override {
    data::SmallData::SetUp();
    model::write_tiny_model(folder_);
  }

  Transformer mixture(const std::string& scope) {
    Transformer mixed(model::load_tiny_model(folder_, at::kDouble));
    mixed.adapt(model::tiny_plan(scope), 3);
    model::stir(mixed);
    return mixed;
  }

  /// Texts of one and of several tokens; some differ in their last token only.
  static std::vector<data::ChoiceItem> items() {
    return {item_of("xyz xyz", {"a", "b", "kk", "the end"}, 2),
            item_of("q", {"mmn", "mmo", "mmp"}, 1), item_of("uvwuvwuvw ", {"the", "he", "xx"}, 0),
            item_of("zz", {"ab", "ab"}, 1)};
  }

  /// Each text in a forward of its own, from all logits.
  double alone(const Transformer& model, const data::ChoiceItem& item, std::size_t text) {
    const auto sample =
        reader(config_).continuations(item.question, true, {item.texts[text]}).front();
    const auto x_TD =
        model.hidden(model.pack_sequences({sample.token}, {0}, {{0, sample.prompt_tokens - 1}}));
    const auto log_p_TV =
        at::log_softmax(model.logits(x_TD, at::arange(x_TD.size(0), at::kLong)), 1);
    double sum = 0;
    for (auto t = sample.prompt_tokens; t < x_TD.size(0); ++t) {
      sum += log_p_TV[t - 1][sample.token[static_cast<std::size_t>(t)]].item<double>();
    }
    return sum;
  }
};

TEST_F(ChoicesScored, every_text_has_the_likelihood_that_it_has_alone) {
  const auto all = items();
  const auto model = mixture("token");
  for (const std::int64_t tokens_per_row : {1, 24, 512}) {
    const auto scored = ChoiceRows(all, reader(config_), tokens_per_row, true).score(model);
    ASSERT_EQ(scored.size(), all.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      ASSERT_EQ(scored[i].log_likelihood.size(), all[i].texts.size());
      for (std::size_t c = 0; c < all[i].texts.size(); ++c) {
        EXPECT_NEAR(scored[i].log_likelihood[c], alone(model, all[i], c), 1e-10) << i << c;
      }
    }
  }
}

TEST_F(ChoicesScored, span_gates_read_the_question) {
  const std::vector<data::ChoiceItem> all{item_of("xyz xyz", {"a", "b", "kk", "the end"}),
                                          item_of("uvwuvwuvw", {"the", "mm"})};
  const auto model = mixture("span");
  const auto scored = ChoiceRows(all, reader(config_), 512, true).score(model);
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t c = 0; c < all[i].texts.size(); ++c) {
      EXPECT_NEAR(scored[i].log_likelihood[c], alone(model, all[i], c), 1e-10) << i << c;
    }
  }
}

TEST_F(ChoicesScored, texts_that_differ_in_their_last_token_share_a_document) {
  const auto rows = [&](std::vector<std::string> texts) {
    return ChoiceRows({item_of("xyz", std::move(texts))}, reader(config_), 512, true);
  };
  EXPECT_EQ(rows({"a", "b", "k"}).tokens(), 3) << "the question alone";
  EXPECT_EQ(rows({"mmn", "mmo"}).tokens(), 5);
  EXPECT_EQ(rows({"mmn", "mzn"}).tokens(), 10);
}

TEST_F(ChoicesScored, chooses_the_likeliest_whole_and_per_byte) {
  const auto model = mixture("token");
  const auto all = items();
  const auto scored = ChoiceRows(all, reader(config_), 512, true).score(model);
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t c = 0; c < all[i].texts.size(); ++c) {
      const auto per_byte = [&](std::size_t text) {
        return scored[i].log_likelihood[text] / static_cast<double>(all[i].texts[text].size());
      };
      EXPECT_LE(scored[i].log_likelihood[c], scored[i].log_likelihood[scored[i].chosen]);
      EXPECT_LE(per_byte(c), per_byte(scored[i].chosen_norm));
    }
  }
  EXPECT_EQ(scored[3].chosen, 0U) << "equal texts: the first";
}

TEST_F(ChoicesScored, figures_count_right_choices_by_task) {
  std::vector<data::ChoiceItem> all;
  std::vector<ScoredItem> scored;
  for (std::size_t i = 0; i < 5; ++i) {
    all.push_back(item_of("x", {"a", "b"}, i % 2));
    all.back().task = i < 4 ? "four" : "one";
    scored.push_back({{-1, -2}, 0, 1});  // right where the answer is 0; by bytes where it is 1
  }
  auto tasks = choice_figures(all, scored);
  ASSERT_EQ(tasks.size(), 2U);
  EXPECT_EQ(tasks["four"].items, 4);
  EXPECT_EQ(tasks["four"].acc, 0.5);
  EXPECT_EQ(tasks["four"].acc_norm, 0.5);
  EXPECT_NEAR(tasks["four"].stderr_, std::sqrt(0.25 / 4), 1e-15);
  EXPECT_EQ(tasks["one"].acc, 1);
  EXPECT_EQ(tasks["one"].acc_norm, 0);
  EXPECT_EQ(tasks["one"].stderr_, 0);
  const auto total = all_choice_figures(all, scored);
  EXPECT_EQ(total.items, 5);
  EXPECT_NEAR(total.acc, 0.6, 1e-15);
  EXPECT_NEAR(total.acc_norm, 0.4, 1e-15);
  EXPECT_NEAR(total.stderr_norm, std::sqrt(0.24 / 5), 1e-15);
}

TEST_F(ChoicesScored, sample_lines_tell_every_item) {
  auto all = items();
  all[2].task = "u";
  std::vector<ScoredItem> scored;
  for (const auto& item : all) scored.push_back({std::vector(item.texts.size(), -1.5), 0, 1});
  std::istringstream lines(sample_lines(all, scored));
  std::vector<nlohmann::json> read;
  for (std::string line; std::getline(lines, line);) read.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(read.size(), 4U);
  EXPECT_EQ(read[1], nlohmann::json::parse(R"({"task": "t", "item": 2, "where": "f:q", "answer": 1,
                "log_likelihood": [-1.5, -1.5, -1.5], "bytes": [3, 3, 3], "chosen": 0,
                "chosen_norm": 1})"));
  EXPECT_EQ(read[2]["item"], 1);
  EXPECT_EQ(read[3]["item"], 3);
}

TEST_F(ChoicesScored, refuses_items_by_their_place) {
  const auto refusal = [&](const data::ChoiceItem& item) {
    return sentence_of<base::ContentError>(
        [&] { (void)ChoiceRows({item}, reader(config_), 512, true).score(mixture("token")); });
  };
  EXPECT_TRUE(contains(refusal(item_of("t", {"he", "x"})), "f:t: the text 'he' adds no token"));
  EXPECT_TRUE(contains(refusal(item_of(std::string(64, 'x'), {"ab", "b"})),
                       "the document has 65 tokens, expected at most the 64 positions"));
}

TEST_F(ChoicesScored, refuses_a_likelihood_that_is_no_number) {
  auto broken = std::make_shared<model::BaseModel>(*model::load_tiny_model(folder_, at::kDouble));
  broken->head_VD = at::full_like(broken->head_VD, std::numeric_limits<double>::quiet_NaN());
  const ChoiceRows rows(items(), reader(config_), 512, true);
  const auto sentence =
      sentence_of<base::MachineError>([&] { (void)rows.score(Transformer(broken)); });
  EXPECT_TRUE(contains(sentence, "f:xyz xyz: the log-likelihood of a choice is")) << sentence;
}

}  // namespace
}  // namespace dfmoa::train
