#include <algorithm>
#include <filesystem>
#include <iostream>

#include "launch/commands.h"
#include "src/base/file.h"
#include "src/base/text.h"

namespace dfmoa::launch {
namespace {

/// The shipped files: beside the installed program, else where it was built.
std::filesystem::path configs_folder() {
  const auto beside =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "../share/dfmoa/configs";
  return std::filesystem::is_directory(beside) ? beside : std::filesystem::path(DFMOA_CONFIGS);
}

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const auto& entry : std::filesystem::directory_iterator(configs_folder())) {
    if (entry.path().extension() == ".ini") all.push_back(entry.path().filename().string());
  }
  std::sort(all.begin(), all.end());
  return all;
}

std::string content_of(const std::string& name) {
  const auto all = names();
  if (std::find(all.begin(), all.end(), name) == all.end()) {
    throw base::UsageError(base::text("there is no configuration ", name, "; the nearest is ",
                                      base::nearest(name, all)));
  }
  return base::read_file(configs_folder() / name);
}

}  // namespace

base::ExitCode run_configs(const Arguments& arguments) {
  Options options("configs", "list | show NAME | copy NAME TO: the shipped configurations.",
                  {"[ACTION]", "[NAME]", "[TO]"});
  if (!options.parse(arguments)) return base::ExitCode::done;
  const auto action = options.has("[ACTION]") ? options.text("[ACTION]") : "list";
  if (action == "list") {
    for (const auto& name : names()) std::cout << name << "\n";
  } else if (action == "show") {
    std::cout << content_of(options.text("[NAME]"));
  } else if (action == "copy" && options.has("[TO]")) {
    const auto content = content_of(options.text("[NAME]"));
    if (std::filesystem::exists(options.text("[TO]"))) {
      throw base::UsageError(options.text("[TO]") + " exists already, expected a new name");
    }
    base::write_file(options.text("[TO]"), content);
  } else {
    throw base::UsageError("configs: expected list, show NAME, or copy NAME TO");
  }
  return base::ExitCode::done;
}

}  // namespace dfmoa::launch
