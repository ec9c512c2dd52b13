#include "src/data/sample.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::data {

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
  Document document;
  document.prompt = text;
  document.pieces = {{text, false, false}};
  return encode_prompt(std::move(document));
}

Prompt SampleReader::encode_prompt(Document document) const {
  if (!document.span && span_) document.span = span_->find(document.prompt);
  Sample sample;
  if (!document.is_rendered) {
    sample.token = begin_ids_;
    sample.trained.assign(begin_ids_.size(), 0);
  }
  append(document.pieces[0], document, 0, sample);
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
