#include "src/data/config.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace dfmoa::data {
namespace {

TEST(DataConfig, reads_every_key_and_refuses_other_choices) {
  DataConfig config;
  auto fields = base::FieldList::of(config);
  fields.assign("data", "train", "a.jsonl, b.jsonl.zst");
  fields.assign("data", "order", "file");
  fields.assign("data", "span", "^<bos>(.)");
  fields.assign("data", "long", "split");
  fields.assign("data", "prompts", "chat");
  fields.assign("data", "template", "chatml");
  fields.assign("data", "skip_bad_lines", "true");
  fields.assign("data", "index_dir", "/scratch");
  EXPECT_EQ(config.train, (std::vector<std::string>{"a.jsonl", "b.jsonl.zst"}));
  EXPECT_EQ(config.order, "file");
  EXPECT_EQ(config.span, "^<bos>(.)");
  EXPECT_EQ(config.long_documents, "split");
  EXPECT_EQ(config.index_dir, "/scratch");
  EXPECT_TRUE(config.skip_bad_lines);
  EXPECT_THROW(fields.assign("data", "order", "random"), base::UsageError);
  EXPECT_THROW(fields.assign("data", "long", "wrap"), base::UsageError);
  EXPECT_THROW(fields.assign("data", "template", "vicuna"), base::UsageError);
}

}  // namespace
}  // namespace dfmoa::data
