// Saves a small state for other programs to read, and prints what must be found in it.
//   checkpoint_tool CHECKPOINTS STEP   one line of JSON per array
#include <iostream>
#include <nlohmann/json.hpp>

#include "checkpoints/writer.h"
#include "distributed/comm/local.h"
#include "src/base/error.h"
#include "tests/checkpoints/small_state.h"

namespace {

std::string hex_of(const std::vector<unsigned char>& bytes) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string text;
  for (const auto byte : bytes) {
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 15U];
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace dfmoa;
  if (argc != 3) {
    std::cerr << "usage: checkpoint_tool CHECKPOINTS STEP\n";
    return 2;
  }
  try {
    checkpoints::SmallState state(42);
    const auto comm = comm::make_single();
    checkpoints::save_checkpoint(argv[1], state.tree(), std::stoll(argv[2]), *comm, {});
    for (const auto& [name, entry] : state.tree().entries()) {
      const nlohmann::json line{{"name", name},
                                {"dtype", base::name_of(entry.dtype)},
                                {"shape", entry.shape},
                                {"bytes", hex_of(state.bytes().at(name))}};
      std::cout << line.dump() << '\n';
    }
  } catch (const std::exception& error) {
    std::cerr << base::describe(error) << '\n';
    return 1;
  }
  return 0;
}
