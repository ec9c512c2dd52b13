#include "launch/html_page.h"

#include "launch/html/resources.h"

namespace dfmoa::launch {
namespace {

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    switch (c) {
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '&':
        safe += "&amp;";
        break;
      case '"':
        safe += "&quot;";
        break;
      default:
        safe += c;
    }
  }
  return safe;
}

/// JSON that may stand inside a <script>: without any '<', nothing can end it or begin a comment.
std::string script_json(const nlohmann::json& data) {
  const auto text = data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string safe;
  for (const char c : text) {
    if (c == '<') {
      safe += "\\u003c";
    } else {
      safe += c;
    }
  }
  return safe;
}

}  // namespace

std::string html_page(const nlohmann::json& data) {
  const auto path = data["checkpoint"]["path"].get<std::string>();
  // The policy is a promise: the page loads nothing from anywhere.
  return std::string("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n") +
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
         "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
         "<meta name=\"color-scheme\" content=\"light dark\">\n<title>" +
         escaped(path) + "</title>\n<style>\n" + kPageStyle +
         "</style>\n</head>\n<body>\n<main id=\"page\"></main>\n"
         "<script type=\"application/json\" id=\"data\">" +
         script_json(data) + "</script>\n<script>\n" + kPageScript +
         "</script>\n</body>\n</html>\n";
}

}  // namespace dfmoa::launch
