#include "checkpoints/convert/pending_directory.h"

#include "src/base/error.h"
#include "tests/convert/small_gguf.h"

namespace dfmoa::checkpoints {
namespace {

namespace fs = std::filesystem;

class PendingDirectoryTest : public TemporaryFolder {
 protected:
  fs::path out_ = folder_ / "out";
  fs::path temporary_ = folder_ / "out.tmp";
};

TEST_F(PendingDirectoryTest, appears_whole_at_the_commit) {
  PendingDirectory pending(out_.string() + "/");
  EXPECT_EQ(pending.path(), temporary_);
  base::write_file(pending.path() / "a", "1");
  EXPECT_FALSE(fs::exists(out_));
  pending.commit();
  EXPECT_EQ(base::read_file(out_ / "a"), "1");
  EXPECT_EQ(std::distance(fs::directory_iterator(out_), {}), 1);  // and no mark
  EXPECT_FALSE(fs::exists(temporary_));
}

TEST_F(PendingDirectoryTest, leaves_nothing_without_a_commit) {
  {
    const PendingDirectory pending(out_);
    base::write_file(pending.path() / "a", "1");
  }
  EXPECT_TRUE(nothing_left(out_));
}

TEST_F(PendingDirectoryTest, takes_the_place_of_an_empty_directory_and_makes_parents) {
  fs::create_directories(out_);
  PendingDirectory(out_).commit();
  PendingDirectory(folder_ / "a" / "b" / "c").commit();
  EXPECT_TRUE(fs::is_directory(folder_ / "a" / "b" / "c"));
}

TEST_F(PendingDirectoryTest, removes_what_a_killed_process_left) {
  fs::create_directories(temporary_);
  formats::write_damaged(temporary_ / "unfinished", "");
  formats::write_damaged(temporary_ / "old", "1");
  PendingDirectory pending(out_);
  EXPECT_FALSE(fs::exists(pending.path() / "old"));
}

TEST_F(PendingDirectoryTest, never_removes_what_is_somebody_elses) {
  fs::create_directories(temporary_);
  formats::write_damaged(temporary_ / "mine", "1");
  EXPECT_TRUE(contains(sentence_of<base::UsageError>([&] { PendingDirectory pending(out_); }),
                       "not left by an unfinished one"));
  EXPECT_TRUE(fs::exists(temporary_ / "mine"));
}

TEST_F(PendingDirectoryTest, refuses_a_place_that_is_in_use) {
  formats::write_damaged(out_, "1");
  EXPECT_TRUE(contains(sentence_of<base::UsageError>([&] { PendingDirectory pending(out_); }),
                       "it is a file"));
  fs::remove(out_);
  fs::create_directories(out_ / "x");
  EXPECT_TRUE(contains(sentence_of<base::UsageError>([&] { PendingDirectory pending(out_); }),
                       "not empty"));
  EXPECT_THROW(PendingDirectory(""), base::UsageError);
}

TEST_F(PendingDirectoryTest, says_when_it_cannot_be_created_or_renamed) {
  formats::write_damaged(folder_ / "file", "1");
  EXPECT_THROW(PendingDirectory(folder_ / "file" / "out"), base::MachineError);
  PendingDirectory pending(out_);
  fs::create_directories(out_ / "x");  // somebody was faster
  EXPECT_TRUE(contains(sentence_of<base::MachineError>([&] { pending.commit(); }), "renaming"));
}

}  // namespace
}  // namespace dfmoa::checkpoints
