#include "src/base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "src/base/error.h"

namespace dfmoa::base {

namespace {

bool stderr_is_terminal() {
  const char* kind = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) == 1 && kind != nullptr && std::string(kind) != "dumb";
}

/// 0 where the terminal does not say.
std::size_t terminal_width() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

}  // namespace

struct Logger::Sinks {
  spdlog::logger logger{"dfmoa", std::make_shared<spdlog::sinks::stderr_sink_mt>()};
  bool is_terminal = stderr_is_terminal();
  bool line_is_open = false;

  /// What was drawn last stays above what follows.
  void close_line() {
    if (line_is_open) std::fputs("\n", stderr);
    line_is_open = false;
  }

  void redraw(const std::string& sentence) {
    const auto width = terminal_width();
    const auto shown = width > 1 && sentence.size() >= width ? width - 1 : sentence.size();
    std::fprintf(stderr, "\r\033[K%.*s", static_cast<int>(shown), sentence.c_str());
    std::fflush(stderr);
    line_is_open = true;
  }
};

Logger::Logger(bool speaks, bool verbose) : sinks_(std::make_unique<Sinks>()) {
  auto& logger = sinks_->logger;
  logger.set_level(!speaks   ? spdlog::level::warn
                   : verbose ? spdlog::level::debug
                             : spdlog::level::info);
  logger.sinks().front()->set_pattern("%v");
  logger.flush_on(spdlog::level::info);
  // By default spdlog prints its own complaint and goes on.
  logger.set_error_handler(
      [](const std::string& words) { throw MachineError("writing the log: " + words); });
}

Logger::~Logger() {
  sinks_->close_line();
}

void Logger::debug(const std::string& sentence) {
  if (sinks_->logger.should_log(spdlog::level::debug)) sinks_->close_line();
  sinks_->logger.debug("{}", sentence);
}
void Logger::info(const std::string& sentence) {
  sinks_->close_line();
  sinks_->logger.info("{}", sentence);
}
void Logger::warn(const std::string& sentence) {
  sinks_->close_line();
  sinks_->logger.warn("warning: {}", sentence);
}

void Logger::progress(const std::string& sentence) {
  auto& logger = sinks_->logger;
  if (!logger.should_log(spdlog::level::info)) return;
  if (!sinks_->is_terminal) {
    logger.info("{}", sentence);
    return;
  }
  sinks_->redraw(sentence);
  auto& terminal = *logger.sinks().front();  // the log file still gets every line
  terminal.set_level(spdlog::level::off);
  logger.info("{}", sentence);
  terminal.set_level(spdlog::level::trace);
}

void Logger::add_file(const std::filesystem::path& path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path.string());
    sink->set_pattern("%Y-%m-%dT%H:%M:%S%z %l %v");
    sinks_->logger.sinks().push_back(std::move(sink));
  } catch (const spdlog::spdlog_ex& error) {
    throw MachineError("opening the log file: " + std::string(error.what()));
  }
}

}  // namespace dfmoa::base
