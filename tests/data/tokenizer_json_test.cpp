#include "src/data/tokenizer_json.h"

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/data/tokenizer.h"
#include "tests/data/small_tokenizer.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::data {
namespace {

using formats::contains;
using formats::sentence_of;
using nlohmann::json;
using Ids = std::vector<std::int32_t>;

class TokenizerJson : public formats::TemporaryFolder {
 protected:
  TokenizerSpec read(const json& file) {
    base::write_file(folder_ / "tokenizer.json", file.dump());
    return read_tokenizer_spec(folder_);
  }
  std::string refusal(const json& file) {
    return sentence_of<base::ContentError>([&] { (void)read(file); });
  }
};

TEST_F(TokenizerJson, merges_may_be_lines_or_pairs) {
  json file = small_tokenizer_json();
  const auto lines = read(file).merges;
  EXPECT_EQ(lines, small_merges());
  file["model"]["merges"] = small_merges();
  EXPECT_EQ(read(file).merges, lines);
}

TEST_F(TokenizerJson, a_vocabulary_without_merges_gives_a_token_a_byte) {
  json file = small_tokenizer_json();
  file["model"]["merges"] = json::array();
  EXPECT_EQ(Tokenizer(read(file)).encode("the\n"), (Ids{116, 104, 101, 10}));
}

TEST_F(TokenizerJson, refuses_options_of_the_model_by_key_and_value) {
  const std::vector<std::pair<std::string, json>> options = {{"type", "WordPiece"},
                                                             {"dropout", 0.5},
                                                             {"continuing_subword_prefix", "##"},
                                                             {"end_of_word_suffix", "</w>"},
                                                             {"byte_fallback", true}};
  for (const auto& [key, value] : options) {
    json file = small_tokenizer_json();
    file["model"][key] = value;
    EXPECT_TRUE(contains(refusal(file), "tokenizer.json: model." + key + ": " + value.dump() +
                                            " is not implemented; expected "));
  }
  json file = small_tokenizer_json();
  file["model"]["unk_token"] = "?";
  file["model"]["fuse_unk"] = true;
  EXPECT_TRUE(contains(refusal(file), "model.fuse_unk: true is not implemented"));
  file["model"]["fuse_unk"] = false;
  file["model"]["unk_token"] = "nothing";
  EXPECT_TRUE(contains(sentence_of<base::ContentError>([&] { Tokenizer tokenizer(read(file)); }),
                       "model.unk_token: 'nothing' is not in the vocabulary"));
}

TEST_F(TokenizerJson, malformed_files_are_named) {
  json file = small_tokenizer_json();
  file["model"]["merges"].push_back("a b c");
  EXPECT_TRUE(contains(refusal(file),
                       "tokenizer.json: merge 16 is 'a b c', expected two tokens and a blank"));
  file = small_tokenizer_json();
  file["model"]["vocab"]["a"] = "x";
  EXPECT_TRUE(contains(refusal(file), "tokenizer.json: "));
  file = small_tokenizer_json();
  file.erase("model");
  EXPECT_TRUE(contains(refusal(file), "key 'model' not found"));
}

TEST_F(TokenizerJson, reads_vocab_and_merges_with_the_special_tokens_beside_them) {
  const json file = small_tokenizer_json();
  json vocabulary = file["model"]["vocab"];
  vocabulary["<|endoftext|>"] = 300;
  base::write_file(folder_ / "vocab.json", vocabulary.dump());
  std::string merges = "#version: 0.2\r\n";
  for (const auto& [left, right] : small_merges()) merges += left + " " + right + "\r\n";
  base::write_file(folder_ / "merges.txt", merges);
  base::write_file(folder_ / "added_tokens.json", R"({"<pad>": 301, "<s>": 302})");
  base::write_file(folder_ / "tokenizer_config.json",
                   R"({"bos_token": "<s>", "added_tokens_decoder":
                       {"303": {"content": "<x>", "special": true, "lstrip": true}}})");
  const Tokenizer tokenizer = Tokenizer::from_directory(folder_);
  EXPECT_EQ(tokenizer.encode("the<|endoftext|> the <x><s>1 12<pad>"),
            (Ids{257, 300, 258, 303, 302, 49, 263, 50, 301}));
  EXPECT_TRUE(tokenizer.is_special(302));
  EXPECT_FALSE(tokenizer.is_special(301));
  EXPECT_EQ(tokenizer.bos(), 302);
  base::write_file(folder_ / "tokenizer_config.json", R"({"add_prefix_space": true})");
  EXPECT_EQ(Tokenizer::from_directory(folder_).encode("the"), (Ids{258}));
  base::write_file(folder_ / "merges.txt", "t h\nbroken\n");
  EXPECT_TRUE(
      contains(sentence_of<base::ContentError>([&] { (void)Tokenizer::from_directory(folder_); }),
               "merges.txt: merge 1 is 'broken', expected two tokens and a blank"));
}

TEST_F(TokenizerJson, says_what_a_folder_lacks) {
  EXPECT_TRUE(contains(sentence_of<base::ContentError>([&] { (void)read_tokenizer_spec(folder_); }),
                       "holds neither tokenizer.json nor vocab.json with merges.txt"));
  EXPECT_TRUE(contains(
      sentence_of<base::UsageError>([&] { (void)read_tokenizer_spec(folder_ / "nowhere"); }),
      "tokenizer: there is no directory '"));
}

}  // namespace
}  // namespace dfmoa::data
