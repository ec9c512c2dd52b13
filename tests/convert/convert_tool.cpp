// Drives the conversions for tests/parity/convert_parity.py:
//   convert_tool convert SOURCE OUT [KEY=VALUE ...]
//   convert_tool init OUT [KEY=VALUE ...]
#include <cstdio>
#include <string>

#include "checkpoints/convert/convert.h"
#include "checkpoints/convert/init_model.h"
#include "src/base/error.h"

namespace {

using namespace dfmoa;

template <class Options>
void assign(Options& options, int count, char** words) {
  auto fields = base::FieldList::of(options);
  for (int i = 0; i < count; ++i) {
    const std::string word = words[i];
    const auto equals = word.find('=');
    if (equals == std::string::npos) throw base::UsageError("expected KEY=VALUE, not " + word);
    fields.assign("convert_tool", word.substr(0, equals), word.substr(equals + 1));
  }
}

void run(int count, char** words) {
  const std::string verb = count > 1 ? words[1] : "";
  if (verb == "convert" && count >= 4) {
    checkpoints::ConvertOptions options;
    assign(options, count - 4, words + 4);
    checkpoints::convert(words[2], words[3], options);
  } else if (verb == "init" && count >= 3) {
    checkpoints::InitModelOptions options;
    assign(options, count - 3, words + 3);
    checkpoints::init_model(words[2], options);
  } else {
    throw base::UsageError("usage: convert_tool convert SOURCE OUT | init OUT [KEY=VALUE ...]");
  }
}

}  // namespace

int main(int count, char** words) {
  try {
    run(count, words);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "convert_tool: %s\n", base::describe(error).c_str());
    return static_cast<int>(base::exit_code(error));
  }
}
