#include "src/data/choices.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/data/jsonl.h"
#include "src/data/text_file.h"
#include "src/formats/json.h"

namespace dfmoa::data {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::string_view kFormatMark = "Answer format:";

/// One item's object and its place, for errors.
struct RawItem {
  const json& object;
  const std::string& where;

  [[noreturn]] void refuse(const std::string& what) const {
    throw base::ContentError(where + ": " + what);
  }
  [[nodiscard]] bool has(const char* key) const {
    return object.contains(key) && !object.at(key).is_null();
  }
  [[nodiscard]] std::string text(const char* key) const {
    const auto& value = object.at(key);
    if (!value.is_string()) {
      refuse(base::text('"', key, "\" is ", value.type_name(), ", expected a string"));
    }
    return value.get<std::string>();
  }
};

Question instruction_of(const RawItem& item) {
  return {item.text("instruction"), item.has("input") ? item.text("input") : "", "",
          /*is_instruction=*/true};
}

void read_listed(const RawItem& item, ChoiceItem& choice) {
  choice.question =
      item.has("prompt") ? Question{item.text("prompt"), "", "", false} : instruction_of(item);
  const auto& list = item.object.at("choices");
  const auto is_text = [](const json& one) {
    return one.is_string() && !one.get_ref<const std::string&>().empty();
  };
  if (!list.is_array() || list.size() < 2 || !std::all_of(list.begin(), list.end(), is_text)) {
    item.refuse("\"choices\": expected a list of two or more texts, none of them empty");
  }
  choice.texts = list.get<std::vector<std::string>>();
  const auto& answer = item.object.at("answer");
  if (!answer.is_number_unsigned() || answer.get<std::size_t>() >= list.size()) {
    item.refuse(base::text("\"answer\" = ", answer.dump(),
                           ": expected the number of a choice, 0 to ", list.size() - 1));
  }
  choice.answer = answer.get<std::size_t>();
}

/// The names behind the last mark, up to the end of its line.
std::vector<std::string> names_in(const RawItem& item, const std::string& instruction) {
  const auto mark = instruction.rfind(kFormatMark);
  if (mark == std::string::npos) {
    item.refuse(base::text("\"instruction\": no '", kFormatMark,
                           "' in it, expected one that names the answers (a/b/c), or \"choices\""));
  }
  const auto begin = mark + kFormatMark.size();
  const auto end = std::min(instruction.find('\n', begin), instruction.size());
  auto names = base::split(instruction.substr(begin, end - begin), '/');
  if (names.size() < 2) {
    item.refuse(base::text("\"instruction\": ", names.size(), " names behind '", kFormatMark,
                           "', expected two or more (a/b/c)"));
  }
  return names;
}

void read_named(const RawItem& item, ChoiceItem& choice) {
  choice.question = instruction_of(item);
  const auto names = names_in(item, choice.question.text);
  const auto output = item.text("output");
  const auto answer = item.text("answer");
  const auto found = std::find(names.begin(), names.end(), answer);
  if (found == names.end()) {
    item.refuse(
        base::text("\"answer\" is '", answer, "', expected one of ", base::join(names, ", ")));
  }
  if (!output.ends_with(answer)) {
    item.refuse(base::text("\"output\" is '", output, "', expected it to end with the answer '",
                           answer, "'"));
  }
  choice.answer = static_cast<std::size_t>(found - names.begin());
  const auto before = output.substr(0, output.size() - answer.size());
  for (const auto& name : names) choice.texts.push_back(before + name);
}

ChoiceItem read_item(const json& object, const std::string& where, const std::string& task) {
  const RawItem item{object, where};
  if (!object.is_object()) {
    item.refuse(base::text("expected a JSON object, found ", object.type_name()));
  }
  ChoiceItem choice;
  choice.where = where;
  choice.task = item.has("task") ? item.text("task") : task;
  const bool is_asked = item.has("prompt") || item.has("instruction");
  if (is_asked && item.has("choices") && item.has("answer")) {
    read_listed(item, choice);
  } else if (item.has("instruction") && item.has("output") && item.has("answer")) {
    read_named(item, choice);
  } else {
    std::vector<std::string> keys;
    for (const auto& [key, value] : object.items()) keys.push_back(key);
    item.refuse(base::text("keys (", base::join(keys, ", "),
                           "): expected prompt, choices and answer; or instruction, output and "
                           "answer"));
  }
  return choice;
}

bool begins_an_array(const TextFile& file) {
  std::array<char, 256> buffer{};
  const std::string_view begin(buffer.data(), file.read(0, buffer));
  const auto first = begin.find_first_not_of(" \t\r\n\xef\xbb\xbf");  // or a byte order mark
  return first != std::string_view::npos && begin[first] == '[';
}

}  // namespace

ChoiceFile choice_file(const std::string& argument) {
  const auto equals = argument.find('=');
  if (equals != std::string::npos && equals > 0 && !fs::exists(argument)) {
    return {argument.substr(0, equals), argument.substr(equals + 1)};
  }
  const auto path = fs::absolute(argument).lexically_normal();
  auto name = path.filename().string();
  name = name.substr(0, std::max<std::size_t>(name.find('.'), 1));
  constexpr std::array kParts{"train", "test", "dev", "validation"};
  const bool says_part = std::find(kParts.begin(), kParts.end(), name) != kParts.end();
  const auto folder = path.parent_path().filename().string();
  return {says_part && !folder.empty() ? folder : name, argument};
}

std::string choices_help() {
  return "\nItems of --choices, a JSON array or an object a line:\n"
         "  {\"prompt\", \"choices\": [..], \"answer\": INDEX}\n"
         "      each choice is scored as it stands behind the prompt; \"instruction\" and "
         "\"input\"\n"
         "      may stand for the prompt\n"
         "  {\"instruction\", \"input\", \"output\", \"answer\"}\n"
         "      the instruction ends in \"Answer format: a/b/c\", the output in the answer: what "
         "is\n"
         "      scored is the output with a, b or c at its end\n"
         "and \"task\" where an item has another one than its file. The question is put into the\n"
         "model's chat template. Without one, or with --plain, it stands alone: an instruction "
         "ends\n"
         "with a line end, and blanks at its end count as the choice's.\n";
}

std::vector<ChoiceItem> read_choices(const ChoiceFile& file, std::int64_t limit) {
  std::vector<ChoiceItem> items;
  const auto wanted = [&](std::int64_t count) {
    return limit > 0 ? std::min(limit, count) : count;
  };
  const TextFile text(file.path, "");
  if (begins_an_array(text)) {
    const auto array = formats::parse_json_text(text.text(), file.path);
    if (array.empty()) throw base::ContentError(file.path + " holds no item, expected one or more");
    for (std::int64_t i = 0; i < wanted(static_cast<std::int64_t>(array.size())); ++i) {
      items.push_back(read_item(array[static_cast<std::size_t>(i)],
                                base::text(file.path, ":item ", i + 1), file.task));
    }
    return items;
  }
  const JsonlFiles lines({file.path});
  for (std::int64_t i = 0; i < wanted(lines.count()); ++i) {
    const auto line = lines.line(i);
    items.push_back(
        read_item(formats::parse_json_text(line.text, line.where), line.where, file.task));
  }
  return items;
}

}  // namespace dfmoa::data
