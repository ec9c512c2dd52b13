// A folder with a small tokenizer and the JSONL files a test writes.
#pragma once

#include <string>
#include <vector>

#include "src/base/file.h"
#include "src/data/config.h"
#include "src/data/sample.h"
#include "src/data/tokenizer.h"
#include "tests/data/small_tokenizer.h"
#include "tests/formats/temporary_folder.h"

namespace dfmoa::data {

/// Letters other than those of the merges are one token each: "xyz" has three.
class SmallData : public formats::TemporaryFolder {
 protected:
  void SetUp() override {
    formats::TemporaryFolder::SetUp();
    write_tokenizer(small_tokenizer_json());
  }

  void write_tokenizer(const nlohmann::json& file) {
    base::write_file(folder_ / "tokenizer.json", file.dump());
    base::write_file(folder_ / "tokenizer_config.json", R"({"eos_token": "<|end|>"})");
  }

  std::string write(const std::string& name, const std::string& content) {
    const auto path = (folder_ / name).string();
    base::write_file(path, content);
    return path;
  }

  /// One {"text"} line of `letters` tokens and the end token for each number.
  std::string write_texts(const std::string& name, const std::vector<std::size_t>& letters) {
    std::string content;
    for (const auto count : letters) {
      content += R"({"text": ")" + std::string(count, 'x') + "\"}\n";
    }
    return write(name, content);
  }

  /// `count` lines whose text says their number.
  std::string write_numbers(const std::string& name, int count) {
    std::string content;
    for (int i = 0; i < count; ++i) {
      content += R"({"prompt": "q", "completion": ")" + std::to_string(i) + "\"}\n";
    }
    return write(name, content);
  }

  const Tokenizer& tokenizer() {
    if (!tokenizer_) tokenizer_.emplace(Tokenizer::from_directory(folder_));
    return *tokenizer_;
  }

  SampleReader reader(const DataConfig& config) {
    return SampleReader(config, tokenizer(), folder_.string());
  }

  DataConfig config_;

 private:
  std::optional<Tokenizer> tokenizer_;
};

}  // namespace dfmoa::data
