#include "src/data/document.h"

#include "src/base/error.h"
#include "tests/data/small_data.h"

namespace dfmoa::data {
namespace {

using formats::contains;
using formats::sentence_of;

const ChatTemplate& chatml() {
  static const auto chat = ChatTemplate::named("chatml", {"", "<|end|>"});
  return chat;
}

Document read(const std::string& text, bool as_chat = false) {
  return read_document({text, "d.jsonl:7"}, as_chat,
                       []() -> const ChatTemplate& { return chatml(); });
}

std::string span_text(const Document& document) {
  if (!document.span) return "(none)";
  return document.prompt.substr(document.span->first, document.span->second - document.span->first);
}

std::string trained_text(const Document& document) {
  std::string text;
  for (const auto& piece : document.pieces) text += piece.is_trained ? "[" + piece.text + "]" : "";
  return text;
}

TEST(Document, prompt_is_read_and_completion_learned_as_written) {
  const auto document = read(R"({"task": "t", "prompt": "2+2=", "completion": "4"})");
  EXPECT_EQ(document.prompt, "2+2=");
  EXPECT_EQ(document.completion, "4");
  EXPECT_EQ(document.task, "t");
  EXPECT_EQ(trained_text(document), "[4]");
  EXPECT_TRUE(document.pieces.back().ends);
  EXPECT_FALSE(document.is_rendered);
}

TEST(Document, prompt_as_chat_is_what_the_template_prints) {
  const auto document = read(R"({"prompt": "2+2=", "completion": "4"})", true);
  EXPECT_EQ(document.prompt, "<|im_start|>user\n2+2=<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(trained_text(document), "[4<|im_end|>]");
  EXPECT_EQ(document.completion, "4");
  EXPECT_TRUE(document.is_rendered);
}

TEST(Document, text_is_learned_whole) {
  const auto document = read(R"({"text": "abc"})");
  EXPECT_EQ(trained_text(document), "[abc]");
  EXPECT_TRUE(document.pieces.back().ends);
  EXPECT_EQ(document.prompt, "");
}

TEST(Document, every_assistant_turn_of_a_chat_is_learned) {
  const auto document = read(R"({"messages": [{"role": "system", "content": "Be brief."},
      {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
      {"role": "user", "content": "Bye"}, {"role": "assistant", "content": "Ciao"}]})");
  EXPECT_EQ(trained_text(document), "[Hello<|im_end|>][Ciao<|im_end|>]");
  EXPECT_EQ(span_text(document), "Be brief.");
  EXPECT_EQ(document.completion, "") << "several answers";
}

TEST(Document, alpaca_marks_the_instruction_not_the_template_words) {
  const auto document = read(R"({"instruction": "user", "input": "some", "output": "word"})");
  EXPECT_EQ(span_text(document), "user");
  EXPECT_EQ(document.span->first, document.prompt.find("user\nuser") + 5);
  EXPECT_EQ(trained_text(document), "[word<|im_end|>]");
  EXPECT_TRUE(contains(document.prompt, "user\n\nsome"));
  const auto without = read(R"({"instruction": "Say it", "output": "it"})");
  EXPECT_TRUE(contains(without.prompt, "Say it<|im_end|>"));
}

TEST(Document, alpacas_own_template_gives_the_input_its_heading) {
  const auto chat = ChatTemplate::named("alpaca", {"", "</s>"});
  const auto document =
      read_document({R"({"instruction": "Add.", "input": "1 2", "output": "3"})", "f:1"}, false,
                    [&]() -> const ChatTemplate& { return chat; });
  EXPECT_EQ(document.prompt, "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n");
  EXPECT_EQ(trained_text(document), "[3</s>]");
}

TEST(Document, trimming_template_still_finds_the_system_message) {
  const auto chat = ChatTemplate::named("llama3", {"<b>", "<e>"});
  const auto document = read_document({R"({"messages": [{"role": "system", "content": "  Terse. "},
      {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]})",
                                       "f:1"},
                                      false, [&]() -> const ChatTemplate& { return chat; });
  EXPECT_EQ(span_text(document), "Terse.");
}

