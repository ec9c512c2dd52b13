#include "src/base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "src/base/error.h"

namespace dfmoa::base {

struct Logger::Sinks {
  spdlog::logger logger{"dfmoa", std::make_shared<spdlog::sinks::stderr_sink_mt>()};
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

Logger::~Logger() = default;

void Logger::debug(const std::string& sentence) {
  sinks_->logger.debug("{}", sentence);
}
void Logger::info(const std::string& sentence) {
  sinks_->logger.info("{}", sentence);
}
void Logger::warn(const std::string& sentence) {
  sinks_->logger.warn("warning: {}", sentence);
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
