// The tokenizer for tests/parity/tokenizer_parity.py: one JSON value a line in, one a line out.
//
//   tokenizer_tool encode DIRECTORY         "text" -> {"ids", "offsets", "decoded"}
//   tokenizer_tool render DIRECTORY         {"messages", "add_generation_prompt"} -> {"text", ...}
//   tokenizer_tool jinja NAME               the Jinja text of a built-in chat template
//   tokenizer_tool speed DIRECTORY FILE     MB/s over the lines of a file, new words and known ones
#include <chrono>
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/data/chat_template.h"
#include "src/data/tokenizer.h"

namespace {

using nlohmann::json;

void encode(const std::string& directory) {
  const auto tokenizer = dfmoa::data::Tokenizer::from_directory(directory);
  for (std::string line; std::getline(std::cin, line);) {
    const auto text = json::parse(line).get<std::string>();
    const auto encoding = tokenizer.encode_with_offsets(text, true);
    if (encoding.ids != tokenizer.encode(text, true)) throw std::runtime_error("two ways differ");
    std::cout << json{{"ids", encoding.ids},
                      {"offsets", encoding.offsets},
                      {"decoded", tokenizer.decode(encoding.ids)}}
                     .dump()
              << '\n';
  }
}

void render(const std::string& directory) {
  const auto chat = dfmoa::data::ChatTemplate::from_directory(directory);
  for (std::string line; std::getline(std::cin, line);) {
    const json value = json::parse(line);
    std::vector<dfmoa::data::Message> messages;
    for (const json& message : value.at("messages")) {
      messages.push_back({message.at("role"), message.at("content")});
    }
    const auto rendered = chat.render(messages, value.at("add_generation_prompt").get<bool>());
    std::cout << json{{"text", rendered.text},
                      {"assistant", rendered.assistant},
                      {"jinja", chat.jinja()}}
                     .dump()
              << '\n';
  }
}

void speed(const std::string& directory, const std::string& file) {
  const std::string text = dfmoa::base::read_file(file);
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&](auto from) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
  };
  const auto tokenizer = dfmoa::data::Tokenizer::from_directory(directory);
  std::cout << "load " << seconds(start) * 1e3 << " ms\n";
  for (const char* pass : {"first pass", "second pass"}) {
    const auto from = std::chrono::steady_clock::now();
    std::size_t num_tokens = 0;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
      num_tokens += tokenizer.encode(std::string_view(text).substr(at, end - at)).size();
      at = end;
    }
    const double took = seconds(from);
    std::cout << pass << ' ' << static_cast<double>(text.size()) / 1e6 / took << " MB/s, "
              << static_cast<double>(num_tokens) / 1e6 / took << " M tokens/s\n";
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string verb = argc > 2 ? argv[1] : "";
    if (verb == "encode") {
      encode(argv[2]);
    } else if (verb == "render") {
      render(argv[2]);
    } else if (verb == "jinja") {
      std::cout << dfmoa::data::ChatTemplate::named(argv[2], {}).jinja();
    } else if (verb == "speed" && argc > 3) {
      speed(argv[2], argv[3]);
    } else {
      std::cerr
          << "usage: tokenizer_tool encode|render DIRECTORY | jinja NAME | speed DIRECTORY FILE\n";
      return 2;
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "tokenizer_tool: " << dfmoa::base::describe(error) << '\n';
    return static_cast<int>(dfmoa::base::exit_code(error));
  }
}
