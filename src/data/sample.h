// From a JSON line to tokens with a loss mask.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/data/chat_template.h"
#include "src/data/config.h"
#include "src/data/document.h"
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

/// What text is generated from: the tokens before an answer, and which of them are the instruction.
struct Prompt {
  std::vector<std::int32_t> token;
  std::int64_t span_begin = 0;  ///< empty range: none marked
  std::int64_t span_end = 0;
};

/// Turns lines into samples.
///
/// Prompt and completion are encoded apart: then a prompt has the same tokens here and when text is
/// generated from it, whatever follows. Encoded together, a merge across the border would put a
/// part of the answer into the last token of the prompt.
class SampleReader {
 public:
  /// The tokenizer must outlive the reader. `model` is the folder whose chat template `auto` reads;
  /// it is read when the first line comes that needs it.
  /// Throws UsageError for a data.span that is no pattern with a group.
  SampleReader(const DataConfig& config, const Tokenizer& tokenizer, std::string model);

  /// Throws ContentError "file:line: ..." for a line that is none of the four shapes, that has no
  /// token to learn, or that the tokenizer or the template refuses.
  [[nodiscard]] Sample read(const JsonLine& line) const;

  /// The tokens that a line with this question would have before its answer, in the chat template;
  /// or those of a text as it stands.
  /// Throws ContentError where tokenizer or template refuse it.
  [[nodiscard]] Prompt prompt(const Question& question) const;
  [[nodiscard]] Prompt plain_prompt(const std::string& text) const;

  /// The tokens of a conversation before its next answer. Gates of scope span read what they read
  /// of such a line in training: the system's message, else all before the first answer.
  /// Throws as prompt.
  [[nodiscard]] Prompt conversation(const std::vector<Message>& messages) const;

  /// Whether prompts can be put into a chat template: one is named, or the model has one.
  [[nodiscard]] bool has_template() const;

  /// A question followed by each of `texts`, whose tokens bear loss; no end token. They are the
  /// tokens of question and text encoded together, behind as many as the question alone has: a
  /// merge across the border goes to the question, as in lm-eval. `plain`: without a template; the
  /// input follows an empty line, an instruction ends with a line end, and blanks at the end of
  /// the question count as the text's.
  /// Throws ContentError where the question has no token or a text adds none, and as prompt.
  [[nodiscard]] std::vector<Sample> continuations(const Question& question, bool plain,
                                                  const std::vector<std::string>& texts) const;

  /// Tokens after which an answer has ended: the model's, and that with which the chat template
  /// ends a turn. A base model that was trained on chats knows only the latter.
  [[nodiscard]] std::vector<std::int32_t> stop_ids() const;

  [[nodiscard]] const DataConfig& config() const { return config_; }

 private:
  [[nodiscard]] const ChatTemplate& chat_template() const;
  [[nodiscard]] ChatTemplate named_template() const;
  [[nodiscard]] Prompt encode_prompt(Document document) const;
  [[nodiscard]] std::int32_t turn_end(const ChatTemplate& chat) const;
  [[nodiscard]] Sample encode(const Document& document, const std::string& where) const;
  void append(const Document::Piece& piece, const Document& document, std::size_t first_byte,
              Sample& sample) const;

  DataConfig config_;
  const Tokenizer& tokenizer_;
  std::string model_;
  std::optional<SpanPattern> span_;
  std::vector<std::int32_t> begin_ids_;  ///< what the tokenizer puts before a text
  mutable std::unique_ptr<const ChatTemplate> template_;
};

}  // namespace dfmoa::data
