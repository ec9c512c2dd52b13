"""`dfmoa inspect`: what it tells of checkpoints, runs and base models, and of two side by side.

Usage: inspect_test.py PROGRAM MPIEXEC [CASE ...]
"""

import json
import math
import os
import pathlib
import shutil
import sys

import h5py
import numpy

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cli_fixture import UNDISTURBED, CliTest, main, read_safetensors  # noqa: E402


class Inspect(CliTest):
    def inspect(self, *arguments):
        return json.loads(self.world.done("inspect", *arguments, "--json"))


class Checkpoints(Inspect):
    def test_a_run_is_its_newest_checkpoint(self):
        for path in (UNDISTURBED, f"{UNDISTURBED}/checkpoints/step_00000006"):
            said = self.inspect(path)
            self.assertEqual((said["kind"], said["step"], said["valid"]), ("checkpoint", 6, True))
            self.assertEqual(said["parameters_hash"], self.world.undisturbed["parameters_hash"])
            file = self.world.root / UNDISTURBED / "checkpoints/step_00000006/checkpoint.h5"
            self.assertEqual(said["bytes"], file.stat().st_size)
        self.assertEqual(self.inspect(f"{UNDISTURBED}/checkpoints/step_00000002")["step"], 2)

    def test_the_three_ranks_are_those_of_the_arrays(self):
        said = self.inspect(UNDISTURBED, "--ranks")
        self.assertEqual(len(said["sites"]), 18)  # layers, linears, experts
        with h5py.File(self.world.root / said["path"] / "checkpoint.h5") as file:
            for site in said["sites"]:
                group = file[f"{site['name']}/expert/{site['expert']}"]
                a, b = (numpy.float64(group[name][:]) for name in ("A", "B"))
                self.assertEqual(site["rank"], a.shape[0])
                self.assertEqual(site["active"], site["rank"])  # `norm` gates are open until cut
                self.assertEqual(site["expected"], site["active"])  # and have no noise
                p = numpy.linalg.svd(b.T @ a, compute_uv=False) ** 2
                p = p[p > 1e-20 * p.sum()] / p.sum()
                spectral = math.exp(-(p * numpy.log(p)).sum()) if len(p) else 0
                self.assertAlmostEqual(site["spectral"], spectral, delta=1e-3)

    def test_closed_gates_and_moved_entropy_weights_are_those_of_the_run(self):
        run = ["r/closed", "--set", "rank.main.kind=hard_concrete", "--set", "rank.main.budget=8",
               "--set", "rank.main.start=0", "--set", "rank.main.cut=1", "--set",
               "rank.main.learning_rate=2", "--set", "router.main.entropy=literal", "--set",
               "train.steps=8"]
        trained = self.world.train(*run, "--steps", 6)
        said = self.inspect("r/closed")
        self.assertEqual(said["parameters_hash"], trained["parameters_hash"])
        closed = sum(site["rank"] - site["active"] for site in said["sites"])
        self.assertGreater(closed, 0)
        for name in {site["name"] for site in said["sites"]}:
            for key in ("active", "spectral"):  # told at every save
                metric = self.world.metrics("r/closed", f"{name.replace('layer', 'rank')}/{key}")[6]
                experts = [site[key] for site in said["sites"] if site["name"] == name]
                self.assertAlmostEqual(sum(experts), metric, places=4)
        self.world.train(*run, "--steps", 7, "--resume", "auto")  # it starts from these gates
        for key, figure in (("active", "active"), ("expected", "expected"), ("rank", "total")):
            metric = self.world.metrics("r/closed", f"rank/model/{figure}")[7]
            self.assertAlmostEqual(sum(site[key] for site in said["sites"]), metric, places=3)
        for layer, router in enumerate(said["routers"]):
            weight = self.world.metrics("r/closed", f"entropy_weight/{layer}/main")
            self.assertAlmostEqual(router["entropy_weight"], weight[6], places=9)
            self.assertNotEqual(weight[6], weight[1])

    def test_gates_are_those_of_the_last_step(self):
        said = self.inspect(UNDISTURBED)
        self.assertEqual([router["name"] for router in said["routers"]],
                         ["layer/0/main", "layer/1/main"])
        for layer, router in enumerate(said["routers"]):
            self.assertEqual(set(router), {"name", "load", "load_cv", "dead", "entropy",
                                           "entropy_weight"})
            load = numpy.array(router["load"])
            self.assertEqual(len(load), 3)
            self.assertAlmostEqual(load.sum(), 1, places=6)
            self.assertAlmostEqual(router["load_cv"], load.std() / load.mean(), places=6)
            self.assertAlmostEqual(router["entropy"], -(load * numpy.log(load)).sum(), places=6)
            for key, metric in (("load_cv", f"router/{layer}/main/load_cv"),
                                ("entropy", f"router/{layer}/main/entropy"),
                                ("entropy_weight", f"entropy_weight/{layer}/main")):
                self.assertAlmostEqual(router[key],
                                       self.world.metrics(UNDISTURBED, metric)[6], places=9)
            self.assertEqual(router["dead"], [])

    def test_dead_experts_are_named(self):
        """One token a step and one expert a token leave the others without work."""
        (self.world.root / "one.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
        self.world.train("r/dead", "--set", "router.main.kind=topk", "--set",
                         "router.main.top_k=1", "--set", "data.train=one.jsonl", "--set",
                         "train.micro_batches=1", "--set", "train.documents=1", "--steps", 1)
        for router in self.inspect("r/dead")["routers"]:
            self.assertGreater(len(router["dead"]), 0)
            self.assertLess(len(router["dead"]), 3)
        table = self.world.done("inspect", "r/dead", "--gates")
        self.assertIn("dead: no token", table)

    def test_before_the_first_step_nobody_is_dead(self):
        self.world.train("r/start", "--steps", 0)
        for router in self.inspect("r/start")["routers"]:
            self.assertEqual((router["load"], router["dead"]), ([0, 0, 0], []))

    def test_tables_show_what_was_asked_for(self):
        plain, ranks, gates = (self.world.done("inspect", UNDISTURBED, *options)
                               for options in ([], ["--ranks"], ["--gates"]))
        self.assertIn("step  6\n", plain)
        for said, shown in ((plain, (0, 0)), (ranks, (2, 0)), (gates, (0, 1))):
            self.assertEqual((said.count("spectral"), said.count("load_cv")), shown)

    def test_verify_tells_of_every_checkpoint_of_a_run(self):
        run = self.world.root / "r/verify"
        shutil.copytree(self.world.root / UNDISTURBED, run)
        said = self.world.done("inspect", "r/verify", "--verify")
        self.assertEqual(said.count("  whole\n"), 3)
        path = run / "checkpoints/step_00000004/checkpoint.h5"
        whole = path.read_bytes()
        path.write_bytes(whole[:len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) +
                         whole[len(whole) // 2 + 1:])
        done = self.world.run("inspect", "r/verify", "--verify")
        self.assertEqual(done.returncode, 3, done.stderr)
        lines = done.stdout.splitlines()
        self.assertEqual([line.split()[:2] for line in lines],
                         [["step_00000002", "whole"], ["step_00000004", "damaged:"],
                          ["step_00000006", "whole"]])
        self.assertIn("checkpoint.h5", lines[1])
        self.world.done("inspect", "r/verify")  # the newest alone is whole
        self.assertIn("valid", self.world.done("inspect", UNDISTURBED, "--verify", "--json"))

    def test_what_is_no_checkpoint_is_refused(self):
        (self.world.root / "r/empty/checkpoints").mkdir(parents=True)
        self.refused(2, "inspect", "r/empty", says=["r/empty", "no valid checkpoint"])
        self.refused(2, "inspect", "r", says=["r is neither a checkpoint", "config.json"])
        self.refused(2, "inspect", "nowhere", "--diff", UNDISTURBED, says=["nowhere"])
        self.refused(2, "inspect", UNDISTURBED, "--diff", "nowhere", says=["nowhere"])


class Models(Inspect):
    def test_a_model_tells_its_shape_size_and_hash(self):
        said = self.inspect("base")
        config = json.loads((self.world.root / "base/config.json").read_text())
        self.assertEqual((said["kind"], said["valid"]), ("model", True))
        for key, name in (("hidden", "hidden_size"), ("layers", "num_hidden_layers"),
                          ("heads", "num_attention_heads"), ("kv_heads", "num_key_value_heads"),
                          ("intermediate", "intermediate_size"), ("vocabulary", "vocab_size"),
                          ("model_type", "model_type")):
            self.assertEqual(said["architecture"][key], config[name])
        header, data = read_safetensors(self.world.root / "base")
        shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
        self.assertEqual(said["parameters"], sum(math.prod(shape) for shape in shapes))
        self.assertEqual(said["bytes"], len(data))
        self.assertEqual(said["file_bytes"],
                         (self.world.root / "base/model.safetensors").stat().st_size)
        self.assertEqual(said["tensors_of_type"], {"F32": len(shapes)})
        self.assertEqual(said["quantisation"], {"kind": "none"})
        self.assertEqual(said["base_hash"], self.inspect(UNDISTURBED)["base_hash"])

    def test_a_quantised_model_says_how(self):
        self.world.done("convert", "base", "nf4", "--nf4")
        said, dense = self.inspect("nf4"), self.inspect("base")
        self.assertEqual(said["quantisation"],
                         {"kind": "nf4", "linears": 14, "block": 64, "double": False})
        self.assertEqual(said["parameters"], dense["parameters"])
        self.assertLess(said["bytes"], dense["bytes"])
        self.assertNotEqual(said["base_hash"], dense["base_hash"])

    def test_a_hash_is_kept_where_it_can_be_and_never_believed_when_damaged(self):
        folder = self.world.changed_base("old")
        for path in folder.iterdir():
            os.utime(path, (1e9, 1e9))  # files that changed just now are hashed at every start
        cache = self.world.root / "cache/dfmoa"
        shutil.rmtree(cache, ignore_errors=True)
        said = self.inspect("old")["base_hash"]
        (entry,) = cache.iterdir()
        self.assertEqual(self.inspect("old")["base_hash"], said)
        entry.write_text(entry.read_text().replace(said, "0" * 32))
        self.assertEqual(self.inspect("old")["base_hash"], said)
        self.assertEqual(list(cache.iterdir()), [entry])
        environment = self.world.environment
        try:
            for home in ({"HOME": "/dev/null"}, {"HOME": ""}, {"XDG_CACHE_HOME": "/dev/null"}):
                self.world.environment = {**environment, "XDG_CACHE_HOME": "", **home}
                self.assertEqual(self.inspect("old")["base_hash"], said)
        finally:
            self.world.environment = environment

    def test_the_table_tells_the_same(self):
        said, table = self.inspect("base"), self.world.done("inspect", "base")
        for line in (f"parameters  {said['parameters']}", f"base_hash  {said['base_hash']}",
                     "architecture.model_type  llama", "quantisation.kind  none"):
            self.assertIn(line + "\n", table)

    def test_options_of_checkpoints_are_refused(self):
        for option in (["--ranks"], ["--gates"], ["--collectives"], ["--diff", UNDISTURBED]):
            self.refused(2, "inspect", "base", *option, says=[option[0], "base"])
        self.refused(2, "inspect", UNDISTURBED, "--diff", "base", says=["base"])


class Difference(Inspect):
    def test_a_checkpoint_is_identical_to_its_copy(self):
        shutil.copytree(self.world.root / UNDISTURBED, self.world.root / "r/copy")
        said = self.inspect(UNDISTURBED, "--diff", "r/copy")
        self.assertTrue(said["identical"] and said["same_layout"])
        self.assertEqual((said["datasets"]["changed"], said["values"], said["configuration"]),
                         ([], {}, {}))
        self.assertIn("identical: ", self.world.done("inspect", UNDISTURBED, "--diff", "r/copy"))

    def test_a_step_changes_what_was_trained_and_nothing_else(self):
        a, b, c = (f"{UNDISTURBED}/checkpoints/step_0000000{step}" for step in (2, 4, 6))
        said = self.inspect(b, "--diff", c)
        self.assertEqual((said["identical"], said["same_layout"]), (False, False))  # the rank cut
        said = self.inspect(a, "--diff", b)
        self.assertEqual((said["identical"], said["same_layout"]), (False, True))
        self.assertEqual(said["values"]["train/step"], [2, 4])
        self.assertEqual(said["configuration"], {})
        changed = {change["name"]: change for change in said["datasets"]["changed"]}
        folders = [self.world.root / said[side] for side in ("first", "second")]
        with h5py.File(folders[0] / "checkpoint.h5") as x, h5py.File(
                folders[1] / "checkpoint.h5") as y:
            names = []
            x.visititems(lambda name, item: names.append(name)
                         if isinstance(item, h5py.Dataset) else None)
            self.assertEqual(len(names), said["datasets"]["equal"] + len(changed))
            for name in names:
                before, after = numpy.float64(x[name][()]), numpy.float64(y[name][()])
                self.assertEqual(numpy.array_equal(before, after), name not in changed)
                if name not in changed:
                    continue
                apart = numpy.abs(after - before)
                self.assertAlmostEqual(changed[name]["max_abs"], apart.max(), places=12)
                if numpy.linalg.norm(before) == 0:
                    self.assertIsNone(changed[name]["relative"])
                else:
                    relative = numpy.linalg.norm(apart) / numpy.linalg.norm(before)
                    self.assertAlmostEqual(changed[name]["relative"] / relative, 1, places=9)
        self.assertIn("layer/0/q/expert/0/B", changed)
        self.assertNotIn("layer/0/q/expert/0/direction_id", changed)
        self.assertIn(" more (-v lists all)", self.world.done("inspect", a, "--diff", b))
        table = self.world.done("inspect", a, "--diff", b, "-v")
        self.assertIn("the same layout", table)
        self.assertEqual(table.count("layer/0/q/expert/0/B"), 3)  # value and two moments

    def test_changed_keys_of_the_configuration_are_told(self):
        self.world.train("r/rate", "--steps", 0, "--set", "train.learning_rate=1e-3")
        self.world.train("r/wide", "--steps", 0, "--set", "adapter.main.rank=6")
        self.world.train("r/plain", "--steps", 0)
        said = self.inspect("r/plain", "--diff", "r/rate")
        self.assertEqual(said["configuration"], {"train.learning_rate": ["0.005", "0.001"]})
        said = self.inspect("r/plain", "--diff", "r/wide")
        self.assertEqual(said["configuration"], {"adapter.main.rank": ["4", "6"]})
        self.assertFalse(said["same_layout"])
        table = self.world.done("inspect", "r/plain", "--diff", "r/wide")
        self.assertIn("another layout", table)
        self.assertIn("4 -> 6", table)


CASES = {case.__name__: case for case in (Checkpoints, Models, Difference)}

if __name__ == "__main__":
    if len(sys.argv) < 3 or not set(sys.argv[3:]) <= set(CASES):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], [CASES[name] for name in sys.argv[3:] or CASES]))
