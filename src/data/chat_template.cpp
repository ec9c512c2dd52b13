#include "src/data/chat_template.h"

#include <array>
#include <optional>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"
#include "src/data/jinja_form.h"
#include "src/data/utf8.h"
#include "src/formats/json.h"

namespace dfmoa::data {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

/// Stands in a built-in for the default system message, which differs from model to model.
constexpr std::string_view kSystemPlace = "DEFAULT_SYSTEM_MESSAGE";

struct BuiltIn {
  std::string_view name;
  std::string_view jinja;  ///< the first of a name is the one written
};

constexpr std::string_view kChatml =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
    "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\\n' }}{% endif %}";
constexpr std::string_view kChatmlSystem =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nDEFAULT_SYSTEM_MESSAGE<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
constexpr std::string_view kLlama3 =
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + "
    "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";
constexpr std::string_view kLlama3Short =
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";
constexpr std::string_view kAlpaca =
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '### Response:\\n' + message['content'] + eos_token + '\\n\\n' }}"
    "{% else %}{{ message['content'] + '\\n\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}";
constexpr std::string_view kPlain =
    "{% for message in messages %}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}";

constexpr std::array kBuiltIns = {BuiltIn{"chatml", kChatml}, BuiltIn{"llama3", kLlama3},
                                  BuiltIn{"alpaca", kAlpaca}, BuiltIn{"plain", kPlain},
                                  BuiltIn{"llama3", kLlama3Short}};
constexpr std::size_t kNames = 4;  // the first four have different names

/// If `form` is `built_in` with some text in the system message's place, that text.
std::optional<std::string> system_message_of(const std::string& form, const std::string& built_in) {
  const std::size_t place = built_in.find(kSystemPlace);
  const std::string_view before = std::string_view(built_in).substr(0, place);
  const std::string_view behind = std::string_view(built_in).substr(place + kSystemPlace.size());
  if (form.size() < before.size() + behind.size()) return {};
  if (!form.starts_with(before) || !form.ends_with(behind)) return {};
  std::string message = form.substr(before.size(), form.size() - before.size() - behind.size());
  if (message.find(kItemEnd) != std::string::npos) return {};
  return message;
}

std::string literal_of(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '\'') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

std::string token_text(const json& config, const char* key) {
  if (!config.contains(key)) return {};
  const json& value = config.at(key);
  if (value.is_string()) return value.get<std::string>();
  if (value.is_object() && value.contains("content")) return value.at("content").get<std::string>();
  return {};
}

/// The template of tokenizer_config.json; empty if there is none.
std::string template_of(const json& config) {
  if (!config.contains("chat_template")) return {};
  const json& value = config.at("chat_template");
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return {};
  for (const json& one : value) {
    if (one.value("name", std::string()) == "default") return one.value("template", std::string());
  }
  return {};
}

/// What a model's folder says of its template; no text where there is none.
struct StoredTemplate {
  std::string jinja;
  TemplateTokens tokens;
  std::string where;
};

StoredTemplate read_stored(const fs::path& directory) {
  const fs::path config_path = directory / "tokenizer_config.json";
  const fs::path jinja_path = directory / "chat_template.jinja";
  const json config = fs::exists(config_path) ? formats::parse_json(config_path) : json::object();
  TemplateTokens tokens{token_text(config, "bos_token"), token_text(config, "eos_token")};
  if (fs::exists(jinja_path)) {
    return {base::read_file(jinja_path), std::move(tokens), jinja_path.string()};
  }
  return {template_of(config), std::move(tokens), config_path.string()};
}

/// Appends an assistant's content with its end-of-turn token and remembers where it stands.
void append_turn(Rendered& out, const Message& message, std::string_view content,
                 std::string_view end) {
  const std::size_t begin = out.text.size();
  out.text += content;
  out.text += end;
  if (message.role == "assistant") out.assistant.emplace_back(begin, out.text.size());
}

void render_chatml(Rendered& out, const Message& message) {
  out.text += "<|im_start|>" + message.role + '\n';
  append_turn(out, message, message.content, "<|im_end|>");
  out.text += '\n';
}

void render_llama3(Rendered& out, const Message& message) {
  out.text += "<|start_header_id|>" + message.role + "<|end_header_id|>\n\n";
  append_turn(out, message, python_strip(message.content), "<|eot_id|>");
}

