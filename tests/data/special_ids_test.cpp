#include "src/data/special_ids.h"

#include "src/base/error.h"
#include "src/base/file.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::data {
namespace {

class SpecialIdsFiles : public formats::TemporaryFolder {
 protected:
  void write(const char* name, std::string_view content) {
    base::write_file(folder_ / name, content);
  }
  SpecialIds read() {
    return read_special_ids(folder_, [](std::string_view token) -> std::optional<std::int32_t> {
      if (token == "<s>") return 1;
      if (token == "</s>") return 2;
      return std::nullopt;
    });
  }
};
using Ids = std::vector<std::int32_t>;

TEST_F(SpecialIdsFiles, nothing_is_known_without_files) {
  EXPECT_EQ(read().bos, std::nullopt);
  EXPECT_EQ(read().eos, std::nullopt);
  EXPECT_TRUE(read().stop.empty());
}

TEST_F(SpecialIdsFiles, texts_come_before_ids_and_generation_before_config) {
  write("config.json", R"({"bos_token_id": 7, "eos_token_id": 8})");
  EXPECT_EQ(read().bos, 7);
  EXPECT_EQ(read().stop, (Ids{8}));
  write("generation_config.json", R"({"eos_token_id": [5, 2, 6]})");
  EXPECT_EQ(read().eos, 5);
  EXPECT_EQ(read().stop, (Ids{5, 2, 6}));
  write("special_tokens_map.json", R"({"bos_token": {"content": "<s>"}})");
  EXPECT_EQ(read().bos, 1);
  write("tokenizer_config.json", R"({"bos_token": null, "eos_token": "</s>"})");
  EXPECT_EQ(read().bos, 1);
  EXPECT_EQ(read().eos, 2);
  EXPECT_EQ(read().stop, (Ids{2, 5, 6}));
}

TEST_F(SpecialIdsFiles, refuses_texts_that_are_no_tokens_and_ids_that_are_no_ids) {
  write("tokenizer_config.json", R"({"eos_token": "<e>"})");
  EXPECT_TRUE(formats::contains(
      formats::sentence_of<base::ContentError>([&] { (void)read(); }),
      "tokenizer_config.json: eos_token is \"<e>\", which is no token of the tokenizer"));
  write("tokenizer_config.json", "{}");
  for (const char* bad : {"-1", "\"2\"", "[2, 1.5]", "4294967296"}) {
    write("config.json", std::string("{\"eos_token_id\": ") + bad + "}");
    EXPECT_TRUE(formats::contains(formats::sentence_of<base::ContentError>([&] { (void)read(); }),
                                  "expected a token id or a list of them"));
  }
}

}  // namespace
}  // namespace dfmoa::data
