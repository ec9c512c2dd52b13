"""Several processes that share the experts: one result, elastic resumes, and what is told of it.

usage: parallel_test.py DFMOA MPIEXEC [CASE ...]
"""

import json
import sys

from cli_fixture import CliTest, main
from configs_fixture import ConfigurationsTest

FP64 = ["--set", "train.precision=fp64"]


def shared(experts, transport, memory="recompute"):
    """Options of a run whose experts are shared."""
    return ["--set", f"parallel.expert={experts}", "--set", f"parallel.transport={transport}",
            "--set", f"train.memory={memory}"]


class Curves(ConfigurationsTest):
    """Every shipped configuration learns alike, however its experts are spread."""

    def curve(self, name, folder, *options, processes=1):
        launcher = self.world.mpi(processes) if processes > 1 else ()
        self.train(name, folder, "--steps", 4, *options, launcher=launcher)
        return self.world.metrics(folder, "train/ce")

    def compare(self, name, folder, expected, bound, *options, processes):
        curve = self.curve(name, folder, *options, processes=processes)
        self.assertEqual(curve.keys(), expected.keys())
        for step, ce in expected.items():
            self.assertLessEqual(abs(curve[step] - ce), bound * ce, f"{folder}, step {step}")

    def test_in_fp64_on_two_processes_and_on_two_copies_of_two(self):
        for number, name in enumerate(self.names):
            with self.subTest(name):
                expected = self.curve(name, f"p/{name}", *FP64)
                first, second = ("move_weights", "move_tokens")[::1 if number % 2 else -1]
                self.compare(name, f"p/{name}_2", expected, 1e-10, *FP64, *shared(2, first),
                             processes=2)
                self.compare(name, f"p/{name}_4", expected, 1e-10, *FP64,
                             *shared(2, second, "keep"), processes=4)

    def test_in_fp32_on_two_processes(self):
        for name in ("df_moa", "adamole", "moa_soft", "gate_conditioned", "gpt2_dfa"):
            with self.subTest(name):
                expected = self.curve(name, f"s/{name}")
                for transport in ("move_weights", "move_tokens"):
                    self.compare(name, f"s/{name}_{transport}", expected, 1e-5,
                                 *shared(2, transport), processes=2)


