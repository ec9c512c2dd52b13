#include "distributed/comm/start_check.h"

#include <gtest/gtest.h>

#include <map>

#include "distributed/comm/mpi.h"
#include "src/base/text.h"

namespace dfmoa::comm {
namespace {

/// Exit code and words of what `body` throws; 0 and nothing if it throws nothing.
std::pair<int, std::string> refusal(const std::function<void()>& body) {
  try {
    body();
  } catch (const std::exception& error) {
    return {static_cast<int>(base::exit_code(error)), base::describe(error)};
  }
  return {0, {}};
}

TEST(RequireAlike, equal_lines_pass_also_without_any) {
  const auto comm = make_mpi_world();
  for (const std::string lines : {"", "a = 1\nb = 2\n"}) {
    EXPECT_EQ(refusal([&] {
                require_alike(*comm, {"the plan", lines, base::ExitCode::usage, "look there"});
              }).first,
              0);
  }
}

TEST(RequireAlike, every_process_says_who_differs_in_which_line) {
  const auto comm = make_mpi_world();
  for (int odd = 1; odd < comm->num_processes(); ++odd) {
    const bool is_odd = comm->process() == odd;
    const std::string lines = base::text("a = 1\nb = ", is_odd ? 3 : 2, "\nc = 1\n");
    const auto said = refusal([&] {
      require_alike(*comm, {"the plan", lines, base::ExitCode::content, "look there"});
    });
    EXPECT_EQ(said, std::pair(3, base::text("the plan differs between processes: process ", odd,
                                            " has b = 3, process 0 has b = 2: look there")));
  }
}

TEST(RequireAlike, a_line_too_few_is_a_difference) {
  const auto comm = make_mpi_world();
  if (comm->num_processes() == 1) return;  // nobody differs
  const auto said = refusal([&] {
    require_alike(*comm, {"the plan", comm->process() == 0 ? "a\nb\n" : "a\n",
                          base::ExitCode::usage, "look there"});
  });
  EXPECT_EQ(said.first, 2);
  EXPECT_NE(said.second.find("process 1 has nothing more, process 0 has b:"), std::string::npos)
      << said.second;
}

TEST(OnEveryProcess, a_failure_of_one_is_thrown_by_all_with_its_code) {
  const auto comm = make_mpi_world();
  for (int odd = 0; odd < comm->num_processes(); ++odd) {
    const auto said = refusal([&] {
      on_every_process(*comm, "probe", [&] {
        if (comm->process() == odd) throw base::ContentError("it is broken");
      });
    });
    const auto who = comm->num_processes() > 1 ? base::text("process ", odd, ": ") : "";
    EXPECT_EQ(said, std::pair(3, who + "it is broken"));
  }
  int ran = 0;
  on_every_process(*comm, "probe", [&] { ++ran; });
  EXPECT_EQ(ran, 1);
}

TEST(CheckNumProcesses, the_launcher_that_started_this_process_is_believed) {
  std::map<std::string, std::string> variables;
  const Environment environment = [&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
  const auto refused = [&](int processes) {
    return refusal([&] { check_num_processes(processes, environment); });
  };
  EXPECT_EQ(refused(1).first, 0) << "no launcher";
  variables["SLURM_NTASKS"] = "4";
  EXPECT_EQ(refused(4).first, 0);
  EXPECT_EQ(refused(1).first, 2) << "srun that MPI does not know of";
  EXPECT_NE(refused(1).second.find("SLURM_NTASKS = 4, but this run has 1 process:"),
            std::string::npos)
      << refused(1).second;
  variables["OMPI_COMM_WORLD_SIZE"] = "2";  // mpirun -n 2 within a job of four tasks
  EXPECT_EQ(refused(2).first, 0);
  EXPECT_EQ(refused(1).first, 2);
  EXPECT_EQ(refused(4).first, 2);
  variables = {{"PMI_SIZE", "3"}};  // the mpiexec of another MPI
  EXPECT_EQ(refused(3).first, 0);
  EXPECT_EQ(refused(1).first, 2);
  variables = {{"SLURM_NTASKS", "2x"}};
  EXPECT_EQ(refused(2).first, 2);
}

TEST(CheckNumProcesses, this_world_is_as_large_as_mpirun_made_it) {
  const auto comm = make_mpi_world();
  EXPECT_NO_THROW(check_num_processes(comm->num_processes(), ::getenv));
}

}  // namespace
}  // namespace dfmoa::comm
