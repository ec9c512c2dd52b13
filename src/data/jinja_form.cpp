#include "src/data/jinja_form.h"

#include "src/base/error.h"
#include "src/base/text.h"

namespace dfmoa::data {
namespace {

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

[[noreturn]] void refuse(std::size_t at, std::string_view what) {
  throw base::ContentError(
      base::text("chat template: ", what, " that begins at character ", at, " is not closed"));
}

/// The end of the string literal that begins at `at`, behind its quote.
std::size_t literal_end(std::string_view code, std::size_t at) {
  for (std::size_t i = at + 1; i < code.size(); ++i) {
    if (code[i] == '\\') {
      ++i;
    } else if (code[i] == code[at]) {
      return i + 1;
    }
  }
  refuse(at, "a string");
}

/// The text that a literal with its quotes stands for.
std::string literal_text(std::string_view literal) {
  std::string text;
  for (std::size_t i = 1; i + 1 < literal.size(); ++i) {
    char c = literal[i];
    if (c == '\\' && i + 2 < literal.size()) {
      c = literal[++i];
      if (c == 'n') c = '\n';
      if (c == 't') c = '\t';
      if (c == 'r') c = '\r';
    }
    text += c;
  }
  return text;
}

/// Code without needless blanks, strings in single quotes, x.y as x['y'] for role and content.
std::string tidy_code(std::string_view code) {
  std::string out;
  for (std::size_t at = 0; at < code.size();) {
    const char c = code[at];
    if (c == '\'' || c == '"') {
      const std::size_t end = literal_end(code, at);
      out += '\'' + literal_text(code.substr(at, end - at)) + '\'';
      at = end;
    } else if (is_blank(c)) {
      while (at < code.size() && is_blank(code[at])) ++at;
      // A blank matters only between two names.
      if (!out.empty() && at < code.size() && is_name(out.back()) && is_name(code[at])) out += ' ';
    } else if (c == '.' && (code.substr(at + 1, 4) == "role" && !is_name(code[at + 5]))) {
      out += "['role']";
      at += 5;
    } else if (c == '.' && (code.substr(at + 1, 7) == "content" && !is_name(code[at + 8]))) {
      out += "['content']";
      at += 8;
    } else {
      out += c;
      ++at;
    }
  }
  return out;
}

class FormWriter {
 public:
  void print(std::string_view text) { printed_ += text; }

  void item(char kind, std::string_view content) {
    flush();
    form_ += kind;
    form_ += content;
    form_ += kItemEnd;
  }

  /// An expression that is a sum prints its terms one after the other.
  void expression(std::string_view code) {
    std::size_t depth = 0;
    std::size_t begin = 0;
    for (std::size_t at = 0; at <= code.size();) {
      if (at == code.size() || (code[at] == '+' && depth == 0)) {
        term(code.substr(begin, at - begin));
        begin = ++at;
      } else if (code[at] == '\'' || code[at] == '"') {
        at = literal_end(code, at);
      } else {
        if (code[at] == '(' || code[at] == '[') ++depth;
        if ((code[at] == ')' || code[at] == ']') && depth > 0) --depth;
        ++at;
      }
    }
  }

  std::string take() {
    flush();
    return std::move(form_);
  }

 private:
  void flush() {
    if (printed_.empty()) return;
    form_ += '=' + printed_ + kItemEnd;
    printed_.clear();
  }

  void term(std::string_view code) {
    while (!code.empty() && is_blank(code.front())) code.remove_prefix(1);
    while (!code.empty() && is_blank(code.back())) code.remove_suffix(1);
    const bool is_literal =
        !code.empty() && (code[0] == '\'' || code[0] == '"') && literal_end(code, 0) == code.size();
    if (is_literal) {
      print(literal_text(code));
    } else {
      item('$', tidy_code(code));
    }
  }

  std::string form_;
  std::string printed_;
};

/// Where "{%", "{{" or "{#" begins at or after `from`.
std::size_t next_tag(std::string_view source, std::size_t from) {
  for (std::size_t at = source.find('{', from); at != std::string_view::npos;
       at = source.find('{', at + 1)) {
    const char kind = at + 1 < source.size() ? source[at + 1] : '\0';
    if (kind == '%' || kind == '{' || kind == '#') return at;
  }
  return source.size();
}

/// Where the closing "%}" of the tag at `at` begins; strings in it may hold anything.
std::size_t tag_end(std::string_view source, std::size_t at) {
  const char kind = source[at + 1];
  const std::string close = {kind == '{' ? '}' : kind, '}'};
  for (std::size_t i = at + 2; i + 1 < source.size();) {
    if (kind != '#' && (source[i] == '\'' || source[i] == '"')) {
      i = literal_end(source, i);
    } else if (source.substr(i, 2) == close) {
      return i;
    } else {
      ++i;
    }
  }
  refuse(at, "a tag");
}

/// lstrip_blocks: blanks between the line's start and a block tag are not printed.
std::string_view without_indent(std::string_view text, bool at_line_start) {
  const std::size_t last = text.find_last_not_of(" \t");
  if (last == std::string_view::npos) return at_line_start ? std::string_view() : text;
  return text[last] == '\n' ? text.substr(0, last + 1) : text;
}

std::string_view without_end_blanks(std::string_view text) {
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace

std::string jinja_form(std::string_view source) {
  if (source.ends_with('\n')) source.remove_suffix(1);  // Jinja drops one line end at the end
  FormWriter out;
  std::size_t at = 0;
  while (at < source.size()) {
    const std::size_t tag = next_tag(source, at);
    std::string_view text = source.substr(at, tag - at);
    if (tag == source.size()) {
      out.print(text);
      break;
    }
    const char kind = source[tag + 1];
    const std::size_t end = tag_end(source, tag);
    std::string_view code = source.substr(tag + 2, end - tag - 2);
    if (code.starts_with('-')) {
      text = without_end_blanks(text);
      code.remove_prefix(1);
    } else if (code.starts_with('+')) {
      code.remove_prefix(1);  // keeps the blanks before the tag
    } else if (kind != '{') {
      text = without_indent(text, at == 0 || source[at - 1] == '\n');
    }
    const bool strips_behind = code.ends_with('-');
    if (strips_behind) code.remove_suffix(1);
    out.print(text);
    if (kind == '%') out.item('%', tidy_code(code));
    if (kind == '{') out.expression(code);
    at = end + 2;
    if (strips_behind) {
      while (at < source.size() && is_blank(source[at])) ++at;
    } else if (kind != '{' && at < source.size() && source[at] == '\n') {
      ++at;  // trim_blocks: the line end behind a block tag is not printed
    }
  }
  return out.take();
}

}  // namespace dfmoa::data
