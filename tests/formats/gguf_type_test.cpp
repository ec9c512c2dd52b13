#include "src/formats/gguf_type.h"

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::formats {
namespace {

TEST(GgufType, numbers_and_names_find_their_blocks) {
  EXPECT_STREQ(find_block(3)->name, "Q4_1");
  EXPECT_EQ(find_block(4), nullptr);
  EXPECT_THROW(static_cast<void>(block_of(static_cast<GgufType>(4))), base::ShapeError);
  EXPECT_TRUE(contains(gguf_type_names(), "F32, F16, BF16"));
}

}  // namespace
}  // namespace dfmoa::formats
