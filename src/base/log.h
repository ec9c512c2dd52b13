// The program's voice: plain sentences on stderr and in the run's log file.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

namespace dfmoa::base {

/// Passed by reference to whoever speaks; there is no global logger.
class Logger {
 public:
  /// `speaks` is false on every process but the first: it then logs warnings only.
  explicit Logger(bool speaks = true, bool verbose = false);
  ~Logger();
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  /// All throw MachineError if the file of add_file cannot be written, as on a full disk.
  void debug(const std::string& sentence);
  void info(const std::string& sentence);
  void warn(const std::string& sentence);
  /// A sentence that the next one replaces on a terminal, cut to its width; elsewhere like info.
  void progress(const std::string& sentence);

  /// Also appends every line, with time and level, to `path`.
  /// Throws MachineError if the file cannot be opened.
  void add_file(const std::filesystem::path& path);

 private:
  struct Sinks;
  std::unique_ptr<Sinks> sinks_;
};

}  // namespace dfmoa::base
