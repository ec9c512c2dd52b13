// One JSON line as text: which parts are trained, and which part of the prompt is the instruction.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/data/chat_template.h"
#include "src/data/jsonl.h"

namespace dfmoa::data {

struct Document {
  struct Piece {
    std::string text;
    bool is_trained = false;
    bool ends = false;  ///< the end token follows and is trained
  };
  std::vector<Piece> pieces;
  bool is_rendered = false;  ///< by a chat template, which prints the begin token itself
  std::string prompt;        ///< text before the first trained piece
  std::optional<std::pair<std::size_t, std::size_t>> span;  ///< bytes of the prompt
  std::string task;
  std::string completion;  ///< expected answer; empty for {"text"} and chats of several answers
};

/// Called only when a line needs it: a model without a chat template may train on plain text.
using TemplateSource = std::function<const ChatTemplate&()>;

/// What a model is asked: the text of a user's turn, or an instruction with its input.
struct Question {
  std::string text;
  std::string input;
  std::string system;           ///< the system's message before it; empty: none
  bool is_instruction = false;  ///< as in {"instruction"}: it is what a gate of scope span reads
};

/// The prompt that a line with this question has, up to where its answer begins.
[[nodiscard]] Document prompt_document(const Question& question, const ChatTemplate& chat_template);

/// A conversation up to where its next answer begins, in the pieces in which it is trained.
/// Throws ContentError where there is no message.
[[nodiscard]] Document conversation_document(const std::vector<Message>& messages,
                                             const ChatTemplate& chat_template);

/// Understands the four shapes, looked for in this order: {"messages"}, {"prompt","completion"},
/// {"instruction","input","output"}, {"text"}; other keys are left alone, because data sets carry
/// their own. With `prompts_as_chat` a prompt and its completion are turns of the template.
/// Throws ContentError "file:line: ..." for a broken line, a line of no shape (with the keys seen),
/// a value of a wrong type, an empty completion, or a span outside the prompt.
[[nodiscard]] Document read_document(const JsonLine& line, bool prompts_as_chat,
                                     const TemplateSource& chat_template);

}  // namespace dfmoa::data
