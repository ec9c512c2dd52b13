// Typed errors: one sentence each, with the exit code of the program that stops because of them.
#pragma once

#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

namespace dfmoa::base {

/// What a process returns to the shell; scripts and batch systems rely on these numbers.
enum class ExitCode : int {
  done = 0,
  machine = 1,  ///< I/O, disk, permission, lock held, memory, non-finite loss
  usage = 2,    ///< what the user typed: option, configuration key, missing path
  content = 3,  ///< malformed model, data or checkpoint; a base or configuration that differs
  stopped = 85  ///< stopped on request, with a checkpoint
};

/// Base of every error thrown on purpose. The sentence says what was being done, to what, with
/// which numbers, and what was expected.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& sentence) : std::runtime_error(sentence), code_(code) {}
  [[nodiscard]] ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

class MachineError : public Error {
 public:
  explicit MachineError(const std::string& sentence) : Error(ExitCode::machine, sentence) {}
};

class UsageError : public Error {
 public:
  explicit UsageError(const std::string& sentence) : Error(ExitCode::usage, sentence) {}
};

class ContentError : public Error {
 public:
  explicit ContentError(const std::string& sentence) : Error(ExitCode::content, sentence) {}
};

/// Tensors that do not fit together: a defect of the caller, never of the user's input.
class ShapeError : public Error {
 public:
  explicit ShapeError(const std::string& sentence) : Error(ExitCode::machine, sentence) {}
};

/// A door (configuration section, step, collective, checkpoint file) that an error came through.
class Context : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Runs `body`; whatever it throws is rethrown nested in a Context that says `doing`.
template <class Body>
decltype(auto) with_context(const std::string& doing, Body&& body) {
  try {
    return std::forward<Body>(body)();
  } catch (...) {
    std::throw_with_nested(Context(doing));
  }
}

/// The chain of an exception from the outermost door to the cause, "doing: doing: cause".
[[nodiscard]] std::string describe(const std::exception& error);

/// The exit code of the innermost Error in the chain; ExitCode::machine for a foreign exception.
[[nodiscard]] ExitCode exit_code(const std::exception& error);

}  // namespace dfmoa::base
