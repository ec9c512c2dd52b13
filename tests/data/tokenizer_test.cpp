#include "src/data/tokenizer.h"

#include <thread>

#include "src/base/error.h"
#include "src/base/file.h"
#include "tests/data/small_tokenizer.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::data {
namespace {

using formats::sentence_of;
using nlohmann::json;
using Ids = std::vector<std::int32_t>;

class Tokenizing : public formats::TemporaryFolder {
 protected:
  Tokenizer read(const json& file) {
    base::write_file(folder_ / "tokenizer.json", file.dump());
    return Tokenizer::from_directory(folder_);
  }
};

TEST_F(Tokenizing, equals_the_golden_ids_of_the_smollm_split_rule) {
  // Ids of the tokenizers library with Sequence[Digits(individual), ByteLevel(regex, no prefix)].
  using namespace std::string_literals;
  const std::vector<std::pair<std::string, Ids>> golden = {
      {"the thing and the sand", {257, 32, 256, 266, 269, 258, 32, 115, 260, 100}},
      {"12 and 1 2", {49, 50, 269, 32, 49, 32, 50}},
      {"  12", {261, 49, 50}},
      {"x\n\n 12", {120, 265, 32, 49, 50}},
      {"a    the\t 1", {97, 261, 32, 258, 9, 32, 49}},
      {"café  ² ٣٤ Ⅷ",
       {99, 97, 102, 267, 261, 194, 178, 32, 217, 163, 217, 164, 32, 226, 133, 167}},
      {"it's the 'S", {105, 116, 270, 258, 32, 39, 83}},
      {"<|end|>the<|end|> 12", {272, 257, 272, 32, 49, 50}},
      {"\u00a0the\u3000 1 \u200d", {194, 160, 257, 227, 128, 128, 32, 49, 32, 226, 128, 141}},
      {"\0 the\r\n\r\n  in"s, {0, 258, 13, 10, 13, 10, 32, 32, 259}}};
  const Tokenizer tokenizer = read(small_tokenizer_json());
  for (const auto& [text, ids] : golden) {
    EXPECT_EQ(tokenizer.encode(text), ids) << text;
    EXPECT_EQ(tokenizer.encode(text), ids) << "from the cache: " << text;
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
  EXPECT_EQ(tokenizer.vocabulary(), 273);
}

TEST_F(Tokenizing, offsets_tile_the_text_in_bytes) {
  const Tokenizer tokenizer = read(small_tokenizer_json());
  const std::string text = "the<|end|> café  12";
  for (int pass = 0; pass < 2; ++pass) {  // the second comes from the cache
    const Encoding encoding = tokenizer.encode_with_offsets(text);
    std::size_t at = 0;
    for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
      EXPECT_EQ(encoding.offsets[i].first, at);
      at = encoding.offsets[i].second;
      EXPECT_EQ(text.substr(encoding.offsets[i].first, at - encoding.offsets[i].first),
                tokenizer.bytes_of(encoding.ids[i]));
    }
    EXPECT_EQ(at, text.size());
  }
}

TEST_F(Tokenizing, puts_the_begin_token_only_where_the_post_processor_does) {
  json file = small_tokenizer_json();
  EXPECT_EQ(read(file).encode("the", true), (Ids{257}));
  file["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", json::array({{{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}},
                              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}})},
      {"pair", json::array()},
      {"special_tokens", {{"<|end|>", {{"id", "<|end|>"}, {"ids", {272}}}}}}};
  const Tokenizer tokenizer = read(file);
  EXPECT_EQ(tokenizer.encode("the", true), (Ids{272, 257}));
  EXPECT_EQ(tokenizer.encode("the"), (Ids{257}));
  const Encoding encoding = tokenizer.encode_with_offsets("the", true);
  EXPECT_EQ(encoding.offsets[0], (std::pair<std::size_t, std::size_t>(0, 0)));
  EXPECT_EQ(encoding.offsets[1], (std::pair<std::size_t, std::size_t>(0, 3)));
}

