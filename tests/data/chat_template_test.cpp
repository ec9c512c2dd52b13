#include "src/data/chat_template.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "src/base/error.h"
#include "src/base/file.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::data {
namespace {

using formats::contains;
using formats::sentence_of;

const std::vector<Message> kTurns = {{"user", "Hi "}, {"assistant", " Yes\n"}, {"user", "So?"}};

/// Every assistant range, cut out.
std::vector<std::string> trained(const Rendered& rendered) {
  std::vector<std::string> parts;
  for (const auto& [begin, end] : rendered.assistant) {
    parts.push_back(rendered.text.substr(begin, end - begin));
  }
  return parts;
}

TEST(ChatTemplate, chatml_trains_the_answer_and_its_end_of_turn) {
  const Rendered rendered = ChatTemplate::named("chatml", {}).render(kTurns, true);
  EXPECT_EQ(rendered.text,
            "<|im_start|>user\nHi <|im_end|>\n<|im_start|>assistant\n Yes\n<|im_end|>\n"
            "<|im_start|>user\nSo?<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(trained(rendered), std::vector<std::string>{" Yes\n<|im_end|>"});
}

TEST(ChatTemplate, llama3_prints_the_begin_token_and_strips) {
  const Rendered rendered =
      ChatTemplate::named("llama3", {"<|begin_of_text|>", ""}).render(kTurns, false);
  EXPECT_EQ(rendered.text,
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\nYes<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nSo?<|eot_id|>");
  EXPECT_EQ(trained(rendered), std::vector<std::string>{"Yes<|eot_id|>"});
}

TEST(ChatTemplate, alpaca_and_plain_end_answers_with_the_end_token) {
  const Rendered alpaca = ChatTemplate::named("alpaca", {"", "</s>"}).render(kTurns, true);
  EXPECT_EQ(alpaca.text,
            "### Instruction:\nHi \n\n### Response:\n Yes\n</s>\n\n### Instruction:\nSo?\n\n"
            "### Response:\n");
  EXPECT_EQ(trained(alpaca), std::vector<std::string>{" Yes\n</s>"});
  const Rendered plain = ChatTemplate::named("plain", {"", "</s>"}).render(kTurns, true);
  EXPECT_EQ(plain.text, "Hi  Yes\n</s>So?");
  EXPECT_EQ(trained(plain), std::vector<std::string>{" Yes\n</s>"});
}

TEST(ChatTemplate, recognises_smollm2_by_content_and_keeps_its_system_message) {
  const ChatTemplate found = ChatTemplate::recognised(
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
      "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
      "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
      "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
      "'<|im_start|>assistant\n' }}{% endif %}",
      {}, "it");
  EXPECT_EQ(found.name(), "chatml");
  EXPECT_EQ(found.default_system(),
            "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
  EXPECT_TRUE(
      found.render(kTurns, false)
          .text.starts_with(
              "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
              "Face<|im_end|>\n<|im_start|>user\nHi <|im_end|>\n"));
  const std::vector<Message> own = {{"system", "Be brief."}, {"user", "Hi"}};
  EXPECT_EQ(found.render(own, false).text,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
}

TEST(ChatTemplate, recognises_what_it_writes) {
  for (const std::string& name : ChatTemplate::names()) {
    const ChatTemplate built_in = ChatTemplate::named(name, {"<s>", "</s>"});
    const ChatTemplate again = ChatTemplate::recognised(built_in.jinja(), {"<s>", "</s>"}, "it");
    EXPECT_EQ(again.name(), name);
    EXPECT_EQ(again.render(kTurns, true).text, built_in.render(kTurns, true).text);
  }
  const std::string quoted =
      "{%- for message in messages %}{% if loop.first and messages[0].role != \"system\" %}"
      "<|im_start|>system\nIt's\\ a\nnote<|im_end|>\n{% endif %}{{ '<|im_start|>' }}{{ "
      "message.role "
      "}}{{ '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  const ChatTemplate found = ChatTemplate::recognised(quoted, {}, "it");
  EXPECT_EQ(found.default_system(), "It's\\ a\nnote");
  EXPECT_EQ(ChatTemplate::recognised(found.jinja(), {}, "it").default_system(), "It's\\ a\nnote");
}

class ChatTemplateFiles : public formats::TemporaryFolder {};

TEST_F(ChatTemplateFiles, reads_the_config_or_the_jinja_file_which_comes_first) {
  const std::string chatml = ChatTemplate::named("chatml", {}).jinja();
  const nlohmann::json config = {
      {"eos_token", {{"content", "</s>"}}},
      {"chat_template", nlohmann::json::array({{{"name", "rag"}, {"template", "?"}},
                                               {{"name", "default"}, {"template", chatml}}})}};
  base::write_file(folder_ / "tokenizer_config.json", config.dump());
  EXPECT_EQ(ChatTemplate::from_directory(folder_).name(), "chatml");
  base::write_file(folder_ / "chat_template.jinja", ChatTemplate::named("plain", {}).jinja());
  const ChatTemplate plain = ChatTemplate::from_directory(folder_);
  EXPECT_EQ(plain.name(), "plain");
  EXPECT_EQ(plain.render(kTurns, false).text, "Hi  Yes\n</s>So?");
}

TEST_F(ChatTemplateFiles, a_template_that_is_not_recognised_is_there_all_the_same) {
  EXPECT_FALSE(ChatTemplate::is_in(folder_));
  base::write_file(folder_ / "chat_template.jinja", "{{ messages }}");
  EXPECT_TRUE(ChatTemplate::is_in(folder_));
  EXPECT_FALSE(ChatTemplate::find(folder_).has_value());
}

TEST_F(ChatTemplateFiles, says_which_built_ins_exist) {
  EXPECT_TRUE(contains(
      sentence_of<base::ContentError>([&] { (void)ChatTemplate::from_directory(folder_); }),
      "has no chat template, expected chat_template.jinja or chat_template in "
      "tokenizer_config.json; built-ins are chatml, llama3, alpaca, plain"));
  EXPECT_EQ(sentence_of<base::ContentError>(
                [] { (void)ChatTemplate::recognised("{{ messages }}", {}, "a.json"); }),
            "a.json: the chat template prints as none of the built-ins chatml, llama3, alpaca, "
            "plain; it begins with '{{ messages }}'");
  // One blank more is another template: nothing near enough is taken for the same.
  std::string near = ChatTemplate::named("chatml", {}).jinja();
  near.insert(near.find("<|im_end|>"), " ");
  EXPECT_THROW((void)ChatTemplate::recognised(near, {}, "it"), base::ContentError);
  EXPECT_EQ(sentence_of<base::UsageError>([] { (void)ChatTemplate::named("chatlm", {}); }),
            "there is no chat template 'chatlm'; did you mean 'chatml' (built-ins: chatml, llama3, "
            "alpaca, plain)");
  EXPECT_THROW((void)ChatTemplate::named("plain", {}).render({}, true), base::ContentError);
}

}  // namespace
}  // namespace dfmoa::data
