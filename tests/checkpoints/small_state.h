// A state small enough to read: every element type, an expert without directions, values of every
// kind; and a folder of its own for each test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "src/base/random.h"
#include "src/base/state_tree.h"

namespace dfmoa::checkpoints {

/// Owns the memory that its tree points to. The content is a function of `seed`.
class SmallState {
 public:
  explicit SmallState(std::uint64_t seed = 0) {
    using base::DType;
    add(seed, "layer/0/q/expert/0/A", DType::f32, {4, 6});
    add(seed, "layer/0/q/expert/0/B", DType::f32, {6, 4});
    add(seed, "layer/0/q/expert/1/A", DType::f32, {4, 6});
    add(seed, "layer/0/q/expert/1/B", DType::f32, {6, 4});
    add(seed, "layer/0/q/expert/2/A", DType::f32, {0, 6});  // all its directions were cut
    add(seed, "layer/0/q/router/weight", DType::f64, {3, 5});
    add(seed, "layer/0/q/direction_id", DType::i64, {8});
    add(seed, "optimizer/layer/0/q/m", DType::f32, {700, 600});  // more than one chunk
    add(seed, "small/f16", DType::f16, {3});
    add(seed, "small/bf16", DType::bf16, {2, 2});
    add(seed, "small/i32", DType::i32, {1});
    add(seed, "small/u8", DType::u8, {9});
    tree_.set("config", std::string("[train]\nsteps = 40\n"));
    tree_.set("empty", std::string());
    tree_.set("learning_rate", 2e-4);
    tree_.set("tokens_seen", std::int64_t{9007199254740993});  // no double holds it
  }

  [[nodiscard]] base::StateTree& tree() { return tree_; }
  [[nodiscard]] std::map<std::string, std::vector<unsigned char>>& bytes() { return bytes_; }
  [[nodiscard]] const std::map<std::string, std::vector<unsigned char>>& bytes() const {
    return bytes_;
  }

  void clear() {
    for (auto& [name, held] : bytes_) std::fill(held.begin(), held.end(), 0);
  }

  void add(std::uint64_t seed, const std::string& name, base::DType dtype,
           const std::vector<std::int64_t>& shape) {
    base::StateEntry entry{name, dtype, shape, nullptr, 0};
    auto& held = bytes_[name];
    held.resize(entry.bytes());
    const base::KeyedRandom random(seed, {base::key_word(name)});
    for (std::size_t i = 0; i < held.size(); ++i) {
      held[i] = static_cast<unsigned char>(random.bits(i));
    }
    entry.data = held.empty() ? nullptr : held.data();
    tree_.add(entry);
  }

 private:
  std::map<std::string, std::vector<unsigned char>> bytes_;
  base::StateTree tree_;
};

class CheckpointFolder : public testing::Test {
 protected:
  std::filesystem::path folder_ = std::filesystem::temp_directory_path() /
                                  ("dfmoa_checkpoints_" + std::to_string(::getpid()) + "_" +
                                   testing::UnitTest::GetInstance()->current_test_info()->name());
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
};

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

inline testing::AssertionResult says(const std::string& sentence, const std::string& part) {
  if (sentence.find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << '"' << sentence << "\" does not say \"" << part << '"';
}

}  // namespace dfmoa::checkpoints
