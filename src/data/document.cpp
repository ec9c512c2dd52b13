#include "src/data/document.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/data/utf8.h"
#include "src/formats/json.h"

namespace dfmoa::data {
namespace {

using nlohmann::json;
using ByteRange = std::pair<std::size_t, std::size_t>;

/// A line and its place, for errors.
struct Line {
  const json& object;
  const std::string& where;

  [[noreturn]] void refuse(const std::string& what) const {
    throw base::ContentError(where + ": " + what);
  }
  /// A null is what a table with one column for each key writes where there is nothing.
  [[nodiscard]] bool has(const char* key) const {
    return object.contains(key) && !object.at(key).is_null();
  }
  [[nodiscard]] std::string text(const json& holder, const char* key) const {
    const auto& value = holder.at(key);
    if (!value.is_string()) {
      refuse(base::text('"', key, "\" is ", value.type_name(), ", expected a string"));
    }
    return value.get<std::string>();
  }
  [[nodiscard]] std::string text(const char* key) const { return text(object, key); }
};

std::vector<Message> messages_of(const Line& line) {
  const auto& list = line.object.at("messages");
  if (!list.is_array() || list.empty()) {
    line.refuse("\"messages\": expected a list of at least one turn");
  }
  std::vector<Message> messages;
  for (const auto& turn : list) {
    if (!turn.is_object() || !turn.contains("role") || !turn.contains("content")) {
      line.refuse(base::text("turn ", messages.size() + 1,
                             " of \"messages\": expected an object with \"role\" and \"content\""));
    }
    messages.push_back({line.text(turn, "role"), line.text(turn, "content")});
  }
  return messages;
}

std::optional<ByteRange> span_of(const Line& line, std::size_t prompt_bytes) {
  if (!line.has("span")) return std::nullopt;
  const auto& span = line.object["span"];
  if (!span.is_array() || span.size() != 2 || !span[0].is_number_unsigned() ||
      !span[1].is_number_unsigned()) {
    line.refuse(base::text("\"span\" = ", span.dump(), ": expected [begin, end) bytes"));
  }
  const ByteRange range(span[0].get<std::size_t>(), span[1].get<std::size_t>());
  if (range.first >= range.second || range.second > prompt_bytes) {
    line.refuse(base::text("\"span\" = ", span.dump(), ": expected begin < end <= ", prompt_bytes,
                           ", the bytes of the rendered prompt"));
  }
  return range;
}

/// Where `marked`, which begins message `index`, stands in the rendered text: a stand-in is
/// rendered in its place and looked for, because the words themselves may occur elsewhere.
std::optional<ByteRange> place_of(const std::string& marked, std::vector<Message> messages,
                                  std::size_t index, const ChatTemplate& chat_template,
                                  const std::string& rendered) {
  const std::string stand_in = "\x01span\x01";
  messages[index].content = stand_in;
  const auto found = chat_template.render(messages, false).text.find(stand_in);
  const auto words = python_strip(marked);  // templates may trim
  if (found == std::string::npos || words.empty()) return std::nullopt;
  const auto begin = rendered.find(words, found);
  if (begin == std::string::npos || begin > found + marked.size()) return std::nullopt;
  return ByteRange(begin, begin + words.size());
}

/// Cuts a rendered text before and behind every answer; what follows the last one is returned.
std::string add_pieces(const Rendered& rendered, Document& document) {
  std::size_t done = 0;
  for (const auto& [begin, end] : rendered.assistant) {
    document.pieces.push_back({rendered.text.substr(done, begin - done), false, false});
    document.pieces.push_back({rendered.text.substr(begin, end - begin), true, false});
    done = end;
  }
  return rendered.text.substr(done);
}

void render(const Line& line, const std::vector<Message>& messages,
            const ChatTemplate& chat_template, Document& document) {
  for (const auto& message : messages) {
    if (message.role == "assistant" && message.content.empty()) {
      line.refuse("an assistant turn is empty, expected an answer to learn");
    }
  }
  const auto rendered = chat_template.render(messages, false);
  if (rendered.assistant.empty()) line.refuse("no assistant turn, expected one to learn");
  document.is_rendered = true;
  // What a template prints behind the last answer (chatml's line end) is never produced: dropped.
  (void)add_pieces(rendered, document);
  document.prompt = document.pieces.front().text;
  if (rendered.assistant.size() == 1 && messages.back().role == "assistant") {
    document.completion = messages.back().content;
  }
}

void read_chat(const Line& line, const ChatTemplate& chat_template, Document& document) {
  const auto messages = messages_of(line);
  render(line, messages, chat_template, document);
  document.span = span_of(line, document.prompt.size());
  if (!document.span && messages.front().role == "system") {
    document.span = place_of(messages.front().content, messages, 0, chat_template, document.prompt);
  }
}

/// An instruction with its input as a user's turn.
Message turn_of(const std::string& instruction, const std::string& input,
                const ChatTemplate& chat_template) {
  // Alpaca's own template gives the input a heading of its own.
  const std::string heading = chat_template.name() == "alpaca" ? "\n\n### Input:\n" : "\n\n";
  return {"user", input.empty() ? instruction : instruction + heading + input};
}

void read_alpaca(const Line& line, const ChatTemplate& chat_template, Document& document) {
  const auto instruction = line.text("instruction");
  const auto input = line.has("input") ? line.text("input") : std::string();
  if (line.text("output").empty()) line.refuse("\"output\" is empty, expected an answer to learn");
  const std::vector<Message> messages = {turn_of(instruction, input, chat_template),
                                         {"assistant", line.text("output")}};
  render(line, messages, chat_template, document);
  document.span = span_of(line, document.prompt.size());
  if (!document.span) {
    document.span = place_of(instruction, messages, 0, chat_template, document.prompt);
  }
}

void read_completion(const Line& line, bool as_chat, const TemplateSource& chat_template,
                     Document& document) {
  const auto prompt = line.text("prompt");
  const auto completion = line.text("completion");
  if (completion.empty()) line.refuse("\"completion\" is empty, expected an answer to learn");
  if (as_chat) {
    render(line, {{"user", prompt}, {"assistant", completion}}, chat_template(), document);
  } else {
    document.prompt = prompt;
    document.completion = completion;
    document.pieces = {{prompt, false, false}, {completion, true, true}};
  }
  document.span = span_of(line, document.prompt.size());
}

void read_text(const Line& line, Document& document) {
  document.pieces = {{line.text("text"), true, true}};
  if (document.pieces[0].text.empty())
    line.refuse("\"text\" is empty, expected something to learn");
  document.span = span_of(line, 0);
}

}  // namespace

Document prompt_document(const Question& question, const ChatTemplate& chat_template) {
  std::vector<Message> messages;
  if (!question.system.empty()) messages.push_back({"system", question.system});
  messages.push_back(turn_of(question.text, question.input, chat_template));
  Document document;
  document.is_rendered = true;
  document.prompt = chat_template.render(messages, /*add_generation_prompt=*/true).text;
  document.pieces = {{document.prompt, false, false}};
  if (question.is_instruction || !question.system.empty()) {
    document.span = place_of(question.system.empty() ? question.text : question.system, messages,
                             /*index=*/0, chat_template, document.prompt);
  }
  return document;
}

Document conversation_document(const std::vector<Message>& messages,
                               const ChatTemplate& chat_template) {
  Document document;
  document.is_rendered = true;
  auto question = add_pieces(chat_template.render(messages, true), document);
  document.pieces.push_back({std::move(question), false, false});
  document.prompt = document.pieces.front().text;
  if (messages.front().role == "system") {
    document.span = place_of(messages.front().content, messages, 0, chat_template, document.prompt);
  }
  return document;
}

Document read_document(const JsonLine& json_line, bool prompts_as_chat,
                       const TemplateSource& chat_template) {
  const auto object = formats::parse_json_text(json_line.text, json_line.where);
  const Line line{object, json_line.where};
  if (!object.is_object()) {
    line.refuse(base::text("expected a JSON object, found ", object.type_name()));
  }
  Document document;
  if (line.has("task")) document.task = line.text("task");
  if (line.has("messages")) {
    read_chat(line, chat_template(), document);
  } else if (line.has("prompt") && line.has("completion")) {
    read_completion(line, prompts_as_chat, chat_template, document);
  } else if (line.has("instruction") && line.has("output")) {
    read_alpaca(line, chat_template(), document);
  } else if (line.has("text")) {
    read_text(line, document);
  } else {
    std::vector<std::string> keys;
    for (const auto& [key, value] : object.items()) {
      keys.push_back(value.is_null() ? key + " = null" : key);
    }
    line.refuse(base::text("keys (", base::join(keys, ", "),
                           "): expected messages; prompt and completion; instruction and output; "
                           "or text"));
  }
  return document;
}

}  // namespace dfmoa::data
