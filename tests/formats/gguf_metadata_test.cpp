#include "src/formats/gguf_metadata.h"

#include <functional>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::formats {
namespace {

class Metadata : public testing::Test {
 protected:
  GgufMetadata metadata_{"reading m.gguf"};
  void SetUp() override {
    metadata_.add("flag", true);
    metadata_.add("count", std::uint64_t{7});
    metadata_.add("huge", ~std::uint64_t{0});
    metadata_.add("counts", std::vector<std::uint64_t>{1, 2});
    metadata_.add("numbers", std::vector<double>{0.5});
    metadata_.add("string", std::string("text"));
  }
  static std::string refusal(const std::function<void()>& read) {
    return sentence_of<base::ContentError>(read);
  }
};

TEST_F(Metadata, numbers_are_read_from_any_numeric_kind) {
  EXPECT_EQ(metadata_.number("count"), 7.0);
  EXPECT_EQ(metadata_.integers("counts"), (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(metadata_.numbers("numbers"), (std::vector<double>{0.5}));
  EXPECT_TRUE(metadata_.has("count"));
  EXPECT_FALSE(metadata_.has("none"));
}

TEST_F(Metadata, another_kind_is_refused_by_key_with_both_kinds) {
  EXPECT_TRUE(contains(refusal([&] { static_cast<void>(metadata_.string("count")); }),
                       "m.gguf: the key 'count' holds an integer, expected a string"));
  EXPECT_THROW(static_cast<void>(metadata_.integer("string")), base::ContentError);
  EXPECT_THROW(static_cast<void>(metadata_.number("flag")), base::ContentError);
  EXPECT_THROW(static_cast<void>(metadata_.flag("count")), base::ContentError);
  EXPECT_THROW(static_cast<void>(metadata_.strings("counts")), base::ContentError);
  EXPECT_THROW(static_cast<void>(metadata_.integers("numbers")), base::ContentError);
  EXPECT_THROW(static_cast<void>(metadata_.numbers("counts")), base::ContentError);
}

TEST_F(Metadata, absent_repeated_and_too_large_are_refused) {
  EXPECT_TRUE(
      contains(refusal([&] { static_cast<void>(metadata_.string("none")); }), "'none' is missing"));
  EXPECT_TRUE(contains(refusal([&] { metadata_.add("flag", false); }), "'flag' is written twice"));
  EXPECT_TRUE(contains(refusal([&] { static_cast<void>(metadata_.integer("huge")); }),
                       "'huge' holds 18446744073709551615"));
}

}  // namespace
}  // namespace dfmoa::formats