TEST_F(Tokenizing, adds_the_prefix_blank_to_the_words_and_not_to_the_offsets) {
  json file = small_tokenizer_json();
  file["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = true;
  const Encoding encoding = read(file).encode_with_offsets("the1");
  EXPECT_EQ(encoding.ids, (Ids{258, 263}));  // each piece gets its blank
  EXPECT_EQ(encoding.offsets[0], (std::pair<std::size_t, std::size_t>(0, 3)));
  EXPECT_EQ(encoding.offsets[1], (std::pair<std::size_t, std::size_t>(3, 4)));
}

TEST_F(Tokenizing, a_byte_without_a_token_is_dropped_or_unknown) {
  json file = small_tokenizer_json();
  file["model"]["vocab"].erase("x");
  const Tokenizer dropping = read(file);
  for (int pass = 0; pass < 2; ++pass) {
    const Encoding encoding = dropping.encode_with_offsets("txhe");  // merged across the gap
    EXPECT_EQ(encoding.ids, (Ids{257}));
    EXPECT_EQ(encoding.offsets[0], (std::pair<std::size_t, std::size_t>(0, 4)));
  }
  file["model"]["unk_token"] = "?";
  EXPECT_EQ(read(file).encode("txh"), (Ids{116, 63, 104}));
}

TEST_F(Tokenizing, ignore_merges_takes_a_word_that_is_a_token) {
  json file = small_tokenizer_json();
  file["model"]["vocab"]["Ġsand"] = 300;
  EXPECT_EQ(read(file).encode(" sand"), (Ids{32, 115, 260, 100}));
  file["model"]["ignore_merges"] = true;
  EXPECT_EQ(read(file).encode(" sand"), (Ids{300}));
}

TEST_F(Tokenizing, nfc_composes_and_offsets_point_into_the_text_as_written) {
  json file = small_tokenizer_json();
  EXPECT_EQ(read(file).encode("e\u0301"), (Ids{101, 204, 129}));
  file["normalizer"] = {{"type", "NFC"}};
  const Encoding encoding = read(file).encode_with_offsets("e\u0301 the");
  EXPECT_EQ(encoding.ids, (Ids{267, 258}));
  EXPECT_EQ(encoding.offsets[0], (std::pair<std::size_t, std::size_t>(0, 3)));
  EXPECT_EQ(encoding.offsets[1], (std::pair<std::size_t, std::size_t>(3, 7)));
}

TEST_F(Tokenizing, decodes_parts_of_characters_and_skips_special_tokens) {
  const Tokenizer tokenizer = read(small_tokenizer_json());
  const Ids ids = {272, 226, 133, 97};
  EXPECT_EQ(tokenizer.decode(ids), "<|end|>\uFFFDa");
  EXPECT_EQ(tokenizer.decode(ids, true), "\uFFFDa");
  EXPECT_EQ(tokenizer.bytes_of(226), "\xE2");
  EXPECT_EQ(tokenizer.id_of("Ġthe"), 258);
  EXPECT_EQ(tokenizer.id_of("nothing"), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(272));
  EXPECT_FALSE(tokenizer.is_special(97));
}

TEST_F(Tokenizing, reads_the_begin_and_end_tokens_beside_it) {
  base::write_file(folder_ / "tokenizer_config.json", R"({"eos_token": "<|end|>"})");
  base::write_file(folder_ / "generation_config.json", R"({"eos_token_id": [272, 5]})");
  const Tokenizer tokenizer = read(small_tokenizer_json());
  EXPECT_EQ(tokenizer.eos(), 272);
  EXPECT_EQ(tokenizer.bos(), std::nullopt);
  EXPECT_EQ(tokenizer.stop_ids(), (Ids{272, 5}));
}

TEST_F(Tokenizing, refuses_bytes_that_are_no_text_and_ids_that_are_no_tokens) {
  const Tokenizer tokenizer = read(small_tokenizer_json());
  EXPECT_EQ(sentence_of<base::ContentError>([&] { (void)tokenizer.encode("ab\xFF"); }),
            "tokenizer: the text: byte 2 of 3 (0xff) is not part of well-formed UTF-8");
  EXPECT_EQ(sentence_of<base::ContentError>([&] { (void)tokenizer.decode(Ids{273}); }),
            "tokenizer: 273 is no token, expected an id below 273");
  EXPECT_EQ(sentence_of<base::ContentError>([&] { (void)tokenizer.bytes_of(-1); }),
            "tokenizer: -1 is no token, expected an id below 273");
}

TEST_F(Tokenizing, threads_share_one_tokenizer) {
  const Tokenizer tokenizer = read(small_tokenizer_json());
  std::string text;
  for (int i = 0; i < 2000; ++i) text += " the" + std::to_string(i) + "th in";
  const Ids expected = tokenizer.encode(text);
  std::vector<Ids> got(4);
  std::vector<std::thread> threads;
  for (Ids& ids : got) threads.emplace_back([&] { ids = tokenizer.encode(text); });
  for (std::thread& thread : threads) thread.join();
  for (const Ids& ids : got) EXPECT_EQ(ids, expected);
}

}  // namespace
}  // namespace dfmoa::data
