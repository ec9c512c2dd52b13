#include "src/data/loader.h"

#include <algorithm>
#include <set>

#include "src/base/error.h"
#include "tests/data/small_data.h"

namespace dfmoa::data {
namespace {

using formats::contains;
using formats::sentence_of;
using Numbers = std::vector<std::int64_t>;

class LoaderTest : public SmallData {
 protected:
  Loader loader(LoaderShape shape, std::uint64_t seed = 1) {
    reader_.emplace(reader(config_));
    return Loader(config_, shape, *reader_, seed);
  }
  static Numbers lengths(const PackedRow& row) {
    Numbers out;
    for (std::size_t d = 1; d < row.document_begin.size(); ++d) {
      out.push_back(row.document_begin[d] - row.document_begin[d - 1]);
    }
    return out;
  }
  std::optional<SampleReader> reader_;
};

void expect_equal(const std::vector<PackedRow>& a, const std::vector<PackedRow>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t m = 0; m < a.size(); ++m) {
    EXPECT_EQ(a[m].token_T, b[m].token_T);
    EXPECT_EQ(a[m].target_T, b[m].target_T);
    EXPECT_EQ(a[m].document_begin, b[m].document_begin);
    EXPECT_EQ(a[m].document_id, b[m].document_id);
    EXPECT_EQ(a[m].where, b[m].where);
    EXPECT_EQ(a[m].first_token, b[m].first_token);
  }
}

TEST_F(LoaderTest, rows_are_filled_next_fit_in_stream_order_across_epochs) {
  config_.order = "file";
  config_.train = {write_texts("a.jsonl", {2, 3, 6, 1})};  // 3, 4, 7 and 2 tokens
  auto stream = loader({.micro_batches = 2, .tokens = 8});
  auto rows = stream.next_step();
  EXPECT_EQ(lengths(rows[0]), (Numbers{3, 4}));
  EXPECT_EQ(lengths(rows[1]), (Numbers{7}));
  rows = stream.next_step();
  EXPECT_EQ(lengths(rows[0]), (Numbers{2, 3})) << "the second epoch begins inside the row";
  EXPECT_EQ(lengths(rows[1]), (Numbers{4}));
  EXPECT_EQ(rows[0].document_id, (Numbers{3, 4}));
  EXPECT_EQ(rows[0].first_token, 16);
  EXPECT_EQ(rows[1].first_token, 24);
  EXPECT_EQ(stream.samples_per_epoch(), 4);
  EXPECT_EQ(stream.cursor().sample, 6);
}

TEST_F(LoaderTest, documents_fill_a_row_of_the_length_they_need) {
  config_.order = "file";
  config_.train = {write_texts("a.jsonl", {2, 3, 6, 1})};
  auto stream = loader({.tokens = 0, .documents = 3});
  EXPECT_EQ(lengths(stream.next_step()[0]), (Numbers{3, 4, 7}));
  const auto row = stream.next_step()[0];
  EXPECT_EQ(lengths(row), (Numbers{2, 3, 4}));
  EXPECT_GT(row.first_token, 1'000'000'000) << "numbers of two rows must not overlap";
  auto narrow = loader({.tokens = 13, .documents = 3});
  const auto sentence = sentence_of<base::ContentError>([&] { (void)narrow.next_step(); });
  EXPECT_TRUE(contains(sentence, "a.jsonl:3")) << sentence;
  EXPECT_TRUE(contains(sentence, "14 tokens, expected at most 13")) << sentence;
}

TEST_F(LoaderTest, shuffled_epochs_hold_every_line_once_in_another_order) {
  config_.train = {write_numbers("a.jsonl", 20)};
  auto stream = loader({.tokens = 0, .documents = 20});
  const auto first = stream.next_step()[0].where;
  const auto second = stream.next_step()[0].where;
  EXPECT_NE(first, second);
  EXPECT_EQ(std::set(first.begin(), first.end()).size(), 20U);
  EXPECT_EQ(std::set(second.begin(), second.end()), std::set(first.begin(), first.end()));
  EXPECT_NE(loader({.tokens = 0, .documents = 20}, 2).next_step()[0].where, first);
  EXPECT_EQ(loader({.tokens = 0, .documents = 20}, 1).next_step()[0].where, first);
}

TEST_F(LoaderTest, cursor_resumes_with_identical_rows) {
  config_.train = {write_texts("a.jsonl", {2, 30, 6, 1, 17, 9, 4})};
  config_.long_documents = "split";
  for (const LoaderShape shape : {LoaderShape{.micro_batches = 2, .tokens = 10},
                                  LoaderShape{.micro_batches = 3, .tokens = 20, .documents = 1}}) {
    auto whole = loader(shape);
    std::vector<Cursor> cursors;
    std::vector<std::vector<PackedRow>> steps;
    for (int step = 0; step < 12; ++step) {
      cursors.push_back(whole.cursor());
      steps.push_back(whole.next_step());
    }
    for (std::size_t step = 0; step < steps.size(); ++step) {
      base::StateTree state;
      save(cursors[step], state);
      Loader resumed(config_, shape, *reader_, 1);
      resumed.seek(load_cursor(state));
      for (auto next = step; next < steps.size(); ++next) {
        expect_equal(resumed.next_step(), steps[next]);
      }
      EXPECT_EQ(resumed.cursor(), whole.cursor());
    }
  }
}

TEST_F(LoaderTest, seeking_back_in_the_same_loader_repeats_the_rows) {
  config_.train = {write_texts("a.jsonl", {25, 2, 27, 29, 1})};
  config_.long_documents = "split";
  auto stream = loader({.tokens = 10});
  std::vector<Cursor> cursors;
  std::vector<std::vector<PackedRow>> steps;
  for (int step = 0; step < 12; ++step) {
    cursors.push_back(stream.cursor());
    steps.push_back(stream.next_step());
  }
  for (auto step = steps.size(); step-- > 0;) {
    stream.seek(cursors[step]);
    expect_equal(stream.next_step(), steps[step]);
  }
}

TEST_F(LoaderTest, order_hash_tells_orders_apart) {
  config_.train = {write_numbers("a.jsonl", 50)};
  const auto hash_of = [&](std::uint64_t seed, std::int64_t row_documents, int steps) {
    auto stream = loader({.tokens = 0, .documents = row_documents}, seed);
    for (int step = 0; step < steps; ++step) (void)stream.next_step();
    return stream.cursor().order_hash;
  };
  EXPECT_EQ(hash_of(1, 10, 4), hash_of(1, 20, 2)) << "rows do not matter, samples do";
  EXPECT_NE(hash_of(1, 10, 4), hash_of(2, 10, 4));
  EXPECT_NE(hash_of(1, 10, 4), hash_of(1, 10, 5));
}

TEST_F(LoaderTest, resume_on_other_data_and_a_cursor_without_an_entry_are_refused) {
  config_.train = {write_numbers("a.jsonl", 9)};
  const auto cursor = loader({}).cursor();
  write_numbers("a.jsonl", 10);
  auto other = loader({});
  const auto sentence = sentence_of<base::ContentError>([&] { other.seek(cursor); });
  EXPECT_TRUE(contains(sentence, "a.jsonl")) << sentence;
  EXPECT_THROW((void)load_cursor(base::StateTree()), base::ContentError);
}

TEST_F(LoaderTest, document_of_100000_tokens_is_an_error_a_beginning_or_pieces) {
  config_.order = "file";
  config_.train = {write_texts("long.jsonl", {3, 99'999})};
  auto stream = loader({.tokens = 512});
  const auto sentence = sentence_of<base::ContentError>([&] { (void)stream.next_step(); });
  EXPECT_TRUE(contains(sentence, "long.jsonl:2: the document has 100000 tokens")) << sentence;
  EXPECT_TRUE(contains(sentence, "512 (train.tokens)")) << sentence;

  config_.long_documents = "truncate";
  auto cut = loader({.micro_batches = 3, .tokens = 512});
  auto rows = cut.next_step();
  EXPECT_EQ(lengths(rows[0]), (Numbers{4}));
  EXPECT_EQ(lengths(rows[1]), (Numbers{512}));
  EXPECT_EQ(lengths(rows[2]), (Numbers{4}));

  config_.long_documents = "split";
  auto pieces = loader({.micro_batches = 197, .tokens = 512});
  rows = pieces.next_step();  // 4; then 195 rows of 512 and one of 160 and the next 4
  EXPECT_EQ(lengths(rows[195]), (Numbers{512}));
  EXPECT_EQ(lengths(rows[196]), (Numbers{160, 4}));
  std::int64_t loss_tokens = 0;
  for (std::size_t m = 1; m < 197; ++m) loss_tokens += rows[m].loss_tokens();
  EXPECT_EQ(loss_tokens, 99'999 + 3) << "every target but the first token of each document";
}

TEST_F(LoaderTest, no_document_is_longer_than_the_positions_of_the_model) {
  config_.train = {write_texts("a.jsonl", {3, 39})};  // and the end token each
  config_.order = "file";
  const LoaderShape shape{.micro_batches = 2, .tokens = 100, .positions = 16};
  const auto sentence = sentence_of<base::ContentError>([&] { (void)loader(shape).next_step(); });
  EXPECT_TRUE(contains(sentence,
                       "a.jsonl:2: the document has 40 tokens, expected at most 16 (the "
                       "positions of the model)"))
      << sentence;
  config_.long_documents = "split";
  EXPECT_EQ(lengths(loader(shape).next_step()[0]), (Numbers{4, 16, 16, 8, 4, 16, 16, 8, 4}));
}

TEST_F(LoaderTest, step_without_a_loss_bearing_token_is_found) {
  config_.long_documents = "truncate";
  config_.train = {write("a.jsonl", R"({"prompt": "xyzxyzxyz", "completion": "a"})")};
  auto stream = loader({.micro_batches = 2, .tokens = 4});
  const auto sentence = sentence_of<base::ContentError>([&] { (void)stream.next_step(); });
  EXPECT_TRUE(contains(sentence, "a.jsonl:1")) << sentence;
  EXPECT_TRUE(contains(sentence, "bears loss")) << sentence;
}

TEST_F(LoaderTest, bad_line_stops_or_is_counted) {
  config_.order = "file";
  config_.train = {write("a.jsonl", "{\"text\": \"x\"}\n{\"text\": \n{\"text\": \"y\"}\n")};
  auto strict = loader({.tokens = 0, .documents = 2});
  const auto sentence = sentence_of<base::ContentError>([&] { (void)strict.next_step(); });
  EXPECT_TRUE(contains(sentence, "a.jsonl:2")) << sentence;

  config_.skip_bad_lines = true;
  auto stream = loader({.tokens = 0, .documents = 2});
  EXPECT_EQ(stream.next_step()[0].document_id, (Numbers{0, 1}));
  EXPECT_EQ(stream.cursor().skipped, 1);
  EXPECT_TRUE(contains(stream.last_skipped(), "a.jsonl:2")) << stream.last_skipped();

  config_.train = {write("b.jsonl", "{\n[\n")};
  auto broken = loader({.tokens = 0, .documents = 2});
  const auto all = sentence_of<base::ContentError>([&] { (void)broken.next_step(); });
  EXPECT_TRUE(contains(all, "all 2 lines")) << all;
  EXPECT_TRUE(contains(all, "b.jsonl:2")) << all;
}

TEST_F(LoaderTest, shape_that_holds_nothing_is_the_users) {
  config_.train = {write_numbers("a.jsonl", 3)};
  EXPECT_THROW((void)loader({.micro_batches = 0}), base::UsageError);
  EXPECT_THROW((void)loader({.tokens = 0}), base::UsageError);
  EXPECT_THROW((void)loader({.tokens = -1, .documents = 1}), base::UsageError);
  config_.train = {};
  EXPECT_THROW((void)loader({}), base::UsageError);
}

TEST_F(LoaderTest, held_out_documents_come_once_in_file_order) {
  const auto path = write_texts("a.jsonl", {2, 3, 1, 20, 1});  // 3 + 4 + 2 is one too many
  std::vector<Numbers> rows;
  std::int64_t samples = 0;
  const auto visit = [&](const PackedRow& row, const std::vector<Sample>& of_row) {
    rows.push_back(lengths(row));
    EXPECT_EQ(of_row.size(), static_cast<std::size_t>(row.documents()));
    EXPECT_EQ(row.document_id.front(), samples);
    samples += row.documents();
  };
  EXPECT_EQ(for_each_row({path}, reader(config_), 8, visit), 0);
  EXPECT_EQ(rows, (std::vector<Numbers>{{3, 4}, {2}, {21}, {2}}));
  EXPECT_FALSE(std::filesystem::exists(path + ".dfmoa_index")) << "read once: no index is left";

  const auto broken = write("b.jsonl", "{\n{\"text\": \"x\"}\n");
  const auto ignore = [](const PackedRow&, const std::vector<Sample>&) {};
  EXPECT_THROW(for_each_row({broken}, reader(config_), 8, ignore), base::ContentError);
  config_.skip_bad_lines = true;
  EXPECT_EQ(for_each_row({broken}, reader(config_), 8, ignore), 1);
}

}  // namespace
}  // namespace dfmoa::data
