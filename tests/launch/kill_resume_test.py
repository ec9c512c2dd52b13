"""kill -9, thirty times: by the clock and inside saves, of one process and of two; every restart
goes on from the newest whole checkpoint and ends where the undisturbed run ends.

Usage: kill_resume_test.py PROGRAM MPIEXEC IO_FAULT
"""

import collections
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cli_fixture import SECONDS, CliTest, main  # noqa: E402

STEPS, EVERY = 12, 2
SETTINGS = ["--set", f"train.steps={STEPS}", "--set", f"checkpoint.every={EVERY}",
            "--set", "checkpoint.keep_last=100"]
DELAY_S = 0.04  # of every fsync: the save of so small a model is over in an instant otherwise
SAVE_S = 7 * DELAY_S  # file, folder | manifest, folder | parent, latest, parent
KILLS = {1: 18, 2: 12}  # processes: kills at least
INSIDE = {1: 8, 2: 4}  # of them inside a save, at least
KILLS_OF_A_CHAIN = 4
WINDOWS = ("no data yet", "data without manifest", "manifest, not renamed",
           "renamed, latest older", "between saves")
IO_FAULT = None


def step_of(path):
    return int(path.name.removeprefix("step_").removesuffix(".tmp"))


def whole(checkpoints):
    """Steps that are in place."""
    return sorted(step_of(path) for path in checkpoints.glob("step_*") if path.suffix != ".tmp")


class Chain:
    """One run folder: starts that are killed, and a last one that is not."""

    def __init__(self, world, name, processes):
        self.world, self.name, self.processes = world, name, processes
        self.folder = world.root / name
        self.checkpoints = self.folder / "checkpoints"
        self.said = world.root / f"{name}.txt"
        self.resumed = 0
        self.started_ns = 0
        self.process = None

    def start(self):
        """A start whose fsyncs are slow, up to the sentence that says where it goes on."""
        slow = {"LD_PRELOAD": IO_FAULT, "DFMOA_FSYNC_DELAY_MS": str(round(DELAY_S * 1000))}
        environment, launcher = {**self.world.environment, **slow}, []
        if self.processes > 1:
            environment = self.world.environment
            launcher = self.world.mpi(self.processes, *(word for key, value in slow.items()
                                                        for word in ("-x", f"{key}={value}")))
        steps = whole(self.checkpoints)
        self.resumed = steps[-1] if steps else 0
        self.started_ns = time.time_ns()
        with self.said.open("w", encoding="utf-8") as said:
            self.process = subprocess.Popen(
                [*launcher, self.world.program, "train", "-c", "a.ini", "--run", self.name,
                 "--resume", "auto", *SETTINGS],
                cwd=self.world.root, env=environment, stdout=subprocess.DEVNULL, stderr=said)
        self.until(lambda: self.begins_with() in self.words())
        if self.begins_with() not in self.words():
            raise AssertionError(f"expected '{self.begins_with()}': {self.words()}")

    def begins_with(self):
        """Neither from less than what lies there, nor from a save half made."""
        return f"resumed at step {self.resumed}," if self.resumed else "a fresh run"

    def words(self):
        return self.said.read_text(encoding="utf-8")

    def until(self, ready):
        """Waits; False if the run was over before."""
        end = time.monotonic() + SECONDS
        while not ready():
            if self.process.poll() is not None:
                return False
            if time.monotonic() > end:
                self.process.kill()
                raise AssertionError(f"not reached in {SECONDS} s: {self.words()}")
            time.sleep(0.002)
        return True

    def is_new(self, path):
        """Made since this start, where an earlier one may have left the same name."""
        try:
            return path.stat().st_mtime_ns > self.started_ns
        except FileNotFoundError:
            return False

    def kill(self, whom):
        """kill -9 of one process or of mpirun; False if the run was over before."""
        of_world = self.world.started_by(self.process) if self.processes > 1 else []
        victims = {"first": of_world[:1] or [self.process.pid], "last": of_world[-1:],
                   "mpirun": [self.process.pid]}[whom]
        if self.process.poll() is not None or not victims:
            self.process.wait(timeout=SECONDS)
            return False
        os.kill(victims[0], signal.SIGKILL)
        code = self.process.wait(timeout=SECONDS)
        end = time.monotonic() + SECONDS
        while any(pathlib.Path(f"/proc/{pid}").exists() for pid in of_world):
            if time.monotonic() > end:
                raise AssertionError(f"{of_world} outlived mpirun")
            time.sleep(0.002)
        return code != 0

    def window(self):
        """Where in the commit sequence the kill fell, told by what it left."""
        newest = (whole(self.checkpoints) or [0])[-1]
        for path in self.checkpoints.glob("step_*.tmp"):
            if step_of(path) <= newest or not self.is_new(path):
                continue
            if (path / "manifest.json").exists():
                return "manifest, not renamed"
            return "data without manifest" if (path / "checkpoint.h5").exists() else "no data yet"
        latest = self.checkpoints / "latest"
        named = latest.read_text(encoding="utf-8").strip() if latest.exists() else ""
        if newest > self.resumed and named != f"step_{newest:08}":
            return "renamed, latest older"
        return "between saves"


