#include "src/data/sample.h"

#include "src/base/error.h"
#include "tests/data/small_data.h"

namespace dfmoa::data {
namespace {

using formats::contains;
using formats::sentence_of;
using Ids = std::vector<std::int32_t>;
using Mask = std::vector<std::uint8_t>;

class SampleTest : public SmallData {
 protected:
  Sample read(const std::string& text) { return reader(config_).read({text, "d.jsonl:7"}); }
};

TEST_F(SampleTest, completion_and_its_end_are_learned) {
  const auto sample = read(R"({"prompt": "xy", "completion": "za", "task": "t"})");
  EXPECT_EQ(sample.token, (Ids{'x', 'y', 'z', 'a', kEndId}));
  EXPECT_EQ(sample.trained, (Mask{0, 0, 1, 1, 1}));
  EXPECT_EQ(sample.prompt_tokens, 2);
  EXPECT_EQ(sample.task, "t");
  EXPECT_EQ(sample.where, "d.jsonl:7");
  EXPECT_EQ(sample.completion, "za");
}

TEST_F(SampleTest, no_token_reaches_across_the_border) {
  // Together "t" and "h" are one token, which would hide the prompt's last letter.
  const auto sample = read(R"({"prompt": "t", "completion": "h"})");
  EXPECT_EQ(sample.token, (Ids{'t', 'h', kEndId}));
  EXPECT_EQ(sample.prompt_tokens, 1);
}

TEST_F(SampleTest, text_is_learned_with_its_end) {
  const auto sample = read(R"({"text": "the"})");
  EXPECT_EQ(sample.token, (Ids{257, kEndId}));
  EXPECT_EQ(sample.trained, (Mask{1, 1}));
  EXPECT_EQ(sample.prompt_tokens, 0);
}

TEST_F(SampleTest, special_tokens_written_in_the_text_are_encoded) {
  EXPECT_EQ(read(R"({"prompt": "<|end|>x", "completion": "y"})").token,
            (Ids{kEndId, 'x', 'y', kEndId}));
}

TEST_F(SampleTest, begin_token_comes_only_from_the_tokenizer_and_nothing_stands_between) {
  auto file = small_tokenizer_json();
  file["added_tokens"].push_back({{"id", 273},
                                  {"content", "<s>"},
                                  {"single_word", false},
                                  {"lstrip", false},
                                  {"rstrip", false},
                                  {"normalized", false},
                                  {"special", true}});
  const auto special = [](const char* name) {
    return nlohmann::json{{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
  };
  const nlohmann::json sequence = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  file["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", nlohmann::json::array({special("<s>"), sequence, special("<|end|>")})},
      {"pair", nlohmann::json::array()},
      {"special_tokens",
       {{"<s>", {{"id", "<s>"}, {"ids", {273}}, {"tokens", {"<s>"}}}},
        {"<|end|>", {{"id", "<|end|>"}, {"ids", {kEndId}}, {"tokens", {"<|end|>"}}}}}}};
  write_tokenizer(file);
  const auto sample = read(R"({"prompt": "x", "completion": "y"})");
  EXPECT_EQ(sample.token, (Ids{273, 'x', 'y', kEndId}));
  EXPECT_EQ(sample.trained, (Mask{0, 0, 1, 1}));
  EXPECT_EQ(read(R"({"text": "x"})").token, (Ids{273, 'x', kEndId}));
  config_.chat_template = "plain";  // prints what it needs itself
  EXPECT_EQ(read(R"({"messages": [{"role": "user", "content": "x"},
      {"role": "assistant", "content": "y"}]})")
                .token,
            (Ids{'x', 'y', kEndId}));
}

TEST_F(SampleTest, chat_turns_are_learned_with_their_end) {
  config_.chat_template = "plain";
  const auto sample = read(R"({"messages": [{"role": "user", "content": "x"},
      {"role": "assistant", "content": "y"}, {"role": "user", "content": "z"},
      {"role": "assistant", "content": "a"}]})");
  EXPECT_EQ(sample.token, (Ids{'x', 'y', kEndId, 'z', 'a', kEndId}));
  EXPECT_EQ(sample.trained, (Mask{0, 1, 1, 0, 1, 1}));
}

TEST_F(SampleTest, span_comes_from_the_line_else_the_shape_else_the_pattern) {
  config_.span = "(y.)";
  auto sample = read(R"({"prompt": "xyzab", "completion": "c"})");
  EXPECT_EQ(sample.span_begin, 1);
  EXPECT_EQ(sample.span_end, 3);
  sample = read(R"({"prompt": "xyzab", "completion": "c", "span": [3, 4]})");
  EXPECT_EQ(sample.span_begin, 3);
  EXPECT_EQ(sample.span_end, 4);
  config_.chat_template = "plain";
  sample = read(R"({"instruction": "xyz", "input": "ab", "output": "c"})");
  EXPECT_EQ(sample.span_begin, 0);
  EXPECT_EQ(sample.span_end, 3);
  sample = read(R"({"prompt": "ab", "completion": "c"})");
  EXPECT_EQ(sample.span_begin, sample.span_end) << "the pattern does not match";
}

