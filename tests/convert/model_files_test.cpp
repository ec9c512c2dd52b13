#include "checkpoints/convert/model_files.h"

#include "src/base/error.h"
#include "tests/convert/small_gguf.h"

namespace dfmoa::checkpoints {
namespace {

using ModelFiles = TemporaryFolder;

TEST_F(ModelFiles, json_keeps_its_order_and_ends_with_a_line_end) {
  write_json(folder_ / "a", nlohmann::ordered_json{{"z", 1}, {"a", "é"}});
  EXPECT_EQ(base::read_file(folder_ / "a"), "{\n  \"z\": 1,\n  \"a\": \"é\"\n}\n");
  EXPECT_THROW(write_json(folder_ / "none" / "a", nlohmann::json{}), base::MachineError);
}

TEST_F(ModelFiles, text_that_is_not_utf8_is_refused) {
  const nlohmann::json value{{"a", "\xFF"}};
  EXPECT_TRUE(contains(sentence_of<base::ContentError>([&] { write_json(folder_ / "a", value); }),
                       "invalid UTF-8"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "a"));
}

TEST_F(ModelFiles, only_the_tokenizers_files_are_copied) {
  std::filesystem::create_directories(folder_ / "from");
  std::filesystem::create_directories(folder_ / "to");
  for (const char* name : {"merges.txt", "vocab.json", "README.md", "pytorch_model.bin"}) {
    formats::write_damaged(folder_ / "from" / name, name);
  }
  copy_tokenizer_files(folder_ / "from", folder_ / "to");
  EXPECT_EQ(base::read_file(folder_ / "to" / "merges.txt"), "merges.txt");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_ / "to"), {}), 2);
}

TEST_F(ModelFiles, the_element_type_is_stated_in_both_keys) {
  nlohmann::ordered_json config{{"dtype", "float16"}};
  state_element_type(config, {.dtype = "bf16"});
  EXPECT_EQ(config["dtype"], "bfloat16");
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  EXPECT_FALSE(config.contains("quantization_config"));
  state_element_type(config, {.dtype = "f32", .nf4 = true, .double_quant = true});
  EXPECT_EQ(config["torch_dtype"], "float32");
  EXPECT_EQ(config["quantization_config"]["bnb_4bit_quant_type"], "nf4");
  EXPECT_EQ(config["quantization_config"]["bnb_4bit_use_double_quant"], true);
}

}  // namespace
}  // namespace dfmoa::checkpoints
