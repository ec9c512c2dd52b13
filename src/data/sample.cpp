#include "src/data/sample.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/formats/json.h"

namespace dfmoa::data {
namespace {

using nlohmann::json;
using ByteRange = std::pair<std::size_t, std::size_t>;

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw base::ContentError(where + ": " + what);
}

std::string text_of(const json& object, const char* key, const std::string& where) {
  const auto& value = object.at(key);
  if (!value.is_string()) {
    refuse(where, base::text(key, " is ", value.type_name(), ", expected a string"));
  }
  return value.get<std::string>();
}

std::vector<Message> messages_of(const json& object, const std::string& where) {
  const auto& list = object.at("messages");
  if (!list.is_array() || list.empty()) refuse(where, "messages: expected a list of turns");
  std::vector<Message> messages;
  for (const auto& turn : list) {
    if (!turn.is_object() || !turn.contains("role") || !turn.contains("content")) {
      refuse(where, "messages: expected objects with role and content");
    }
    messages.push_back({text_of(turn, "role", where), text_of(turn, "content", where)});
  }
  return messages;
}

std::optional<ByteRange> given_span(const json& object, const std::string& where) {
  if (!object.contains("span")) return std::nullopt;
  const auto& span = object["span"];
  if (!span.is_array() || span.size() != 2 || !span[0].is_number_unsigned() ||
      !span[1].is_number_unsigned() || span[0] > span[1]) {
    refuse(where,
           base::text("span = ", span.dump(), ": expected [begin, end) bytes of the prompt"));
  }
  return ByteRange(span[0].get<std::size_t>(), span[1].get<std::size_t>());
}

}  // namespace

/// A document as text: pieces in order, each trained or not.
struct SampleReader::Draft {
  struct Piece {
    std::string text;
    bool trained = false;
    bool ends = false;  ///< the end token follows
  };
  std::vector<Piece> pieces;
  bool rendered = false;  ///< by a chat template: the begin token is in the text already
  std::string prompt;     ///< text before the first trained piece
  std::optional<ByteRange> span;
  std::string task;
  std::string completion;
};

SampleReader::SampleReader(const DataConfig& config, const Tokenizer& tokenizer, std::string model)
    : config_(config), tokenizer_(tokenizer), model_(std::move(model)) {
  if (!config.span.empty()) span_.emplace(config.span);
}

SampleReader::~SampleReader() = default;

const ChatTemplate& SampleReader::chat_template() const {
  if (!template_) {
    const auto word = [&](std::optional<std::int32_t> id) {
      return id ? tokenizer_.bytes_of(*id) : std::string();
    };
    template_ = std::make_unique<const ChatTemplate>(
        config_.chat_template == "auto"
            ? ChatTemplate::from_directory(model_)
            : ChatTemplate::named(config_.chat_template,
                                  {word(tokenizer_.bos()), word(tokenizer_.eos())}));
  }
  return *template_;
}

SampleReader::Draft SampleReader::draft(const JsonLine& line) const {
  const auto object = formats::parse_json_text(line.text, line.where);
  if (!object.is_object()) refuse(line.where, "expected a JSON object");
  Draft draft;
  if (object.contains("task")) draft.task = text_of(object, "task", line.where);
  draft.span = given_span(object, line.where);
  std::vector<Message> messages;
  if (object.contains("prompt") && object.contains("completion")) {
    draft.prompt = text_of(object, "prompt", line.where);
    draft.completion = text_of(object, "completion", line.where);
    if (draft.completion.empty()) refuse(line.where, "the completion is empty");
    draft.pieces = {{draft.prompt, false, false}, {draft.completion, true, true}};
  } else if (object.contains("text")) {
    draft.pieces = {{text_of(object, "text", line.where), true, true}};
    if (draft.pieces[0].text.empty()) refuse(line.where, "the text is empty");
  } else if (object.contains("instruction") && object.contains("output")) {
    const auto instruction = text_of(object, "instruction", line.where);
    const auto input = object.contains("input") ? text_of(object, "input", line.where) : "";
    messages = {{"user", input.empty() ? instruction : instruction + "\n\n" + input},
                {"assistant", text_of(object, "output", line.where)}};
  } else if (object.contains("messages")) {
    messages = messages_of(object, line.where);
  } else {
    std::vector<std::string> keys;
    for (const auto& [key, value] : object.items()) keys.push_back(key);
    refuse(line.where,
           base::text("keys ", base::join(keys, ", "),
                      ": expected text; prompt, completion; instruction, output; or messages"));
  }
  if (messages.empty()) return draft;
  const auto rendered = chat_template().render(messages, false);
  if (rendered.assistant.empty()) refuse(line.where, "no assistant turn, expected one to learn");
  draft.rendered = true;
  std::size_t end = 0;
  for (const auto& [first, last] : rendered.assistant) {
    draft.pieces.push_back({rendered.text.substr(end, first - end), false, false});
    draft.pieces.push_back({rendered.text.substr(first, last - first), true, false});
    end = last;
  }
  if (end < rendered.text.size()) draft.pieces.push_back({rendered.text.substr(end), false, false});
  draft.prompt = draft.pieces[0].text;
  if (rendered.assistant.size() == 1) draft.completion = messages.back().content;
  // Without a mark: the system message, or alpaca's instruction.
  const auto marked = object.contains("instruction") ? text_of(object, "instruction", line.where)
                      : messages.front().role == "system" ? messages.front().content
                                                          : std::string();
  const auto found = marked.empty() ? std::string::npos : draft.prompt.find(marked);
  if (!draft.span && found != std::string::npos)
    draft.span = ByteRange(found, found + marked.size());
  return draft;
}

Sample SampleReader::encode(const Draft& draft, const std::string& where) const {
  Sample sample;
  sample.where = where;
  sample.task = draft.task;
  sample.completion = draft.completion;
  auto span = draft.span;
  if (!span && span_) span = span_->find(draft.prompt);
  std::size_t begin = 0;  // byte of the piece inside the document
  for (std::size_t p = 0; p < draft.pieces.size(); ++p) {
    const auto& piece = draft.pieces[p];
    const auto encoding = tokenizer_.encode_with_offsets(piece.text, p == 0 && !draft.rendered);
    for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
      const auto position = static_cast<std::int64_t>(sample.token.size());
      const auto [from, to] = encoding.offsets[i];
      if (span && begin + to > span->first && begin + from < span->second) {
        if (sample.span_end == 0) sample.span_begin = position;
        sample.span_end = position + 1;
      }
      sample.token.push_back(encoding.ids[i]);
      sample.trained.push_back(piece.trained ? 1 : 0);
    }
    if (piece.ends) {
      if (!tokenizer_.eos()) refuse(where, "the tokenizer has no end token to train");
      sample.token.push_back(*tokenizer_.eos());
      sample.trained.push_back(1);
    }
    begin += piece.text.size();
  }
  const auto first = std::find(sample.trained.begin(), sample.trained.end(), 1);
  sample.prompt_tokens = first - sample.trained.begin();
  // A gate may read the prompt only: what a span marks behind it is cut off.
  sample.span_end = std::min(sample.span_end, sample.prompt_tokens);
  return sample;
}

Sample SampleReader::read(const JsonLine& line) const {
  try {
    return encode(draft(line), line.where);
  } catch (const base::ContentError& error) {
    const std::string what = error.what();  // errors of the tokenizer do not know the line
    if (what.find(line.where) != std::string::npos) throw;
    throw base::ContentError(line.where + ": " + what);
  }
}

}  // namespace dfmoa::data
