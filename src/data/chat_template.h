// Chat templates: named built-ins, recognised by the content of a model's Jinja text.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dfmoa::data {

struct Message {
  std::string role;  ///< system, user, assistant
  std::string content;
};

struct Rendered {
  std::string text;
  /// Bytes [begin, end) that are trained: an assistant turn's content and its end-of-turn token.
  std::vector<std::pair<std::size_t, std::size_t>> assistant;
};

/// The strings of the tokenizer that templates print.
struct TemplateTokens {
  std::string bos;
  std::string eos;
};

class ChatTemplate {
 public:
  /// chatml, llama3, alpaca, plain.
  [[nodiscard]] static std::vector<std::string> names();

  /// Throws UsageError, naming the nearest, unless `name` is one of names().
  static ChatTemplate named(std::string_view name, TemplateTokens tokens);

  /// Recognises the Jinja text of a model; `where` names it in errors.
  /// Throws ContentError, saying which built-ins exist, when it prints as none of them.
  static ChatTemplate recognised(std::string_view jinja, TemplateTokens tokens,
                                 const std::string& where);

  /// chat_template.jinja, else chat_template of tokenizer_config.json (of several the one named
  /// "default"), with the begin and end token of that file.
  /// Throws ContentError when there is none or it is not recognised.
  static ChatTemplate from_directory(const std::filesystem::path& directory);

  /// The same, or nothing where from_directory would have nothing to recognise.
  static std::optional<ChatTemplate> find(const std::filesystem::path& directory);

  /// Whether a model's folder has a template, recognised or not.
  [[nodiscard]] static bool is_in(const std::filesystem::path& directory);

  /// The turns in order; with `add_generation_prompt` also what precedes an assistant's answer.
  /// The begin token is in the text where the template prints it: encode without add_special.
  /// Throws ContentError when there is no message.
  [[nodiscard]] Rendered render(std::span<const Message> messages,
                                bool add_generation_prompt) const;

  [[nodiscard]] const std::string& name() const { return name_; }

  /// What chatml says when the first message is not the system's; empty: nothing.
  [[nodiscard]] const std::string& default_system() const { return default_system_; }

  /// A Jinja text that prints the same, for a model directory that is written.
  [[nodiscard]] std::string jinja() const;

 private:
  /// The built-in that prints as this Jinja text.
  static std::optional<ChatTemplate> match(std::string_view jinja, TemplateTokens tokens);

  ChatTemplate(std::string name, std::string default_system, TemplateTokens tokens)
      : name_(std::move(name)),
        default_system_(std::move(default_system)),
        tokens_(std::move(tokens)) {}

  std::string name_;
  std::string default_system_;
  TemplateTokens tokens_;
};

}  // namespace dfmoa::data
