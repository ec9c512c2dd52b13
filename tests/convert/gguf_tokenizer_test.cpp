#include "checkpoints/convert/gguf_tokenizer.h"

#include "src/base/error.h"
#include "tests/convert/small_gguf.h"

namespace dfmoa::checkpoints {
namespace {

class GgufTokenizer : public TemporaryFolder {
 protected:
  TokenizerFiles read(const SmallGguf& gguf) {
    return read_gguf_tokenizer(formats::GgufFile(gguf.write(folder_)));
  }
  std::string refusal(const std::string& key, const std::string& value) {
    SmallGguf gguf;
    gguf.keys[key] = value;
    return sentence_of<base::ContentError>([&] { static_cast<void>(read(gguf)); });
  }
};

TEST_F(GgufTokenizer, control_tokens_are_special_and_user_defined_ones_are_not) {
  const auto added = read(SmallGguf()).tokenizer["added_tokens"];
  ASSERT_EQ(added.size(), 3U);
  EXPECT_EQ(added[0]["content"], "<s>");
  EXPECT_EQ(added[0]["id"], 257);
  EXPECT_EQ(added[0]["special"], true);
  EXPECT_EQ(added[2]["content"], "<u>");
  EXPECT_EQ(added[2]["special"], false);
}

TEST_F(GgufTokenizer, takes_vocabulary_and_merges_as_they_stand) {
  const auto model = read(SmallGguf()).tokenizer["model"];
  EXPECT_EQ(model["vocab"].size(), 260U);
  EXPECT_EQ(model["vocab"]["ab"], 256);
  EXPECT_EQ(model["merges"], nlohmann::json({"a b"}));
}

TEST_F(GgufTokenizer, adds_the_begin_token_only_where_the_file_says_so) {
  SmallGguf gguf;
  EXPECT_EQ(read(gguf).tokenizer["post_processor"]["type"], "ByteLevel");
  gguf.keys["tokenizer.ggml.add_bos_token"] = gguf_flag(true);
  gguf.keys["tokenizer.ggml.add_eos_token"] = gguf_flag(true);
  const auto around = read(gguf).tokenizer["post_processor"]["processors"][1];
  EXPECT_EQ(around["single"][0]["SpecialToken"]["id"], "<s>");
  EXPECT_EQ(around["single"][2]["SpecialToken"]["id"], "</s>");
  EXPECT_EQ(around["special_tokens"]["<s>"]["ids"], nlohmann::json({257}));
  EXPECT_EQ(around["pair"].size(), 6U);
  gguf.keys.erase("tokenizer.ggml.bos_token_id");
  EXPECT_TRUE(contains(sentence_of<base::ContentError>([&] { static_cast<void>(read(gguf)); }),
                       "tokenizer.ggml.bos_token_id is missing"));
}

TEST_F(GgufTokenizer, llama_bpe_begins_every_text_unless_the_file_forbids_it) {
  SmallGguf gguf("llama", "llama-bpe");
  EXPECT_EQ(read(gguf).tokenizer["post_processor"]["type"], "Sequence");
  EXPECT_EQ(read(gguf).config["add_bos_token"], true);
  gguf.keys["tokenizer.ggml.add_bos_token"] = gguf_flag(false);
  EXPECT_EQ(read(gguf).tokenizer["post_processor"]["type"], "ByteLevel");
}

TEST_F(GgufTokenizer, states_template_tokens_and_end_ids) {
  SmallGguf gguf;
  gguf.keys["tokenizer.chat_template"] = gguf_word("{{ messages }}");
  gguf.keys["tokenizer.ggml.eot_token_id"] = gguf_count(259);
  const auto files = read(gguf);
  EXPECT_EQ(files.config["chat_template"], "{{ messages }}");
  EXPECT_EQ(files.config["bos_token"], "<s>");
  EXPECT_EQ(files.config["eos_token"], "</s>");
  EXPECT_EQ(files.config["model_max_length"], 64);
  EXPECT_FALSE(files.config.contains("pad_token"));
  EXPECT_EQ(files.generation["eos_token_id"], nlohmann::ordered_json({258, 259}));
  EXPECT_EQ(files.generation["bos_token_id"], 257);
}

TEST_F(GgufTokenizer, refuses_by_key_and_value) {
  const auto doubled = [] {
    auto tokens = SmallGguf().tokens;
    tokens.back() = "ab";
    return gguf_words(tokens);
  }();
  auto more = SmallGguf().tokens;
  more.emplace_back("more");
  const std::vector<std::tuple<std::string, std::string, std::string>> wrong{
      {"tokenizer.ggml.tokens", gguf_words(more), "holds 261 tokens, expected at most 260"},
      {"tokenizer.ggml.model", gguf_word("llama"),
       "tokenizer.ggml.model is 'llama', expected gpt2"},
      {"tokenizer.ggml.pre", gguf_word("deepseek"), "tokenizer.ggml.pre is 'deepseek', expected"},
      {"tokenizer.ggml.add_space_prefix", gguf_flag(true), "add_space_prefix is true, expected"},
      {"tokenizer.ggml.token_type", gguf_counts({1}), "token_type holds 1 numbers, expected 260"},
      {"tokenizer.ggml.merges", gguf_words({"ab"}), "merge 0 is 'ab', expected two tokens"},
      {"tokenizer.ggml.eos_token_id", gguf_count(260), "is 260, expected 0 to 259"},
      {"tokenizer.ggml.tokens", doubled, "token 'ab' has the ids 256 and 259"}};
  for (const auto& [key, value, part] : wrong) {
    const auto sentence = refusal(key, value);
    EXPECT_TRUE(contains(sentence, part)) << sentence;
  }
}

}  // namespace
}  // namespace dfmoa::checkpoints
