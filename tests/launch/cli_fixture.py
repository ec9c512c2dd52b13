"""A tiny world for the program's tests: a base model, data, a configuration, ways to run it."""

import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import unittest

CONFIG = """\
[model]
path = {root}/base

[data]
train = {root}/train.jsonl

[adapter.main]
kind = lora
sites = q, v, up
experts = 3
rank = 4
alpha = 8
router = main
rank_gate = main

[router.main]
kind = softmax
entropy = dual

[rank.main]
kind = norm
budget = 48

[train]
steps = 6
micro_batches = 2
tokens = 96
learning_rate = 5e-3

[checkpoint]
every = 2
"""
SECONDS = 60  # of one call at most
UNDISTURBED = "r/undisturbed"  # a run folder that several tests read


def rows(count=24):
    return [{"task": ("add", "echo")[i % 2],
             "messages": [{"role": "user", "content": f"{i} + 1 ="},
                          {"role": "assistant", "content": str(i + 1)}]} for i in range(count)]


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


class World:
    """A temporary folder, and the program with it as working directory."""

    def __init__(self, program, mpiexec):
        self.program, self.mpiexec = str(pathlib.Path(program).resolve()), mpiexec
        self.temporary = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.temporary.name)
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1",
                            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                            "XDG_CACHE_HOME": str(self.root / "cache")}
        self.init_model("base", 1)
        write_lines(self.root / "train.jsonl", rows())
        (self.root / "a.ini").write_text(CONFIG.format(root=self.root), encoding="utf-8")
        self.undisturbed = self.train(UNDISTURBED)

    def run(self, *arguments, launcher=(), said=""):
        """`said` is what the program reads from its standard input."""
        return subprocess.run([*launcher, self.program, *map(str, arguments)], cwd=self.root,
                              env=self.environment, capture_output=True, text=True, input=said,
                              timeout=SECONDS, check=False)

    def done(self, *arguments, launcher=(), said=""):
        """What a call that must succeed printed."""
        result = self.run(*arguments, launcher=launcher, said=said)
        if result.returncode != 0:
            raise AssertionError(f"{arguments}: exit {result.returncode}\n{result.stderr}")
        return result.stdout

    def init_model(self, name, seed):
        self.done("init-model", "--hidden", 32, "--heads", 2, "--kv-heads", 1,
                  "--intermediate", 64, "--seed", seed, name)

    def train(self, folder, *options, launcher=()):
        return json.loads(self.done("train", "-c", "a.ini", "--run", folder, "--json", *options,
                                    launcher=launcher))

    def mpi(self, processes, *options):
        """A launcher for run, done and train."""
        return [self.mpiexec, "-n", str(processes), "--oversubscribe", "--bind-to", "none",
                "--mca", "btl", "self,vader", "--mca", "mpi_yield_when_idle", "1", *options]

    def started_by(self, launcher):
        """Process ids of the program's processes that a running mpirun has started, in order."""
        found = []
        for children in pathlib.Path(f"/proc/{launcher.pid}/task").glob("*/children"):
            for child in children.read_text(encoding="ascii").split():
                name = pathlib.Path(f"/proc/{child}/comm")
                if name.exists() and name.read_text(encoding="utf-8").strip() == "dfmoa":
                    found.append(int(child))
        return sorted(found)

    def start(self, folder, *options):
        """A training process of thousands of steps that has taken its first."""
        process = subprocess.Popen(
            [self.program, "train", "-c", "a.ini", "--run", folder, "--set", "train.steps=100000",
             *options], cwd=self.root, env=self.environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        self.wait(process, lambda: self.metrics(folder, "train/ce"))
        return process

    def wait(self, process, ready):
        end = time.monotonic() + SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                raise AssertionError(f"exit {process.wait()} before what was waited for")
            time.sleep(0.01)

    def metrics(self, folder, key):
        """{step: value} of one key; a line that is being written is left out."""
        path = self.root / folder / "metrics.jsonl"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        lines = map(json.loads, text[:text.rfind("\n") + 1].splitlines())
        return {line["step"]: line["value"] for line in lines if line["key"] == key}

    def changed_base(self, name):
        """A copy of the base model's folder, to be damaged."""
        shutil.copytree(self.root / "base", self.root / name)
        return self.root / name

    def close(self):
        self.temporary.cleanup()


class CliTest(unittest.TestCase):
    """Tests in one World, which main() opens."""

    world: World

    def refused(self, code, *arguments, says=(), after_start=False):
        """One sentence on stderr and nothing else, but for progress `after_start`."""
        result = self.world.run(*arguments)
        lines = result.stderr.splitlines()
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertTrue(lines and lines[-1].startswith("dfmoa: "), result.stderr)
        self.assertEqual(sum(line.startswith("dfmoa: ") for line in lines), 1, result.stderr)
        if not after_start:
            self.assertEqual(len(lines), 1, result.stderr)
        for trace in ("frame #", "Traceback", "terminate called", "Exception raised"):
            self.assertNotIn(trace, result.stderr)
        self.assertEqual(result.stdout, "")
        for words in says:
            self.assertIn(words, lines[-1])

    def refused_training(self, code, *options, says=(), after_start=False):
        folder = self.world.root / "r" / "refused"
        shutil.rmtree(folder, ignore_errors=True)
        self.refused(code, "train", "-c", "a.ini", "--run", folder, *options, says=says,
                     after_start=after_start)
        self.assertFalse((folder / "checkpoints").exists())
        if not after_start:
            self.assertFalse(folder.exists())

    def stop(self, process, number=signal.SIGKILL):
        process.send_signal(number)
        return process.wait(timeout=SECONDS)


def read_safetensors(folder):
    """Header and data bytes."""
    content = (folder / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:8 + size]), bytearray(content[8 + size:])


def write_safetensors(folder, header, data):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)


def main(program, mpiexec, cases):
    """Runs the cases and prints their counts; returns the exit status."""
    CliTest.world = World(program, mpiexec)
    try:
        loader = unittest.defaultTestLoader
        suite = unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in cases)
        result = unittest.TextTestRunner(verbosity=1).run(suite)
    finally:
        CliTest.world.close()
    failed = len(result.failures) + len(result.errors)
    skipped = len(result.skipped)
    print(f"{result.testsRun - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or result.testsRun == 0 else 0
