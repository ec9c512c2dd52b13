// Multiple-choice items: a question, texts that may follow it, and the right one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "src/data/document.h"

namespace dfmoa::data {

struct ChoiceItem {
  Question question;
  std::vector<std::string> texts;  ///< two or more
  std::size_t answer = 0;          ///< index of the right one
  std::string task;                ///< the item's own, else the file's
  std::string where;               ///< "file:line", or "file:item N" counted from 1
};

struct ChoiceFile {
  std::string task;
  std::string path;
};

/// NAME=FILE or FILE, of which the task is then the file's name without its endings; for a name
/// that only says the part of a data set (train, test, dev, validation), that of its folder.
[[nodiscard]] ChoiceFile choice_file(const std::string& argument);

/// What read_choices understands, for --help.
[[nodiscard]] std::string choices_help();

/// The first `limit` items of a file (0: all), which is a JSON array or has an object a line
/// (also .zst). An item is one of
///   {"prompt", "choices": [..], "answer": index}, or {"instruction", "input"} for the prompt
///   {"instruction", "input", "output", "answer"} where the instruction names all answers behind
///     its last "Answer format:", divided by "/", and the output ends with the right one: a text
///     is the output with another name at its end
/// and may name its "task". Other keys are left alone.
/// Throws ContentError with the item's place for one that is neither, UsageError for a missing
/// file, ContentError for one without any item.
[[nodiscard]] std::vector<ChoiceItem> read_choices(const ChoiceFile& file, std::int64_t limit);

}  // namespace dfmoa::data
