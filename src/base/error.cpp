#include "src/base/error.h"

namespace dfmoa::base {

std::string describe(const std::exception& error) {
  std::string sentence = error.what();
  try {
    std::rethrow_if_nested(error);
  } catch (const std::exception& cause) {
    sentence += ": " + describe(cause);
  }
  return sentence;
}

ExitCode exit_code(const std::exception& error) {
  try {
    std::rethrow_if_nested(error);
  } catch (const std::exception& cause) {
    return exit_code(cause);
  }
  const auto* own = dynamic_cast<const Error*>(&error);
  return own != nullptr ? own->code() : ExitCode::machine;
}

}  // namespace dfmoa::base