TEST_F(SampleTest, prompt_has_the_tokens_that_training_puts_before_the_answer) {
  config_.span = "(y.)";
  const auto sample = read(R"({"prompt": "xyzab", "completion": "c"})");
  const auto prompt = reader(config_).plain_prompt("xyzab");
  EXPECT_EQ(prompt.token, (Ids{'x', 'y', 'z', 'a', 'b'}));
  EXPECT_EQ(prompt.span_begin, sample.span_begin);
  EXPECT_EQ(prompt.span_end, sample.span_end);
  config_.chat_template = "alpaca";
  const auto chat = read(R"({"messages": [{"role": "user", "content": "xyz"},
      {"role": "assistant", "content": "c"}]})");
  const auto asked = reader(config_).prompt({"xyz", "", "", false});
  const Ids before(chat.token.begin(), chat.token.begin() + chat.prompt_tokens);
  EXPECT_EQ(asked.token, before);
  EXPECT_EQ(asked.span_begin, chat.span_begin);
  EXPECT_EQ(asked.span_end, chat.span_end);
}

/// Asked as it was trained, a gate of scope span reads the same tokens.
TEST_F(SampleTest, an_instruction_and_a_system_message_are_marked_in_a_prompt_as_in_training) {
  config_.chat_template = "alpaca";
  const auto expect_same = [&](const Sample& sample, const Prompt& prompt) {
    const Ids before(sample.token.begin(), sample.token.begin() + sample.prompt_tokens);
    EXPECT_EQ(prompt.token, before);
    EXPECT_EQ(prompt.span_begin, sample.span_begin);
    EXPECT_EQ(prompt.span_end, sample.span_end);
    EXPECT_LT(sample.span_begin, sample.span_end);
  };
  expect_same(read(R"({"instruction": "xyz", "input": "ab", "output": "c"})"),
              reader(config_).prompt({"xyz", "ab", "", true}));
  expect_same(read(R"({"messages": [{"role": "system", "content": "ab"},
      {"role": "user", "content": "xyz"}, {"role": "assistant", "content": "c"}]})"),
              reader(config_).prompt({"xyz", "", "ab", false}));
}

/// The tokens of a chat line before its last answer, and what a span gate reads of it.
TEST_F(SampleTest, a_conversation_is_asked_as_its_line_is_trained) {
  config_.chat_template = "alpaca";
  const std::string system = R"({"role": "system", "content": "ab"},)";
  for (const bool has_system : {false, true}) {
    const auto sample = read(R"({"messages": [)" + (has_system ? system : std::string()) +
                             R"({"role": "user", "content": "xyz"},
        {"role": "assistant", "content": "the"}, {"role": "user", "content": "in"},
        {"role": "assistant", "content": "c"}]})");
    std::vector<Message> messages;
    if (has_system) messages.push_back({"system", "ab"});
    messages.push_back({"user", "xyz"});
    messages.push_back({"assistant", "the"});
    messages.push_back({"user", "in"});
    const auto asked = reader(config_).conversation(messages);
    EXPECT_EQ(asked.token, Ids(sample.token.begin(), sample.token.end() - 2)) << has_system;
    const bool marked = sample.span_end > sample.span_begin;
    EXPECT_EQ(marked, has_system);
    EXPECT_EQ(asked.span_begin, sample.span_begin);
    EXPECT_EQ(asked.span_end, marked ? sample.span_end : sample.prompt_tokens - 1);
  }
  const auto first = reader(config_).conversation({{"user", "xyz"}});
  EXPECT_EQ(first.token, reader(config_).prompt({"xyz", "", "", false}).token);
  EXPECT_EQ(first.span_end, 0) << "unmarked, as in generation";
}

TEST_F(SampleTest, continuations_are_the_tokens_behind_as_many_as_the_question_has) {
  const auto read_texts = [&](const std::string& question, const std::vector<std::string>& texts) {
    return reader(config_).continuations({question, "", "", false}, /*plain=*/true, texts);
  };
  const auto samples = read_texts("xy", {"za", "b"});
  ASSERT_EQ(samples.size(), 2U);
  EXPECT_EQ(samples[0].token, (Ids{'x', 'y', 'z', 'a'}));
  EXPECT_EQ(samples[0].trained, (Mask{0, 0, 1, 1}));
  EXPECT_EQ(samples[0].prompt_tokens, 2);
  EXPECT_EQ(samples[1].token, (Ids{'x', 'y', 'b'}));
  // "the" is one token: behind "t" nothing is left of "he", of "hex" the x.
  EXPECT_EQ(read_texts("t", {"hex"})[0].token, (Ids{'t', 'x'}));
  const auto swallowed = sentence_of<base::ContentError>([&] { (void)read_texts("t", {"he"}); });
  EXPECT_TRUE(contains(swallowed, "the text 'he' adds no token")) << swallowed;
  // Blanks at the end of a question begin what follows: " the" is one token.
  EXPECT_EQ(read_texts("x ", {"the"})[0].token, (Ids{'x', 258}));
  EXPECT_EQ(read_texts("x ", {"the"})[0].prompt_tokens, 1);
  const auto empty = sentence_of<base::ContentError>([&] { (void)read_texts(" ", {"x"}); });
  EXPECT_TRUE(contains(empty, "the question has no token")) << empty;
}