class Shared(CliTest):
    """One run that goes from layout to layout, and what the program says of layouts."""

    def test_a_run_goes_on_with_any_number_of_processes_and_any_transport(self):
        line = [*FP64, "--set", "train.steps=8", "--set", "train.optimizer=sgd", "--resume", "auto"]
        whole = self.world.train("e/whole", *line)
        folder = "e/moved"
        for steps, processes, options in ((2, 4, shared(4, "move_tokens")),
                                          (4, 3, shared(4, "replicate")),
                                          (6, 1, shared(4, "auto")),
                                          (8, 2, shared(2, "move_weights"))):
            launcher = self.world.mpi(processes) if processes > 1 else ()
            moved = self.world.train(folder, *line, *options, "--steps", steps, launcher=launcher)
            self.assertEqual(moved["steps"], steps)
        self.assertEqual(moved["tokens_seen"], whole["tokens_seen"])
        self.assertAlmostEqual(moved["ce"], whole["ce"], delta=1e-12 * whole["ce"])
        ours, others = (self.world.metrics(name, "train/grad_norm") for name in (folder, "e/whole"))
        for step, norm in others.items():
            self.assertAlmostEqual(ours[step], norm, delta=1e-12 * norm, msg=f"step {step}")
        told = json.loads(self.world.run("inspect", "e/whole", "--diff", folder, "--json").stdout)
        self.assertTrue(told["same_layout"])
        for change in told["datasets"]["changed"]:
            self.assertLess(change["max_abs"], 1e-12, change["name"])
        log = (self.world.root / folder / "log.txt").read_text(encoding="utf-8")
        self.assertIn("parallel.expert = 4 does not divide the 3 processes: in this start 1 holds",
                      log)
        self.assertIn("changed since the checkpoint: parallel.expert: 4 -> 2", log)
        self.assertIn("processes 4 (4 share the experts)", log)
        again = self.world.train(folder, *line, *shared(2, "move_weights"),
                                 launcher=self.world.mpi(2))
        self.assertEqual(again["parameters_hash"], moved["parameters_hash"])

    def test_owners_are_told(self):
        self.world.train("e/owned", "--steps", 1, *shared(2, "move_weights"),
                         launcher=self.world.mpi(2))
        told = json.loads(self.world.done("inspect", "e/owned", "--ranks", "--json"))["owners"]
        self.assertEqual(told["processes"], 2)
        owners = {(layer["layer"], unit["name"]): unit["process"]
                  for layer in told["layers"] for unit in layer["experts"]}
        self.assertEqual(owners, {(layer, f"main/{expert}"): (3 * layer + expert) % 2
                                  for layer in (0, 1) for expert in range(3)})
        sizes = [unit["parameters"] for layer in told["layers"] for unit in layer["experts"]]
        self.assertEqual(sum(told["parameters"]), sum(sizes))
        text = self.world.done("inspect", "e/owned", "--ranks")
        self.assertIn("owners: 2 processes share the experts", text)
        self.assertRegex(text, r"layer 1 +main/0:1 main/1:0 main/2:1")
        alone = json.loads(self.world.done("inspect", "r/undisturbed", "--ranks", "--json"))
        self.assertNotIn("owners", alone)

    def test_heads_have_owners_where_every_process_holds_all_experts(self):
        self.world.train("e/heads", "--steps", 1, *shared(2, "replicate"), "--set",
                         "parallel.heads=shard", "--set", "dfa.router=heads", "--set",
                         "router.heads.kind=sigmoid", launcher=self.world.mpi(2))
        told = json.loads(self.world.done("inspect", "e/heads", "--ranks", "--json"))["owners"]
        self.assertNotIn("parameters", told)
        for layer in told["layers"]:
            self.assertEqual(layer["experts"], [])
            self.assertEqual(set(layer["heads"]), {0, 1})
        self.assertIn("owners: 2 processes share the attention heads",
                      self.world.done("inspect", "e/heads", "--ranks"))

    def test_what_a_start_without_enough_processes_cannot_do_is_done_again_later(self):
        line = [*FP64, "--resume", "auto"]
        owned = [*shared(4, "move_tokens"), "--set", "parallel.owners=3,0,1"]
        first = self.world.run("train", "-c", "a.ini", "--run", "e/again", *line, *owned, "--steps",
                               1, launcher=self.world.mpi(4))
        self.assertEqual(first.returncode, 0, first.stderr)
        self.assertEqual(first.stderr.count("warning: 2 of 4 processes have no micro-batch"), 1)
        keep = ["train", "--run", "e/again", "--resume", "auto"]
        for processes, steps, says in ((3, 2, "in this start 1 holds the experts"),
                                       (2, 3, "in this start 2 share the experts"),
                                       (4, 4, "EP 4 x 1, transport move_tokens")):
            result = self.world.run(*keep, "--steps", steps, launcher=self.world.mpi(processes))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn(says, result.stderr)
        kept = (self.world.root / "e/again/config.ini").read_text(encoding="utf-8")
        self.assertIn("expert = 4", kept)
        self.assertRegex(kept, "owners = 3, ?0, ?1")

    def test_layers_without_adapters_have_no_owners(self):
        upper = [*FP64, "--set", "adapter.main.layers=1", "--set", "rank.main.budget=24"]
        alone = self.world.train("e/upper", *upper)
        shared_run = self.world.train("e/upper_2", *upper, *shared(2, "move_weights"),
                                      launcher=self.world.mpi(2))
        self.assertAlmostEqual(shared_run["ce"], alone["ce"], delta=1e-10 * alone["ce"])
        told = json.loads(self.world.done("inspect", "e/upper_2", "--ranks", "--json"))["owners"]
        self.assertEqual([layer["layer"] for layer in told["layers"]], [1])

    def test_layouts_that_cannot_be_are_refused_before_anything_is_read(self):
        missing = ["--set", "model.path=nowhere"]
        for options, says in (
                (shared(2, "move_weights"), ["parallel.expert = 2 does not divide the 1 process"]),
                (shared(0, "auto"), ["parallel.expert", "0"]),
                (shared(1, "teleport"), ["parallel.transport", "teleport", "move_weights"]),
                (["--set", "parallel.transport=move_weights", "--set", "parallel.gather=block"],
                 ["parallel.gather = block with train.memory = keep"])):
            self.refused_training(2, *options, *missing, says=says)
        for options, says in (
                (["--set", "parallel.owners=0,0"], ["lists 2 owners", "each of the 3"]),
                (["--set", "parallel.owners=0,1,0"], ["'1'", "from 0 to 0"]),
                (["--set", "parallel.owners=evenly"], ["'evenly'", "default, balanced"])):
            self.refused_training(2, *shared(1, "move_weights"), *options, says=says)


CASES = {case.__name__: case for case in (Curves, Shared)}

if __name__ == "__main__":
    if not set(sys.argv[3:]) <= set(CASES):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], [CASES[name] for name in sys.argv[3:] or CASES]))
