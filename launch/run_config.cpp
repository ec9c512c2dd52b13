#include "launch/run_config.h"

#include "src/base/error.h"
#include "src/base/text.h"
#include "src/train/ini.h"

namespace dfmoa::launch {

void list_settings(Options& options) {
  namespace po = boost::program_options;
  options.add()("set", po::value<std::vector<std::string>>()->composing(),
                "section.key=value, repeatable");
}

train::RunConfig read_run_config(const std::filesystem::path& file, const Options& options) {
  train::RunConfig config;
  train::read_ini(file, config);
  for (const auto& setting : options.list("set")) {
    const auto equals = setting.find('=');
    if (equals == std::string::npos) {
      throw base::UsageError("--set " + setting + ": expected section.key=value");
    }
    config.set(base::trim(setting.substr(0, equals)), base::trim(setting.substr(equals + 1)));
  }
  return config;
}

void refuse_without_adapters(const train::RunConfig& config) {
  if (!config.plan.adapters.empty() || config.plan.dfa.is_on()) return;
  throw base::UsageError(
      "the configuration has no [adapter.NAME] and no gate in [dfa]: nothing "
      "would be trained");
}

}  // namespace dfmoa::launch
