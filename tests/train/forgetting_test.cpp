#include "src/train/forgetting.h"

#include <cmath>
#include <limits>

#include "src/base/error.h"
#include "src/train/evaluate.h"
#include "tests/data/small_data.h"
#include "tests/support/tiny_model.h"

namespace dfmoa::train {
namespace {

using formats::contains;
using formats::sentence_of;
using model::Transformer;

class ForgettingTest : public data::SmallData {
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

  std::vector<data::PackedRow> rows(const std::string& path, std::int64_t tokens,
                                    bool halves = false) {
    return rows_of_text(path, reader(config_), tokens, halves);
  }

  static std::vector<std::int64_t> targets(const std::vector<data::PackedRow>& rows) {
    std::vector<std::int64_t> all;
    for (const auto& row : rows) {
      for (const auto target : row.target_T) {
        if (target >= 0) all.push_back(target);
      }
    }
    return all;
  }
};

/// The same sum as `evaluate` takes, of the base and of the model.
TEST_F(ForgettingTest, lines_of_text_have_the_perplexity_that_evaluation_gives_them) {
  const auto file = write_texts("t.jsonl", {5, 9, 20, 3});
  const auto model = mixture("token");
  const auto found = measure_forgetting(model, rows(file, 16));
  const auto expected = [&](const Transformer& of) {
    return evaluate(of, tokenizer(), reader(config_), {file}, {}).total;
  };
  // 21 tokens with their end in rows of 16: that line is cut, and its pieces do not see each other.
  EXPECT_EQ(found.tokens, expected(model).tokens);
  const auto whole = measure_forgetting(model, rows(file, 64));
  EXPECT_NEAR(whole.perplexity, expected(model).perplexity, 1e-9);
  EXPECT_NEAR(whole.base_perplexity, expected(model.without_adapters()).perplexity, 1e-9);
  EXPECT_GT(std::abs(whole.perplexity - whole.base_perplexity), 1e-3);
}

TEST_F(ForgettingTest, a_plain_text_is_cut_into_pieces_and_loses_no_token_but_the_first) {
  const std::string text = "xyzuvwmqkxyzuvwmqkzzyyxx";
  const auto file = write("t.txt", text);
  const auto packed = rows(file, 10);
  std::vector<std::int64_t> expected(text.begin() + 1, text.end());
  EXPECT_EQ(targets(packed), expected);
  EXPECT_EQ(packed.size(), 3U);
  for (const auto& row : packed) EXPECT_LE(row.tokens(), 10);
  EXPECT_EQ(packed[1].position_T.front(), 0);
  EXPECT_EQ(measure_forgetting(mixture("token"), packed).tokens, 23);
}

TEST_F(ForgettingTest, halves_are_read_by_span_gates_before_the_rest_is_predicted) {
  const std::string text = "xyzuvwmqkxyzuvwmqkzzyyxx";  // 24 tokens: pieces of 10, 10 and 4
  const auto packed = rows(write("t.txt", text), 10, /*halves=*/true);
  std::string predicted;
  for (const auto target : targets(packed)) predicted += static_cast<char>(target);
  EXPECT_EQ(predicted, text.substr(6, 5) + text.substr(16, 5) + text.substr(23));
  EXPECT_EQ(packed[0].span_begin[0], 0);
  EXPECT_EQ(packed[0].span_end[0], 5);
  const auto model = mixture("span");
  const auto before = measure_forgetting(model, packed);
  EXPECT_TRUE(std::isfinite(before.perplexity));
  // What is predicted is not read by the gate: another last token changes no gate.
  auto changed = text;
  changed[9] = 'z';
  const auto other = rows(write("t.txt", changed), 10, true);
  const auto hidden = [&](const data::PackedRow& row) { return model.hidden(model.pack(row)); };
  EXPECT_TRUE(at::equal(hidden(packed[0]).narrow(0, 0, 9), hidden(other[0]).narrow(0, 0, 9)));
}

TEST_F(ForgettingTest, a_model_that_has_learned_nothing_has_forgotten_nothing) {
  Transformer model(model::load_tiny_model(folder_, at::kDouble));
  model.adapt(model::tiny_plan("token"), 3);
  const auto found = measure_forgetting(model, rows(write_texts("t.jsonl", {5, 9}), 64));
  EXPECT_EQ(found.perplexity, found.base_perplexity);
}

TEST_F(ForgettingTest, refuses_what_is_no_text) {
  const auto refusal = [&](const std::string& name, const std::string& content) {
    return sentence_of<base::ContentError>([&] { (void)rows(write(name, content), 16); });
  };
  const std::string line = R"({"text": "xy"})";
  EXPECT_TRUE(contains(refusal("t.jsonl", line + "\n{\n"), "t.jsonl:2:"));
  EXPECT_TRUE(contains(refusal("t.jsonl", R"({"prompt": "x", "completion": "y"})"),
                       "t.jsonl:1: it has a prompt, expected {\"text\"}"));
  EXPECT_TRUE(contains(refusal("t.txt", "x"), "t.txt: no token of this text can be predicted"));
  EXPECT_TRUE(contains(refusal("t.txt", ""), "no token of this text"));
  EXPECT_TRUE(contains(refusal("t.txt", "x\xff"), "t.txt: byte 1"));
  EXPECT_THROW((void)rows((folder_ / "nowhere.txt").string(), 16), base::UsageError);
}

TEST_F(ForgettingTest, refuses_a_loss_that_is_no_number) {
  auto broken = std::make_shared<model::BaseModel>(*model::load_tiny_model(folder_, at::kDouble));
  broken->head_VD = at::full_like(broken->head_VD, std::numeric_limits<double>::quiet_NaN());
  const auto packed = rows(write("t.txt", "xyz"), 16);
  const auto sentence = sentence_of<base::MachineError>(
      [&] { (void)measure_forgetting(Transformer(broken), packed); });
  EXPECT_TRUE(contains(sentence, "t.txt: the loss over 2 tokens is")) << sentence;
}

}  // namespace
}  // namespace dfmoa::train
