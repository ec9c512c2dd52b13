// dfmoa: the table of subcommands, and the one place where errors become sentences and exit codes.
#include <array>
#include <iostream>
#include <memory>
#include <new>

#include "distributed/comm/mpi.h"
#include "launch/commands.h"
#include "launch/version.h"
#include "src/base/text.h"

namespace {

using namespace dfmoa;

struct Subcommand {
  const char* name;
  const char* purpose;
  base::ExitCode (*run)(const launch::Arguments&);
};

constexpr std::array<Subcommand, 7> kSubcommands{
    {{"convert", "a GGUF file or Hugging Face folder becomes a Hugging Face folder",
      launch::run_convert},
     {"init-model", "write a seeded random base model", launch::run_init_model},
     {"train", "train adapters on a base model", launch::run_train},
     {"eval", "cross-entropy and exact match per task", launch::run_eval},
     {"generate", "text from a model or checkpoint", launch::run_generate},
     {"inspect", "what a checkpoint holds", launch::run_inspect},
     {"configs", "list, show and copy the shipped configurations", launch::run_configs}}};

int print_usage(std::ostream& out) {
  out << "usage: dfmoa SUBCOMMAND ... (dfmoa SUBCOMMAND --help)\n";
  for (const auto& subcommand : kSubcommands) {
    out << "  " << subcommand.name << std::string(12 - std::string(subcommand.name).size(), ' ')
        << subcommand.purpose << "\n";
  }
  return 0;
}

base::ExitCode dispatch(const launch::Arguments& arguments) {
  std::vector<std::string> names;
  for (const auto& subcommand : kSubcommands) {
    if (arguments[0] == subcommand.name) {
      return subcommand.run({arguments.begin() + 1, arguments.end()});
    }
    names.emplace_back(subcommand.name);
  }
  throw base::UsageError(base::text("there is no subcommand ", arguments[0], "; the nearest is ",
                                    base::nearest(arguments[0], names)));
}

/// One line: what a library appends after it, such as a stack trace, helps nobody here.
std::string sentence_of(const std::exception& error) {
  const auto text = base::describe(error);
  return text.substr(0, text.find('\n'));
}

}  // namespace

int main(int argc, char** argv) {
  const launch::Arguments arguments(argv + 1, argv + argc);
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h") {
    print_usage(arguments.empty() ? std::cerr : std::cout);
    return arguments.empty() ? static_cast<int>(base::ExitCode::usage) : 0;
  }
  std::unique_ptr<comm::MpiEnvironment> mpi;
  base::ExitCode code = base::ExitCode::machine;
  try {
    if (arguments[0] == "--version") {
      std::cout << launch::version_text();
      return 0;
    }
    if (comm::started_by_launcher()) mpi = std::make_unique<comm::MpiEnvironment>();
    code = dispatch(arguments);
    if (code == base::ExitCode::done || code == base::ExitCode::stopped) {
      return static_cast<int>(code);
    }
  } catch (const std::bad_alloc&) {
    std::cerr << "dfmoa: out of memory\n";
  } catch (const std::exception& error) {
    std::cerr << "dfmoa: " << sentence_of(error) << std::endl;
    code = base::exit_code(error);
  }
  // A process that fails alone must not leave the others waiting in a collective.
  if (mpi) comm::abort_mpi(static_cast<int>(code));
  return static_cast<int>(code);
}
