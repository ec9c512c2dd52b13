#include "launch/chat.h"

#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "launch/token_printer.h"
#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/text.h"
#include "src/data/utf8.h"
#include "src/model/gate_means.h"

namespace dfmoa::launch {
namespace {

volatile std::sig_atomic_t interrupted = 0;

void note_interrupt(int) {
  interrupted = 1;
}

/// Notes interrupts as long as it lives. A read that one comes into ends: no SA_RESTART.
class InterruptGuard {
 public:
  InterruptGuard() {
    interrupted = 0;
    struct sigaction action {};
    action.sa_handler = note_interrupt;
    sigaction(SIGINT, &action, &before_);
  }
  ~InterruptGuard() { sigaction(SIGINT, &before_, nullptr); }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

 private:
  struct sigaction before_ {};
};

/// Lines of a descriptor as they come.
class LineReader {
 public:
  /// The next line without its end; nothing at the end of the file or after an interrupt.
  std::optional<std::string> next() {
    for (;;) {
      const auto end = waiting_.find('\n');
      if (end != std::string::npos) {
        auto line = waiting_.substr(0, end);
        waiting_.erase(0, end + 1);
        return line;
      }
      if (interrupted != 0) return std::nullopt;
      std::array<char, 4096> buffer{};
      const auto bytes = ::read(STDIN_FILENO, buffer.data(), buffer.size());
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes < 0) base::throw_errno("reading the next line");
      if (bytes == 0 && waiting_.empty()) return std::nullopt;
      if (bytes == 0) return std::exchange(waiting_, {});  // a last line without an end
      waiting_.append(buffer.data(), static_cast<std::size_t>(bytes));
    }
  }

 private:
  std::string waiting_;
};

/// What was said so far, and how the model is asked to go on.
class Conversation {
 public:
  Conversation(const data::SampleReader& reader, const ChatOptions& options)
      : reader_(reader), options_(options) {
    reset();
  }

  void reset() {
    text_.clear();
    messages_.clear();
    if (!options_.system.empty()) messages_.push_back({"system", options_.system});
  }

  /// The tokens to go on from after one more line.
  [[nodiscard]] data::Prompt ask(const std::string& line) {
    text_before_ = text_.size();
    if (options_.is_plain) {
      text_ += text_.empty() ? line : "\n" + line;
      return reader_.plain_prompt(text_);
    }
    messages_.push_back({"user", line});
    return reader_.conversation(messages_);
  }

  /// As if the last line had not been asked.
  void take_back() {
    text_.resize(text_before_);
    if (!options_.is_plain) messages_.pop_back();
  }

  void answer(const std::string& text) {
    if (options_.is_plain) {
      text_ += text;
    } else {
      messages_.push_back({"assistant", text});
    }
  }

 private:
  const data::SampleReader& reader_;
  const ChatOptions& options_;
  std::string text_;
  std::size_t text_before_ = 0;
  std::vector<data::Message> messages_;
};

/// Answers one prompt, aloud unless an object is printed in the end.
class Answerer {
 public:
  Answerer(train::OpenedModel& opened, const ChatOptions& options)
      : opened_(opened), options_(options), stop_ids_(opened.reader->stop_ids()) {}

  /// Positions of the model behind a prompt.
  [[nodiscard]] std::int64_t room(const data::Prompt& prompt) const {
    return opened_.model->base().architecture.max_positions -
           static_cast<std::int64_t>(prompt.token.size());
  }

  std::string answer(const std::string& line, const data::Prompt& prompt) {
    auto sampling = options_.sampling;
    sampling.tokens = std::min(sampling.tokens, room(prompt));
    const model::Generator generator(*opened_.model, sampling, stop_ids_,
                                     opened_.tokenizer->vocabulary());
    const model::Generator::Prompts prompts{prompt.token};
    const model::Generator::Spans spans{{prompt.span_begin, prompt.span_end}};
    generator.check(prompts);
    model::override_gates(*opened_.model, options_.gates, [&](model::GateSink& sink) {
      (void)opened_.model->hidden(opened_.model->pack_sequences(prompts, {0}, spans), nullptr,
                                  &sink);
    });
    TokenPrinter printer(*opened_.tokenizer, options_.show_gates);
    const auto say = [&](std::size_t, std::int32_t token, std::span<const float> gates) {
      if (!options_.json) printer.print(token, gates);
      if (interrupted == 0) return true;
      interrupted = 0;  // it has ended this answer; one that comes later ends the conversation
      return false;
    };
    const auto result = generator.run(prompts, spans, say, options_.show_gates, number_++)[0];
    if (options_.json) {
      std::cout << result_json(line, prompt.token, result, *opened_.tokenizer, options_.show_gates)
                << std::endl;
    } else {
      printer.end();
    }
    return opened_.tokenizer->decode(result.tokens, /*skip_special=*/true);
  }

 private:
  train::OpenedModel& opened_;
  const ChatOptions& options_;
  std::vector<std::int32_t> stop_ids_;
  std::uint64_t number_ = 0;  // of the next answer: no two draw alike
};

}  // namespace

void chat(train::OpenedModel& opened, const ChatOptions& options, base::Logger& log) {
  const InterruptGuard guard;
  const bool is_terminal = ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1;
  Conversation conversation(*opened.reader, options);
  Answerer answerer(opened, options);
  LineReader lines;
  for (;;) {
    if (is_terminal) std::cerr << "> " << std::flush;
    const auto line = lines.next();
    if (!line) break;
    if (base::trim(*line) == "/reset") {
      conversation.reset();
      continue;
    }
    if (base::trim(*line).empty()) continue;
    data::check_utf8(*line, "the line that was read");
    const auto prompt = conversation.ask(*line);
    if (answerer.room(prompt) < 1) {
      log.warn(base::text("the conversation would have ", prompt.token.size(),
                          " tokens and the model has ",
                          opened.model->base().architecture.max_positions,
                          " positions: this line is not answered; /reset forgets what was said"));
      conversation.take_back();
      continue;
    }
    conversation.answer(answerer.answer(*line, prompt));
  }
  if (is_terminal) std::cerr << std::endl;
}

std::string result_json(const std::string& prompt, const std::vector<std::int32_t>& prompt_tokens,
                        const model::Generator::Result& result, const data::Tokenizer& tokenizer,
                        bool with_gates) {
  nlohmann::json json{{"prompt", prompt},
                      {"prompt_tokens", prompt_tokens},
                      {"tokens", result.tokens},
                      {"text", tokenizer.decode(result.tokens, /*skip_special=*/true)}};
  if (with_gates) json["gates"] = result.gates;
  return json.dump();
}

}  // namespace dfmoa::launch
