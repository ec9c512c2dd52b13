#include "src/base/hash_cache.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "src/base/file.h"
#include "src/base/hash.h"

using namespace dfmoa::base;
namespace fs = std::filesystem;

class HashCacheTest : public testing::Test {
 protected:
  fs::path folder_ = fs::temp_directory_path() / ("dfmoa_hash_cache_" + std::to_string(::getpid()));
  fs::path cache_ = folder_ / "cache";
  fs::path file_ = folder_ / "weights";
  std::string hash_ = hash128("a", 1);

  void SetUp() override {
    fs::create_directories(folder_);
    write_file(file_, "0123456789");
    age(file_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  /// As if the file had not changed for a while.
  static void age(const fs::path& path) {
    fs::last_write_time(path, fs::last_write_time(path) - std::chrono::hours(1));
  }
  [[nodiscard]] HashCache cache(const std::string& purpose = "F32") const {
    return {cache_, purpose, {file_}};
  }
  [[nodiscard]] fs::path only_entry() const {
    EXPECT_EQ(std::distance(fs::directory_iterator(cache_), fs::directory_iterator()), 1);
    return fs::directory_iterator(cache_)->path();
  }
};

TEST_F(HashCacheTest, what_is_kept_is_found_again) {
  EXPECT_EQ(cache().find(), std::nullopt);
  cache().store(hash_);
  EXPECT_EQ(cache().find(), hash_);
  EXPECT_TRUE(fs::is_regular_file(only_entry()));  // no temporary file beside it
}

TEST_F(HashCacheTest, another_purpose_or_file_is_another_hash) {
  cache().store(hash_);
  EXPECT_EQ(cache("F64").find(), std::nullopt);
  EXPECT_EQ(HashCache(cache_, "F32", {file_, file_}).find(), std::nullopt);
  fs::copy_file(file_, folder_ / "copy");
  fs::last_write_time(folder_ / "copy", fs::last_write_time(file_));
  EXPECT_EQ(HashCache(cache_, "F32", {folder_ / "copy"}).find(), std::nullopt);
}

TEST_F(HashCacheTest, a_path_is_the_same_however_it_is_written) {
  cache().store(hash_);
  EXPECT_EQ(HashCache(cache_, "F32", {cache_ / ".." / "weights"}).find(), hash_);
}

TEST_F(HashCacheTest, another_size_or_time_is_never_trusted) {
  const auto time = fs::last_write_time(file_);
  cache().store(hash_);
  fs::last_write_time(file_, time + std::chrono::nanoseconds(1000));
  EXPECT_EQ(cache().find(), std::nullopt);
  write_file(file_, "012345678");
  fs::last_write_time(file_, time);
  EXPECT_EQ(cache().find(), std::nullopt);
  write_file(file_, "0123456789");
  fs::last_write_time(file_, time);
  EXPECT_EQ(cache().find(), hash_);
}

TEST_F(HashCacheTest, a_file_that_changed_just_now_or_meanwhile_is_not_kept) {
  write_file(file_, "9876543210");  // could change again within the same tick of the clock
  cache().store(hash_);
  EXPECT_EQ(cache().find(), std::nullopt);
  age(file_);
  const auto before = cache();
  age(file_);
  before.store(hash_);
  EXPECT_EQ(before.find(), std::nullopt);
}

TEST_F(HashCacheTest, every_flipped_byte_and_every_cut_of_an_entry_is_ignored) {
  cache().store(hash_);
  const auto path = only_entry();
  const auto whole = read_file(path);
  for (std::size_t i = 0; i < whole.size(); ++i) {
    auto damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    write_file(path, damaged);
    EXPECT_EQ(cache().find(), std::nullopt) << i;
    write_file(path, whole.substr(0, i));
    EXPECT_EQ(cache().find(), std::nullopt) << i;
  }
  write_file(path, whole + "x");
  EXPECT_EQ(cache().find(), std::nullopt);
  cache().store(hash_);
  EXPECT_EQ(cache().find(), hash_);
}

TEST_F(HashCacheTest, nowhere_to_write_is_no_error) {
  write_file(folder_ / "no_folder", "");
  for (const auto& place : {folder_ / "no_folder", folder_ / "no_folder" / "below", fs::path()}) {
    const HashCache nowhere(place, "F32", {file_});
    nowhere.store(hash_);
    EXPECT_EQ(nowhere.find(), std::nullopt) << place;
  }
  const HashCache missing(cache_, "F32", {folder_ / "no such file"});
  missing.store(hash_);
  EXPECT_EQ(missing.find(), std::nullopt);
  EXPECT_FALSE(fs::exists(cache_));
}

TEST_F(HashCacheTest, the_folder_is_the_users) {
  ::setenv("XDG_CACHE_HOME", "/somewhere", 1);
  EXPECT_EQ(user_cache_folder(), "/somewhere/dfmoa");
  ::setenv("XDG_CACHE_HOME", "relative", 1);
  ::setenv("HOME", "/users/me", 1);
  EXPECT_EQ(user_cache_folder(), "/users/me/.cache/dfmoa");
  ::unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(user_cache_folder(), "/users/me/.cache/dfmoa");
  ::unsetenv("HOME");
  EXPECT_EQ(user_cache_folder(), "");
}
