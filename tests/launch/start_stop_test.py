"""How a run of several processes starts and stops: what they must share is compared before the
first step, and a signal to any of them stops all at the same step.

Usage: start_stop_test.py PROGRAM MPIEXEC IO_FAULT [CASE ...]
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cli_fixture import SECONDS, UNDISTURBED, CliTest, main  # noqa: E402

IO_FAULT = None
LONG = ["--set", "train.steps=100000", "--set", "checkpoint.every=0"]


class Start(CliTest):
    def unequal(self, code, first, second, says, places=("", "")):
        """Two processes of one world with their own words (and working folders) are refused."""
        line = ["timeout", "30", *self.world.mpi(1)]
        for number, (options, place) in enumerate(zip((first, second), places)):
            if number:
                line += [":", "-n", "1"]
            if place:
                line += ["-wdir", str(self.world.root / place)]
            line += [self.world.program, "train", "-c", str(self.world.root / "a.ini"), *options]
        result = subprocess.run(line, cwd=self.world.root, env=self.world.environment,
                                capture_output=True, text=True, timeout=SECONDS, check=False)
        self.assertEqual(result.returncode, code, result.stderr)
        sentences = {line for line in result.stderr.splitlines() if line.startswith("dfmoa: ")}
        self.assertEqual(len(sentences), 1, result.stderr)
        for words in says:
            self.assertIn(words, *sentences)
        self.assertEqual(result.stdout, "")

    def places(self):
        """Two working folders, as on two machines with disks of their own."""
        for place in ("one", "two"):
            shutil.rmtree(self.world.root / place, ignore_errors=True)
            (self.world.root / place).mkdir()
        return "one", "two"

    def test_a_single_program_within_a_job_of_several_tasks_is_refused(self):
        for variable in ("SLURM_NTASKS", "PMI_SIZE"):
            result = self.world.run("train", "-c", "a.ini", "--run", "r/alone",
                                    launcher=["timeout", "30", "env", f"{variable}=4"])
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn(f"dfmoa: {variable} = 4, but this run has 1 process", result.stderr)
        self.assertFalse((self.world.root / "r/alone").exists())
        self.world.train("r/one", "--steps", 1, launcher=["env", "SLURM_NTASKS=1"])

    def test_processes_with_different_configurations_are_refused_with_the_key(self):
        run = ["--run", "r/unequal"]
        self.unequal(2, run, [*run, "--set", "train.seed=2"],
                     ["the configuration differs", "process 1 has train.seed = 2",
                      "process 0 has train.seed = 1"])
        self.unequal(2, [*run, "--steps", "3"], run, ["process 1 has --steps -1",
                                                       "process 0 has --steps 3"])
        self.unequal(2, run, ["--run", "r/else"], ["process 1 has --run r/else"])
        self.assertFalse((self.world.root / "r/unequal").exists())

    def test_processes_with_different_base_models_are_refused(self):
        one, two = self.places()
        shutil.copytree(self.world.root / "base", self.world.root / one / "model")
        self.world.init_model("two/model", 2)
        options = ["--set", "model.path=model", "--run", str(self.world.root / "r/bases")]
        self.unequal(3, options, options, ["the base model differs", "process 1 has hash",
                                           "model.path"], (one, two))
        self.assertFalse((self.world.root / "r/bases").exists())

    def test_processes_on_different_programs_are_refused(self):
        run = ["--run", "r/levels"]
        one_level = "CPU level reference" in self.world.done("--version")  # nothing to lower
        line = [*self.world.mpi(1), self.world.program, "train", "-c", "a.ini", *run, ":", "-n",
                "1", "-x", "DFMOA_CPU=reference", self.world.program, "train", "-c", "a.ini", *run]
        result = subprocess.run(line, cwd=self.world.root, env=self.world.environment,
                                capture_output=True, text=True, timeout=SECONDS, check=False)
        self.assertEqual(result.returncode, 0 if one_level else 1, result.stderr)
        self.assertEqual("process 1 has CPU level reference" in result.stderr, not one_level)

    def test_a_run_folder_that_one_process_cannot_use_is_refused(self):
        run = ["--run", "run"]
        places = self.places()
        self.unequal(1, run, run, ["process 1: the run folder run of process 0 is not seen here"],
                     places)
        second = self.world.root / places[1] / "run"
        second.mkdir()
        self.unequal(1, run, run, ["process 1: the run folder run is another one"], places)
        second.rmdir()
        second.symlink_to("/proc")  # where nobody, not even root, makes files
        self.unequal(1, run, run, ["process 1: creating run/start.1"], places)
        self.refused(1, "train", "-c", "a.ini", "--run", second, says=[str(second)])

    def test_processes_that_would_resume_different_steps_are_refused(self):
        places = self.places()
        for place, newest in zip(places, (6, 4)):
            shutil.copytree(self.world.root / UNDISTURBED / f"checkpoints/step_0000000{newest}",
                            self.world.root / place / "saved")
        run = ["--run", str(self.world.root / "r/steps"), "--resume", "saved"]
        self.unequal(1, run, run, ["the state before the first step differs",
                                   "process 1 has step 4, process 0 has step 6"], places)
        self.assertFalse((self.world.root / "r/steps/checkpoints").exists())

    def test_nothing_of_the_checks_stays_in_the_run_folder(self):
        self.world.train("r/clean", "--steps", 1, launcher=self.world.mpi(2))
        self.assertEqual(list((self.world.root / "r/clean").glob("start.*")), [])


class Stop(CliTest):
    def launch(self, folder, *options, launcher=(), slow=False):
        """A run; `slow`: every fsync takes so long that the start is not over in an instant."""
        environment = dict(self.world.environment)
        if slow:
            preload = {"LD_PRELOAD": IO_FAULT, "DFMOA_FSYNC_DELAY_MS": "400"}
            if launcher:
                launcher = [*launcher, *(word for key, value in preload.items()
                                         for word in ("-x", f"{key}={value}"))]
            else:
                environment.update(preload)
        said = (self.world.root / "said.txt").open("w", encoding="utf-8")
        with said:
            return subprocess.Popen([*launcher, self.world.program, "train", "-c", "a.ini",
                                     "--run", folder, *LONG, *options], cwd=self.world.root,
                                    env=environment, stdout=subprocess.DEVNULL, stderr=said)

    def words(self):
        return (self.world.root / "said.txt").read_text(encoding="utf-8")

    def stops_before_its_first_step(self, folder, *options, launcher=()):
        lock = self.world.root / folder / "lock"
        lock.unlink(missing_ok=True)
        process = self.launch(folder, *options, launcher=launcher, slow=True)
        self.world.wait(process, lock.exists)
        self.assertEqual(self.stop(process, signal.SIGUSR1), 1, self.words())
        self.assertIn("before the first step of this start", self.words())

    def test_a_run_that_made_no_step_ends_with_1_that_nobody_requeues(self):
        for processes, launcher in ((1, ()), (2, self.world.mpi(2))):
            folder = f"r/early{processes}"
            self.stops_before_its_first_step(folder, launcher=launcher)
            self.assertFalse((self.world.root / folder / "checkpoints").exists())

    def test_neither_does_one_that_has_only_resumed(self):
        folder = "r/resumed"
        self.world.train(folder, *LONG, "--steps", 3)
        checkpoints = self.world.root / folder / "checkpoints"
        before = sorted(path.name for path in checkpoints.iterdir())
        self.stops_before_its_first_step(folder, "--resume", "auto")
        self.assertIn("asked to stop at step 3,", self.words())
        self.assertEqual(sorted(path.name for path in checkpoints.iterdir()), before)

    def stopped_by(self, name, number, choose):
        """Exit 85 of two processes at one step, from which a run goes on bit for bit."""
        folder = f"r/{name}"
        process = self.launch(folder, launcher=self.world.mpi(2))
        self.world.wait(process, lambda: self.world.metrics(folder, "train/ce"))
        os.kill(choose(process), number)
        self.assertEqual(process.wait(timeout=SECONDS), 85, self.words())
        step = json.loads(self.world.done("inspect", folder, "--json"))["step"]
        self.assertEqual(step, max(self.world.metrics(folder, "train/ce")))
        said = self.world.done("inspect", folder, "--collectives")
        self.assertRegex(said, r"^all processes ended #\d+ barrier\(end\)")
        end = [*LONG, "--steps", step + 2]
        self.assertEqual(
            self.world.train(folder, "--resume", "auto", *end,
                             launcher=self.world.mpi(2))["parameters_hash"],
            self.world.train(f"{folder}_whole", *end,
                             launcher=self.world.mpi(2))["parameters_hash"])
        log = (self.world.root / folder / "log.txt").read_text(encoding="utf-8")
        self.assertIn(f"resumed at step {step},", log)

    def test_usr1_to_mpirun_stops_all_at_one_step(self):
        self.stopped_by("mpirun", signal.SIGUSR1, lambda process: process.pid)

    def test_usr1_to_one_process_stops_all_at_one_step(self):
        self.stopped_by("usr1", signal.SIGUSR1, lambda process: self.world.started_by(process)[0])

    def test_term_to_one_process_stops_all_at_one_step(self):
        self.stopped_by("term", signal.SIGTERM, lambda process: self.world.started_by(process)[1])


CASES = {case.__name__: case for case in (Start, Stop)}

if __name__ == "__main__":
    if len(sys.argv) < 4 or not set(sys.argv[4:]) <= set(CASES):
        sys.exit(__doc__)
    IO_FAULT = sys.argv[3]
    sys.exit(main(sys.argv[1], sys.argv[2], [CASES[name] for name in sys.argv[4:] or CASES]))
