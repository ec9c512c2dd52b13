#include "checkpoints/convert/byte_tokenizer.h"

#include "src/base/error.h"
#include "src/data/chat_template.h"
#include "src/data/tokenizer.h"
#include "tests/convert/small_gguf.h"

namespace dfmoa::checkpoints {
namespace {

using ByteTokenizer = TemporaryFolder;

TEST_F(ByteTokenizer, every_byte_is_the_token_of_its_number) {
  write_byte_tokenizer(folder_, 128);
  const auto tokenizer = data::Tokenizer::from_directory(folder_);
  for (int byte = 0; byte < 128; ++byte) {
    EXPECT_EQ(tokenizer.encode(std::string(1, static_cast<char>(byte))),
              std::vector<std::int32_t>{byte});
  }
  EXPECT_EQ(tokenizer.bytes_of(0xFF), "\xFF");
  EXPECT_EQ(tokenizer.encode("<|endoftext|>a<|im_end|>"),
            (std::vector<std::int32_t>{256, 'a', 258}));
  EXPECT_EQ(tokenizer.bos(), 257);
  EXPECT_EQ(tokenizer.eos(), 258);
}

TEST_F(ByteTokenizer, its_chat_template_is_chatml) {
  write_byte_tokenizer(folder_, 128);
  EXPECT_EQ(data::ChatTemplate::from_directory(folder_).name(), "chatml");
}

TEST_F(ByteTokenizer, says_when_it_cannot_be_written) {
  EXPECT_THROW(write_byte_tokenizer(folder_ / "none", 128), base::MachineError);
}

}  // namespace
}  // namespace dfmoa::checkpoints
