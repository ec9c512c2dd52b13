// The subcommands. Each reads its arguments, prints results on stdout and returns an exit code.
#pragma once

#include "launch/options.h"
#include "src/base/error.h"

namespace dfmoa::launch {

base::ExitCode run_convert(const Arguments& arguments);
base::ExitCode run_init_model(const Arguments& arguments);
base::ExitCode run_train(const Arguments& arguments);
base::ExitCode run_eval(const Arguments& arguments);
base::ExitCode run_generate(const Arguments& arguments);
base::ExitCode run_inspect(const Arguments& arguments);
base::ExitCode run_plan(const Arguments& arguments);
base::ExitCode run_bench(const Arguments& arguments);
base::ExitCode run_configs(const Arguments& arguments);

}  // namespace dfmoa::launch