TEST_F(SampleTest, continuations_stand_where_a_template_puts_the_answer) {
  EXPECT_FALSE(reader(config_).has_template());
  const Question question{"xyz", "ab", "", true};
  const auto plain = reader(config_).continuations(question, /*plain=*/true, {"c"});
  EXPECT_EQ(tokenizer().decode(plain[0].token), "xyz\n\nab\nc");
  EXPECT_EQ(plain[0].prompt_tokens, 7) << "without the line end, which begins the choice";
  config_.chat_template = "alpaca";
  EXPECT_TRUE(reader(config_).has_template());
  const auto sample = read(R"({"instruction": "xyz", "input": "ab", "output": "c"})");
  const auto asked = reader(config_).continuations(question, /*plain=*/false, {"c"});
  EXPECT_EQ(asked[0].token, Ids(sample.token.begin(), sample.token.end() - 1)) << "no end token";
  EXPECT_EQ(asked[0].span_begin, sample.span_begin);
  EXPECT_EQ(asked[0].span_end, sample.span_end);
}

/// A base model's own end token is not what a chat template ends a turn with.
TEST_F(SampleTest, an_answer_ends_where_the_template_ends_a_turn) {
  auto file = small_tokenizer_json();
  const std::int32_t turn_end = 300;
  file["added_tokens"].push_back({{"id", turn_end}, {"content", "<|im_end|>"}, {"special", true}});
  write_tokenizer(file);
  EXPECT_EQ(reader(config_).stop_ids(), Ids{kEndId}) << "no template";
  config_.chat_template = "chatml";
  EXPECT_EQ(reader(config_).stop_ids(), (Ids{kEndId, turn_end}));
  const auto sample = read(R"({"messages": [{"role": "user", "content": "x"},
      {"role": "assistant", "content": "c"}]})");
  EXPECT_EQ(sample.token.back(), turn_end);
  config_.chat_template = "plain";
  EXPECT_EQ(reader(config_).stop_ids(), Ids{kEndId});
}

TEST_F(SampleTest, a_template_whose_end_of_turn_the_tokenizer_does_not_know_is_refused) {
  config_.chat_template = "llama3";
  const auto sentence = sentence_of<base::ContentError>([&] {
    (void)read(R"({"messages": [{"role": "user", "content": "x"},
        {"role": "assistant", "content": "c"}]})");
  });
  EXPECT_TRUE(contains(sentence, "data.template = llama3")) << sentence;
}

TEST_F(SampleTest, tokens_partly_inside_the_span_belong_to_it) {
  // " the" is one token of the bytes [1, 5).
  const auto sample = read(R"({"prompt": "x they", "completion": "c", "span": [3, 6]})");
  EXPECT_EQ(sample.token, (Ids{'x', 258, 'y', 'c', kEndId}));
  EXPECT_EQ(sample.span_begin, 1);
  EXPECT_EQ(sample.span_end, 3);
}

TEST_F(SampleTest, errors_name_file_and_line_once) {
  const auto broken = sentence_of<base::ContentError>([&] { (void)read("{"); });
  EXPECT_TRUE(broken.starts_with("d.jsonl:7:")) << broken;
  EXPECT_EQ(broken.find("d.jsonl:7", 1), std::string::npos) << broken;
  const auto chat = sentence_of<base::ContentError>(
      [&] { (void)read(R"({"messages": [{"role": "assistant", "content": "y"}]})"); });
  EXPECT_TRUE(chat.starts_with("d.jsonl:7:")) << "the model has no template: " << chat;
  config_.span = "a(b";
  EXPECT_THROW((void)reader(config_), base::UsageError);
}

TEST_F(SampleTest, tokenizer_without_an_end_token_cannot_train) {
  base::write_file(folder_ / "tokenizer_config.json", "{}");
  const auto sentence = sentence_of<base::ContentError>([&] { (void)read(R"({"text": "x"})"); });
  EXPECT_TRUE(contains(sentence, "no end token")) << sentence;
}

TEST_F(SampleTest, document_that_is_only_an_end_token_is_refused) {
  auto file = small_tokenizer_json();
  file["model"]["vocab"].erase("x");  // the byte has no token: it is dropped
  write_tokenizer(file);
  const auto sentence = sentence_of<base::ContentError>([&] { (void)read(R"({"text": "x"})"); });
  EXPECT_TRUE(contains(sentence, "none of 1 tokens")) << sentence;
}

}  // namespace
}  // namespace dfmoa::data
