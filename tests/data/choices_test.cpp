#include "src/data/choices.h"

#include "src/base/error.h"
#include "tests/data/small_data.h"

namespace dfmoa::data {
namespace {

using formats::contains;
using formats::sentence_of;
using Texts = std::vector<std::string>;

const char* const kNamed =
    R"({"instruction": "Is it?\n\nAnswer format: true/ false", "input": "", "answer": "false",
        "output": "the answer is false"})";
const char* const kListed = R"({"prompt": "1 + 1 =", "choices": [" 2", " 3"], "answer": 1})";

class ChoicesTest : public SmallData {
 protected:
  std::vector<ChoiceItem> read(const std::string& content, std::int64_t limit = 0) {
    return read_choices({"task", write("items", content)}, limit);
  }

  /// `item` with `from` replaced, as the second of an array.
  std::string refusal(std::string item, const std::string& from, const std::string& to) {
    item.replace(item.find(from), from.size(), to);
    return sentence_of<base::ContentError>(
        [&] { (void)read("[" + std::string(kListed) + "," + item + "]"); });
  }
};

TEST_F(ChoicesTest, listed_choices_are_taken_as_they_stand) {
  const auto items = read(kListed);
  ASSERT_EQ(items.size(), 1U);
  EXPECT_EQ(items[0].question.text, "1 + 1 =");
  EXPECT_FALSE(items[0].question.is_instruction);
  EXPECT_EQ(items[0].texts, (Texts{" 2", " 3"}));
  EXPECT_EQ(items[0].answer, 1U);
  EXPECT_EQ(items[0].task, "task");
  EXPECT_TRUE(items[0].where.ends_with("items:1")) << items[0].where;
  const auto asked = read(
      R"({"instruction": "a", "input": "b", "choices": ["c", "d"], "answer": 0, "task": "t"})");
  EXPECT_EQ(asked[0].question.input, "b");
  EXPECT_TRUE(asked[0].question.is_instruction);
  EXPECT_EQ(asked[0].task, "t");
}

TEST_F(ChoicesTest, named_answers_stand_at_the_end_of_the_output) {
  const auto items = read("\n [" + std::string(kNamed) + "]");
  ASSERT_EQ(items.size(), 1U);
  EXPECT_EQ(items[0].texts, (Texts{"the answer is true", "the answer is false"}));
  EXPECT_EQ(items[0].answer, 1U);
  EXPECT_EQ(items[0].question.text, "Is it?\n\nAnswer format: true/ false");
  EXPECT_TRUE(items[0].question.is_instruction);
  EXPECT_TRUE(items[0].where.ends_with("items:item 1")) << items[0].where;
  const auto last =
      read(R"([{"instruction": "Answer format: x/y Answer format: a/b/c\nGo.", "output": "c",
                "answer": "c"}])");
  EXPECT_EQ(last[0].texts, (Texts{"a", "b", "c"}));
}

TEST_F(ChoicesTest, both_shapes_stand_in_arrays_and_in_lines) {
  std::string named = kNamed;
  named.erase(std::remove(named.begin(), named.end(), '\n'), named.end());
  const auto lines = read(std::string(kListed) + "\n\n" + named + "\n");
  const auto array = read("[" + std::string(kListed) + "," + named + "]");
  ASSERT_EQ(lines.size(), 2U);
  ASSERT_EQ(array.size(), 2U);
  for (const std::size_t i : {0, 1}) EXPECT_EQ(lines[i].texts, array[i].texts);
  EXPECT_TRUE(lines[1].where.ends_with("items:3")) << lines[1].where;
  EXPECT_TRUE(array[1].where.ends_with("items:item 2")) << array[1].where;
}

TEST_F(ChoicesTest, limit_takes_the_first_items_and_reads_no_more) {
  EXPECT_EQ(read(std::string(kListed) + "\n{broken\n", 1).size(), 1U);
  EXPECT_EQ(read("[" + std::string(kListed) + ", 7]", 1).size(), 1U);
  EXPECT_EQ(read(kListed, 5).size(), 1U);
}

TEST_F(ChoicesTest, broken_items_are_refused_by_their_place) {
  const auto expect = [](const std::string& sentence, const std::string& words) {
    EXPECT_TRUE(contains(sentence, "items:item 2: ")) << sentence;
    EXPECT_TRUE(contains(sentence, words)) << sentence;
  };
  expect(refusal(kListed, "1}", "2}"), "\"answer\" = 2: expected the number of a choice, 0 to 1");
  expect(refusal(kListed, "1}", "-1}"), "\"answer\" = -1");
  expect(refusal(kListed, "1}", "\" 3\"}"), "\"answer\" = \" 3\"");
  expect(refusal(kListed, "\" 2\", ", ""), "two or more texts");
  expect(refusal(kListed, "\" 2\"", "\"\""), "two or more texts");
  expect(refusal(kListed, "\" 2\"", "2"), "two or more texts");
  expect(refusal(kListed, "\"1 + 1 =\"", "7"), "\"prompt\" is number, expected a string");
  expect(refusal(kListed, "choices", "chioces"), "keys (answer, chioces, prompt)");
  expect(refusal(kNamed, "format", "forms"), "no 'Answer format:' in it");
  expect(refusal(kNamed, "true/ false", "false"), "1 names behind");
  expect(refusal(kNamed, "\"false\"", "\"maybe\""), "'maybe', expected one of true, false");
  expect(refusal(kNamed, "is false", "is fals"), "expected it to end with the answer 'false'");
  EXPECT_TRUE(contains(refusal(kListed, kListed, "7"), "item 2: expected a JSON object"));
  const auto line =
      sentence_of<base::ContentError>([&] { (void)read(std::string(kListed) + "\n{broken\n"); });
  EXPECT_TRUE(contains(line, "items:2:byte 2")) << line;
}

TEST_F(ChoicesTest, files_without_an_item_or_that_are_not_there_are_refused) {
  EXPECT_THROW((void)read(""), base::ContentError);
  EXPECT_THROW((void)read("[]"), base::ContentError);
  EXPECT_THROW((void)read("[" + std::string(kListed)), base::ContentError);
  EXPECT_THROW((void)read_choices({"task", (folder_ / "nowhere").string()}, 0), base::UsageError);
}

TEST_F(ChoicesTest, the_task_is_named_by_hand_or_by_the_file_or_its_folder) {
  const auto name = [](const std::string& argument) { return choice_file(argument).task; };
  EXPECT_EQ(name("a/arc_easy.jsonl"), "arc_easy");
  EXPECT_EQ(name("a/arc_easy.jsonl.zst"), "arc_easy");
  EXPECT_EQ(name("tasks/boolq/test.json"), "boolq");
  EXPECT_EQ(name("mine=tasks/boolq/test.json"), "mine");
  EXPECT_EQ(choice_file("mine=tasks/boolq/test.json").path, "tasks/boolq/test.json");
  const auto path = write("a=b.json", kListed);
  EXPECT_EQ(choice_file(path).path, path) << "a file of that name is there";
  for (const char* words : {"choices", "Answer format", "--plain"}) {
    EXPECT_TRUE(contains(choices_help(), words)) << words;
  }
}

}  // namespace
}  // namespace dfmoa::data