void render_alpaca(Rendered& out, const Message& message, const std::string& eos) {
  const bool is_answer = message.role == "assistant";
  if (message.role == "user") out.text += "### Instruction:\n";
  if (is_answer) out.text += "### Response:\n";
  append_turn(out, message, message.content, is_answer ? eos : std::string());
  out.text += "\n\n";
}

}  // namespace

std::vector<std::string> ChatTemplate::names() {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < kNames; ++i) names.emplace_back(kBuiltIns[i].name);
  return names;
}

ChatTemplate ChatTemplate::named(std::string_view name, TemplateTokens tokens) {
  for (const BuiltIn& built_in : kBuiltIns) {
    if (built_in.name == name) return {std::string(name), {}, std::move(tokens)};
  }
  throw base::UsageError(base::text("there is no chat template '", name, "'; did you mean '",
                                    base::nearest(std::string(name), names()),
                                    "' (built-ins: ", base::join(names(), ", "), ")"));
}

std::optional<ChatTemplate> ChatTemplate::match(std::string_view jinja, TemplateTokens tokens) {
  const std::string form = jinja_form(jinja);
  for (const BuiltIn& built_in : kBuiltIns) {
    if (form == jinja_form(built_in.jinja)) {
      return ChatTemplate(std::string(built_in.name), {}, std::move(tokens));
    }
  }
  if (auto system = system_message_of(form, jinja_form(kChatmlSystem))) {
    return ChatTemplate("chatml", std::move(*system), std::move(tokens));
  }
  return std::nullopt;
}

ChatTemplate ChatTemplate::recognised(std::string_view jinja, TemplateTokens tokens,
                                      const std::string& where) {
  if (auto found = match(jinja, std::move(tokens))) return std::move(*found);
  throw base::ContentError(base::text(where, ": the chat template prints as none of the built-ins ",
                                      base::join(names(), ", "), "; it begins with '",
                                      jinja.substr(0, 80), "'"));
}

ChatTemplate ChatTemplate::from_directory(const fs::path& directory) {
  auto stored = read_stored(directory);
  if (stored.jinja.empty()) {
    throw base::ContentError(base::text("'", directory.string(),
                                        "' has no chat template, expected chat_template.jinja or "
                                        "chat_template in tokenizer_config.json; built-ins are ",
                                        base::join(names(), ", ")));
  }
  return recognised(stored.jinja, std::move(stored.tokens), stored.where);
}

std::optional<ChatTemplate> ChatTemplate::find(const fs::path& directory) {
  auto stored = read_stored(directory);
  if (stored.jinja.empty()) return std::nullopt;
  return match(stored.jinja, std::move(stored.tokens));
}

bool ChatTemplate::is_in(const fs::path& directory) {
  return !read_stored(directory).jinja.empty();
}

Rendered ChatTemplate::render(std::span<const Message> messages, bool add_generation_prompt) const {
  if (messages.empty()) throw base::ContentError("chat template: there is no message to render");
  Rendered out;
  if (name_ == "chatml") {
    if (!default_system_.empty() && messages[0].role != "system") {
      render_chatml(out, {"system", default_system_});
    }
    for (const Message& message : messages) render_chatml(out, message);
    if (add_generation_prompt) out.text += "<|im_start|>assistant\n";
  } else if (name_ == "llama3") {
    out.text = tokens_.bos;
    for (const Message& message : messages) render_llama3(out, message);
    if (add_generation_prompt) out.text += "<|start_header_id|>assistant<|end_header_id|>\n\n";
  } else if (name_ == "alpaca") {
    for (const Message& message : messages) render_alpaca(out, message, tokens_.eos);
    if (add_generation_prompt) out.text += "### Response:\n";
  } else {
    for (const Message& message : messages) {
      const bool is_answer = message.role == "assistant";
      append_turn(out, message, message.content, is_answer ? tokens_.eos : std::string());
    }
  }
  return out;
}

std::string ChatTemplate::jinja() const {
  if (!default_system_.empty()) {
    std::string jinja(kChatmlSystem);
    return jinja.replace(jinja.find(kSystemPlace), kSystemPlace.size(),
                         literal_of(default_system_));
  }
  for (const BuiltIn& built_in : kBuiltIns) {
    if (built_in.name == name_) return std::string(built_in.jinja);
  }
  throw base::ContentError(base::text("chat template '", name_, "' is no built-in"));
}

}  // namespace dfmoa::data
