// A folder of its own for each test, gone afterwards; and the sentence of an expected error.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace dfmoa::formats {

class TemporaryFolder : public testing::Test {
 protected:
  std::filesystem::path folder_ = std::filesystem::temp_directory_path() /
                                  ("dfmoa_formats_" + std::to_string(::getpid()) + "_" +
                                   testing::UnitTest::GetInstance()->current_test_info()->name());
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
};

/// Without the fsync of base::write_file: some tests write thousands of damaged files.
inline void write_damaged(const std::filesystem::path& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

/// What `body` threw as an Expected; fails the test if it threw nothing.
template <class Expected, class Body>
std::string sentence_of(Body&& body) {
  try {
    body();
  } catch (const Expected& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

inline bool contains(const std::string& sentence, std::string_view part) {
  return sentence.find(part) != std::string::npos;
}

}  // namespace dfmoa::formats
