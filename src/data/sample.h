// From a JSON line to tokens with a loss mask: the four shapes of formats.md section 8.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/data/chat_template.h"
#include "src/data/config.h"
#include "src/data/jsonl.h"
#include "src/data/span_pattern.h"
#include "src/data/tokenizer.h"

namespace dfmoa::data {

/// One document.
struct Sample {
  std::vector<std::int32_t> token;
  std::vector<std::uint8_t> trained;  ///< 1: the token is a target that bears loss
  std::string task;                   ///< empty where the line names none
  std::int64_t prompt_tokens = 0;     ///< tokens before the first trained one
  std::int64_t span_begin = 0;        ///< tokens of the instruction; empty range: none marked
  std::int64_t span_end = 0;
  std::string where;       ///< "file:line"
  std::string completion;  ///< expected text, for exact match; empty for {"text"} and long chats
};

/// Turns lines into samples. Prompt and completion are encoded apart, so that a prompt has the same
/// tokens here and when text is generated from it.
class SampleReader {
 public:
  /// The tokenizer must outlive the reader. `model` is the folder whose chat template `auto` reads;
  /// it is read when the first chat or alpaca line comes.
  SampleReader(const DataConfig& config, const Tokenizer& tokenizer, std::string model);
  ~SampleReader();

  /// Throws ContentError "file:line: ..." for a line that is none of the four shapes.
  [[nodiscard]] Sample read(const JsonLine& line) const;

 private:
  struct Draft;  // text pieces before they are tokens
  [[nodiscard]] Draft draft(const JsonLine& line) const;
  [[nodiscard]] const ChatTemplate& chat_template() const;
  [[nodiscard]] Sample encode(const Draft& draft, const std::string& where) const;

  DataConfig config_;
  const Tokenizer& tokenizer_;
  std::string model_;
  std::optional<SpanPattern> span_;
  mutable std::unique_ptr<const ChatTemplate> template_;
};

}  // namespace dfmoa::data
