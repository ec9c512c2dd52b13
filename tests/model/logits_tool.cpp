// Logits of token ids, for the comparison with transformers:
//   logits_tool MODEL fp32|fp64 IDS OUT
// IDS holds little-endian int64, OUT gets the logits of every position as fp64.
#include <cstdio>
#include <cstring>
#include <exception>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/model/transformer.h"

namespace {

void run(const std::string& model_path, bool fp64, const std::string& ids, const std::string& out) {
  dfmoa::model::ModelConfig config;
  config.path = model_path;
  const dfmoa::model::Transformer model(
      dfmoa::model::load_base_model(config, fp64 ? at::kDouble : at::kFloat));
  const auto bytes = dfmoa::base::read_file(ids);
  std::vector<std::int64_t> token(bytes.size() / sizeof(std::int64_t));
  std::memcpy(token.data(), bytes.data(), bytes.size());
  const auto rows = model.pack_sequences({{token.begin(), token.end()}}, {0});
  const auto every = at::arange(static_cast<std::int64_t>(token.size()), at::kLong);
  const auto logits = model.logits(model.hidden(rows), every).to(at::kDouble).contiguous();
  dfmoa::base::write_file(out,
                          {static_cast<const char*>(logits.const_data_ptr()), logits.nbytes()});
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  try {
    run(argv[1], std::strcmp(argv[2], "fp64") == 0, argv[3], argv[4]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "logits_tool: %s\n", dfmoa::base::describe(error).c_str());
    return 1;
  }
  return 0;
}
