#include "src/data/sample.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/data/utf8.h"

namespace dfmoa::data {
namespace {

Document plain_document(std::string text) {
  Document document;
  document.pieces = {{text, false, false}};
  document.prompt = std::move(text);
  return document;
}

/// A question as text, and the blanks at its end, which begin what follows.
std::pair<std::string, std::string> plain_question(const Question& question) {
  auto text = question.text;
  if (!question.input.empty()) text += "\n\n" + question.input;
  if (question.is_instruction) text += '\n';
  // The mark keeps python_strip from the blanks at the beginning.
  const auto kept = python_strip("." + text).size() - 1;
  return {text.substr(0, kept), text.substr(kept)};
}

}  // namespace

SampleReader::SampleReader(const DataConfig& config, const Tokenizer& tokenizer, std::string model)
    : config_(config), tokenizer_(tokenizer), model_(std::move(model)) {
  if (!config.span.empty()) span_.emplace(config.span);
  // Tokens in front of a text stand for no byte. Those behind it are not wanted: every document
  // ends with the end token here, and a completion must follow its prompt at once.
  const auto probe = tokenizer_.encode_with_offsets("a", true);
  for (std::size_t i = 0; i < probe.ids.size(); ++i) {
    if (probe.offsets[i].first != probe.offsets[i].second) break;
    begin_ids_.push_back(probe.ids[i]);
  }
}

const ChatTemplate& SampleReader::chat_template() const {
  if (!template_) {
    template_ = std::make_unique<const ChatTemplate>(
        config_.chat_template == "auto" ? ChatTemplate::from_directory(model_) : named_template());
  }
  return *template_;
}

/// Throws ContentError where the tokenizer does not know how the template ends a turn: nothing
/// would tell a model trained with it to stop.
ChatTemplate SampleReader::named_template() const {
  const auto word = [&](std::optional<std::int32_t> id) {
    return id ? tokenizer_.bytes_of(*id) : std::string();
  };
  auto chat =
      ChatTemplate::named(config_.chat_template, {word(tokenizer_.bos()), word(tokenizer_.eos())});
  if (!tokenizer_.is_special(turn_end(chat))) {
    throw base::ContentError(base::text("data.template = ", config_.chat_template,
                                        ": the token with which it ends a turn is none of the "
                                        "special tokens of the tokenizer of ",
                                        model_));
  }
  return chat;
}

/// The last token of an answer.
std::int32_t SampleReader::turn_end(const ChatTemplate& chat) const {
  const std::vector<Message> turns{{"user", "a"}, {"assistant", "a"}};
  const auto rendered = chat.render(turns, /*add_generation_prompt=*/false);
  const auto [begin, end] = rendered.assistant.back();
  return tokenizer_.encode(rendered.text.substr(begin, end - begin)).back();
}

std::vector<std::int32_t> SampleReader::stop_ids() const {
  auto ids = tokenizer_.stop_ids();
  const auto chat = config_.chat_template == "auto" ? ChatTemplate::find(model_)
                                                    : std::optional(named_template());
  if (!chat) return ids;
  const auto end = turn_end(*chat);
  const bool is_new = std::find(ids.begin(), ids.end(), end) == ids.end();
  if (is_new && tokenizer_.is_special(end)) ids.push_back(end);
  return ids;
}

/// Appends the tokens of a piece that begins at byte `first_byte` of the document.
void SampleReader::append(const Document::Piece& piece, const Document& document,
                          std::size_t first_byte, Sample& sample) const {
  const auto encoding = tokenizer_.encode_with_offsets(piece.text, false);
  for (std::size_t i = 0; i < encoding.ids.size(); ++i) {
    const auto position = static_cast<std::int64_t>(sample.token.size());
    const auto [begin, end] = encoding.offsets[i];
    const auto& span = document.span;
    if (span && first_byte + end > span->first && first_byte + begin < span->second) {
      if (sample.span_end == 0) sample.span_begin = position;
      sample.span_end = position + 1;
    }
    sample.token.push_back(encoding.ids[i]);
    sample.trained.push_back(piece.is_trained ? 1 : 0);
  }
  if (!piece.ends) return;
  sample.token.push_back(*tokenizer_.eos());
  sample.trained.push_back(1);
}

Sample SampleReader::encode(const Document& document, const std::string& where) const {
  if (!tokenizer_.eos()) {
    throw base::ContentError(base::text(where, ": the tokenizer of ", model_,
                                        " has no end token, expected one to train"));
  }
  Sample sample;
  sample.where = where;
  sample.task = document.task;
  sample.completion = document.completion;
  if (!document.is_rendered) {
    sample.token = begin_ids_;
    sample.trained.assign(begin_ids_.size(), 0);
  }
  std::size_t first_byte = 0;
  for (const auto& piece : document.pieces) {
    append(piece, document, first_byte, sample);
    first_byte += piece.text.size();
  }
  const auto first = std::find(sample.trained.begin(), sample.trained.end(), 1);
  sample.prompt_tokens = first - sample.trained.begin();
  if (std::find(sample.trained.begin() + 1, sample.trained.end(), 1) == sample.trained.end()) {
    throw base::ContentError(base::text(where, ": none of ", sample.token.size(),
                                        " tokens can be learned, expected one after another"));
  }
  // A gate may read the prompt only; a token across its end belongs to it.
  sample.span_end = std::min(sample.span_end, sample.prompt_tokens);
  return sample;
}

Prompt SampleReader::prompt(const Question& question) const {
  return encode_prompt(prompt_document(question, chat_template()));
}

Prompt SampleReader::plain_prompt(const std::string& text) const {
  return encode_prompt(plain_document(text));
}

Prompt SampleReader::conversation(const std::vector<Message>& messages) const {
  return encode_prompt(conversation_document(messages, chat_template()));
}

bool SampleReader::has_template() const {
  return config_.chat_template != "auto" || ChatTemplate::is_in(model_);
}

std::vector<Sample> SampleReader::continuations(const Question& question, bool plain,
                                                const std::vector<std::string>& texts) const {
  std::string blanks;
  Document document;
  if (plain) {
    auto [text, behind] = plain_question(question);
    document = plain_document(std::move(text));
    blanks = std::move(behind);
  } else {
    document = prompt_document(question, chat_template());
  }
  const auto text = document.pieces[0].text;
  const auto asked = encode_prompt(std::move(document));
  if (asked.token.empty()) {
    throw base::ContentError("the question has no token, expected one before its choices");
  }
  const auto of_text = static_cast<std::ptrdiff_t>(tokenizer_.encode(text).size());
  std::vector<Sample> samples;
  for (const auto& choice : texts) {
    const auto whole = tokenizer_.encode(text + blanks + choice);
    if (static_cast<std::ptrdiff_t>(whole.size()) <= of_text) {
      throw base::ContentError(base::text("the text '", choice, "' adds no token to the ", of_text,
                                          " of its question, expected one or more"));
    }
    Sample sample;
    sample.token = asked.token;
    sample.token.insert(sample.token.end(), whole.begin() + of_text, whole.end());
    sample.prompt_tokens = static_cast<std::int64_t>(asked.token.size());
    sample.trained.assign(sample.token.size(), 1);
    std::fill_n(sample.trained.begin(), asked.token.size(), std::uint8_t{0});
    sample.span_begin = asked.span_begin;
    sample.span_end = asked.span_end;
    samples.push_back(std::move(sample));
  }
  return samples;
}

Prompt SampleReader::encode_prompt(Document document) const {
  if (!document.span && span_) document.span = span_->find(document.prompt);
  Sample sample;
  if (!document.is_rendered) {
    sample.token = begin_ids_;
    sample.trained.assign(begin_ids_.size(), 0);
  }
  std::size_t first_byte = 0;
  std::int64_t asked = -1;  // tokens before the first answer, where there is one
  for (const auto& piece : document.pieces) {
    if (piece.is_trained && asked < 0) asked = static_cast<std::int64_t>(sample.token.size());
    append(piece, document, first_byte, sample);
    first_byte += piece.text.size();
  }
  if (asked >= 0) {
    sample.span_end = std::min(sample.span_end, asked);
    if (sample.span_end <= sample.span_begin) sample.span_end = asked - 1;
  }
  return {std::move(sample.token), sample.span_begin, sample.span_end};
}

Sample SampleReader::read(const JsonLine& line) const {
  try {
    auto document = read_document(line, config_.prompts == "chat",
                                  [this]() -> const ChatTemplate& { return chat_template(); });
    if (!document.span && span_) document.span = span_->find(document.prompt);
    return encode(document, line.where);
  } catch (const base::ContentError& error) {
    const std::string what = error.what();  // tokenizer and template do not know the line
    if (what.starts_with(line.where)) throw;
    throw base::ContentError(line.where + ": " + what);
  }
}

}  // namespace dfmoa::data