class Kills(CliTest):
    def undisturbed(self, processes):
        """Its hash, and the bytes of every checkpoint by step."""
        name = f"whole{processes}"
        launcher = self.world.mpi(processes) if processes > 1 else ()
        said = self.world.train(name, *SETTINGS, launcher=launcher)
        return said["parameters_hash"], self.bytes_of(self.world.root / name / "checkpoints")

    def bytes_of(self, checkpoints):
        return {step: [(checkpoints / f"step_{step:08}" / name).read_bytes()
                       for name in ("checkpoint.h5", "manifest.json")]
                for step in whole(checkpoints)}

    def one_kill(self, chain, draw):
        """Starts and kills; None if the run ended before. Three in four kills wait for a save."""
        chain.start()
        left = (STEPS - chain.resumed) // EVERY
        if draw.random() < 3 / 4 and left > 0:
            step = chain.resumed + EVERY * draw.randint(1, min(left, 2))
            path = chain.checkpoints / f"step_{step:08}.tmp"
            chain.until(lambda: chain.is_new(path))
            time.sleep(draw.uniform(0, SAVE_S))
        else:
            time.sleep(draw.uniform(0, left * SAVE_S))
        whom = draw.choice(["first", "first", "first", "last", "mpirun"])
        if not chain.kill(whom if chain.processes > 1 else "first"):
            return None
        return chain.window()

    def finish(self, chain, expected):
        launcher = self.world.mpi(chain.processes) if chain.processes > 1 else ()
        said = self.world.train(chain.name, "--resume", "auto", *SETTINGS, launcher=launcher)
        self.assertEqual(said["parameters_hash"], expected, chain.name)

    def kill_in_chains(self, processes, counts):
        draw = random.Random(processes)
        expected, saved = self.undisturbed(processes)
        self.assertEqual(sorted(saved), list(range(EVERY, STEPS + 1, EVERY)))
        killed, inside, resumed, number = 0, 0, 0, 0
        while killed < KILLS[processes] or inside < INSIDE[processes]:
            number += 1
            self.assertLess(number, KILLS[processes], "too few kills hit a run, or a save")
            chain = Chain(self.world, f"chain{processes}_{number}", processes)
            for _ in range(KILLS_OF_A_CHAIN):
                window = self.one_kill(chain, draw)
                resumed += chain.resumed > 0
                for step, content in self.bytes_of(chain.checkpoints).items():
                    self.assertEqual(content, saved[step], f"{chain.name}: a mixture in {step}")
                if window is None:
                    break
                counts[window, processes] += 1
                killed += 1
                inside += window != "between saves"
            self.finish(chain, expected)
        return resumed

    def test_every_restart_ends_at_the_undisturbed_parameters(self):
        counts = collections.Counter()
        resumed = sum(self.kill_in_chains(processes, counts) for processes in KILLS)
        total = sum(counts.values())
        inside = total - sum(counts["between saves", processes] for processes in KILLS)
        print(f"\n{total} kills -9, {inside} inside a save, {resumed} starts resumed a checkpoint")
        print(f"{'left behind':24}" + "".join(f"{p:>3} process(es)" for p in KILLS))
        for window in WINDOWS:
            print(f"{window:24}" + "".join(f"{counts[window, p]:15}" for p in KILLS))
        self.assertGreaterEqual(total, 30)
        self.assertGreaterEqual(inside, 10)
        self.assertGreaterEqual(resumed, 5)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    IO_FAULT = sys.argv[3]
    sys.exit(main(sys.argv[1], sys.argv[2], [Kills]))
