#include "src/train/ini.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::train {
namespace {

TEST(RunConfigTest, ini_reads_back_what_it_prints_and_names_the_nearest_key) {
  RunConfig run;
  run.set("adapter.main.rank", "4");
  run.set("router.main.scope", "span");
  run.set("data.span", "^<bos>(.)");
  RunConfig again;
  read_ini_text(run.ini(), "test.ini", again);
  EXPECT_EQ(again.ini(), run.ini());
  const auto sentence =
      formats::sentence_of<base::UsageError>([&] { run.set("trian.steps", "1"); });
  EXPECT_TRUE(formats::contains(sentence, "[train]")) << sentence;
}

RunConfig read_lines(const std::string& text) {
  RunConfig run;
  read_ini_text(text, "test.ini", run);
  return run;
}

TEST(Ini, only_a_whole_line_is_a_comment) {
  const auto run = read_lines(
      "\xef\xbb\xbf# first\r\n[data]\r\n; second\r\n  span = ### Instruction:(.*)\r\n"
      "train = a#1.jsonl, b ;c.jsonl\r\n\r\n[train]\r\nsteps=7");
  EXPECT_EQ(run.data.span, "### Instruction:(.*)");
  EXPECT_EQ(run.data.train, (std::vector<std::string>{"a#1.jsonl", "b ;c.jsonl"}));
  EXPECT_EQ(run.train.steps, 7);
  EXPECT_EQ(read_lines(run.ini()).ini(), run.ini());
}

TEST(Ini, what_is_no_line_of_it_is_refused_with_its_place) {
  const auto refusal = [](const std::string& text) {
    try {
      (void)read_lines(text);
    } catch (const std::exception& error) {
      EXPECT_EQ(base::exit_code(error), base::ExitCode::usage);
      return base::describe(error);
    }
    return std::string("nothing was thrown");
  };
  const auto twice = refusal("[train]\nsteps = 1\n[log]\n[train]\nsteps = 2\n");
  EXPECT_TRUE(formats::contains(twice, "test.ini:5")) << twice;
  EXPECT_TRUE(formats::contains(twice, "train.steps is given a second time")) << twice;
  const auto junk = refusal("[train]\nsteps 3\n");
  EXPECT_TRUE(formats::contains(junk, "test.ini:2: 'steps 3'")) << junk;
  const auto bare = refusal("steps = 3\n");
  EXPECT_TRUE(formats::contains(bare, "expected section.key, such as train.steps")) << bare;
  RunConfig run;
  EXPECT_THROW(run.set("data.span", "a\nb"), base::UsageError);
}

}  // namespace
}  // namespace dfmoa::train