TEST(Document, given_span_wins_and_counts_bytes) {
  const auto document = read(R"({"prompt": "aéb", "completion": "x", "span": [1, 3]})");
  EXPECT_EQ(span_text(document), "é");
  EXPECT_FALSE(read(R"({"prompt": "ab", "completion": "x"})").span);
}

TEST(Document, shapes_are_looked_for_in_their_order) {
  EXPECT_EQ(read(R"({"text": "t", "prompt": "p", "completion": "c"})").prompt, "p");
  EXPECT_TRUE(read(R"({"text": "t", "instruction": "i", "output": "o"})").is_rendered);
}

TEST(Document, plain_lines_need_no_template) {
  const TemplateSource none = []() -> const ChatTemplate& {
    throw base::ContentError("no template");
  };
  EXPECT_NO_THROW((void)read_document({R"({"text": "a"})", "f:1"}, true, none));
  EXPECT_NO_THROW(
      (void)read_document({R"({"prompt": "a", "completion": "b"})", "f:1"}, false, none));
  EXPECT_THROW((void)read_document({R"({"prompt": "a", "completion": "b"})", "f:1"}, true, none),
               base::ContentError);
}

TEST(Document, a_null_column_is_one_that_is_not_there) {
  const auto text = read(
      R"({"text": "abc", "messages": null, "prompt": null, "completion": null, "task": null})");
  EXPECT_EQ(trained_text(text), "[abc]");
  EXPECT_EQ(text.task, "");
  const auto alpaca = R"({"instruction": "Add.", "input": null, "output": "2", "span": null})";
  EXPECT_EQ(trained_text(read(alpaca)), "[2<|im_end|>]");
}

TEST(Document, what_is_wrong_is_said_with_file_line_and_the_culprit) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"({"prompt": "a")", "d.jsonl:7:byte"},
      {R"([1, 2])", "found array"},
      {R"({"question": "a", "answer": "b"})", "keys (answer, question)"},
      {R"({"prompt": "a"})", "keys (prompt)"},
      {R"({"prompt": "a", "completion": ""})", "\"completion\" is empty"},
      {R"({"prompt": 1, "completion": "a"})", "\"prompt\" is number, expected a string"},
      {R"({"text": ""})", "\"text\" is empty"},
      {R"({"text": null})", "keys (text = null): expected messages"},
      {R"({"text": "a", "task": 3})", "\"task\" is number"},
      {R"({"instruction": "a", "output": ""})", "\"output\" is empty"},
      {R"({"instruction": "a", "input": [], "output": "b"})", "\"input\" is array"},
      {R"({"messages": []})", "at least one turn"},
      {R"({"messages": [{"role": "user"}]})", "turn 1 of \"messages\""},
      {R"({"messages": [{"role": "user", "content": "a"}]})", "no assistant turn"},
      {R"({"messages": [{"role": "assistant", "content": ""}]})", "assistant turn is empty"},
      {R"({"prompt": "abc", "completion": "d", "span": [1, 4]})", "end <= 3"},
      {R"({"prompt": "abc", "completion": "d", "span": [2, 2]})", "begin < end"},
      {R"({"prompt": "abc", "completion": "d", "span": [-1, 2]})", "\"span\" = [-1,2]"},
      {R"({"prompt": "abc", "completion": "d", "span": "ab"})", "\"span\" = \"ab\""},
      {R"({"text": "abc", "span": [0, 1]})", "end <= 0"}};
  for (const auto& [line, culprit] : cases) {
    const auto sentence = sentence_of<base::ContentError>([&] { (void)read(line); });
    EXPECT_TRUE(sentence.starts_with("d.jsonl:7:")) << line << " -> " << sentence;
    EXPECT_TRUE(contains(sentence, culprit)) << line << " -> " << sentence;
  }
}

}  // namespace
}  // namespace dfmoa::data
