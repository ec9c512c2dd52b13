// dfmoa: the table of subcommands, and the one place where errors become sentences and exit codes.
#include <array>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>
#include <new>

#include "distributed/comm/mpi.h"
#include "launch/commands.h"
#include "launch/version.h"
#include "src/base/file.h"
#include "src/base/text.h"
#include "src/data/utf8.h"

namespace {

using namespace dfmoa;

struct Subcommand {
  const char* name;
  const char* purpose;
  base::ExitCode (*run)(const launch::Arguments&);
};

constexpr std::array<Subcommand, 9> kSubcommands{
    {{"convert", "a GGUF file or Hugging Face folder becomes a Hugging Face folder",
      launch::run_convert},
     {"init-model", "write a seeded random base model", launch::run_init_model},
     {"train", "train adapters on a base model", launch::run_train},
     {"eval", "cross-entropy, exact match, multiple choice and forgetting", launch::run_eval},
     {"generate", "text from a model or checkpoint, or a conversation", launch::run_generate},
     {"inspect", "what a checkpoint holds", launch::run_inspect},
     {"plan", "memory, traffic and time of a step on any number of processes", launch::run_plan},
     {"bench", "measure this program and the machine", launch::run_bench},
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

/// One line: what a library appends after it, such as a stack trace, helps nobody here. It may
/// quote bytes of a damaged file, which a terminal or a log reader could not take.
std::string sentence_of(const std::exception& error) {
  const auto text = base::describe(error);
  return data::with_replacement_characters(text.substr(0, text.find('\n')));
}

/// How long a failed process waits for the others to fail too, before it takes them for running.
constexpr std::chrono::seconds kPatience(5);

/// One sentence for one mistake: the first process speaks where all failed. A process that fails
/// alone must not leave the others waiting in a collective.
int leave(const comm::MpiEnvironment* mpi, base::ExitCode code, const std::string& sentence) {
  const bool together = mpi == nullptr || mpi->all_failed(kPatience);
  if (mpi == nullptr || !together || mpi->is_first_process()) {
    std::cerr << "dfmoa: " << sentence << std::endl;
  }
  if (!together) comm::abort_mpi(static_cast<int>(code));
  return static_cast<int>(code);
}

}  // namespace

int main(int argc, char** argv) {
  const launch::Arguments arguments(argv + 1, argv + argc);
  if (arguments.empty() || arguments[0] == "--help" || arguments[0] == "-h") {
    print_usage(arguments.empty() ? std::cerr : std::cout);
    return arguments.empty() ? static_cast<int>(base::ExitCode::usage) : 0;
  }
  std::unique_ptr<comm::MpiEnvironment> mpi;
  try {
    if (arguments[0] == "--version") {
      std::cout << launch::version_text();
      return 0;
    }
    if (comm::started_by_launcher()) mpi = std::make_unique<comm::MpiEnvironment>();
    const auto code = dispatch(arguments);
    // Results that nobody could receive are no success.
    if (!std::cout.flush() || std::fflush(stdout) != 0) base::throw_errno("printing the results");
    return static_cast<int>(code);
  } catch (const std::bad_alloc&) {
    return leave(mpi.get(), base::ExitCode::machine, "out of memory");
  } catch (const std::exception& error) {
    return leave(mpi.get(), base::exit_code(error), sentence_of(error));
  }
}
