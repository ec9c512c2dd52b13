"""`dfmoa inspect` on gates: of experts and heads, on held-out data, and of the tokens of a text.

Usage: inspect_gates_test.py PROGRAM MPIEXEC
"""

import json
import math
import pathlib
import re
import sys

import h5py
import numpy

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cli_fixture import UNDISTURBED, CliTest, main, write_lines  # noqa: E402

DFA = ["--set", "dfa.router=heads", "--set", "router.heads.kind=softmax", "--set",
       "dfa.rank_gate=masks", "--set", "rank.masks.kind=hard_concrete", "--set",
       "rank.masks.budget=40", "--set", "rank.masks.start=0", "--set", "rank.masks.learning_rate=2"]
TEXT = "Why is the café open? </b>\n3 + 4 🦊"


class Inspect(CliTest):
    def inspect(self, *arguments):
        return json.loads(self.world.done("inspect", *arguments, "--json"))

    def attention_run(self):
        if not (self.world.root / "r/dfa").exists():
            self.world.train("r/dfa", *DFA)
        return "r/dfa"

    def text_file(self):
        path = self.world.root / "text.txt"
        path.write_text(TEXT, encoding="utf-8")
        return path


class Heads(Inspect):
    def test_open_dimensions_are_those_of_the_arrays(self):
        self.attention_run()
        for step in (2, 6):  # before and after the cut
            said = self.inspect(f"r/dfa/checkpoints/step_0000000{step}")
            self.assertEqual([mask["name"] for mask in said["dimensions"]],
                             [f"layer/{layer}/dfa/{name}" for layer in range(2)
                              for name in ("qk", "v")])
            with h5py.File(self.world.root / said["path"] / "checkpoint.h5") as file:
                for mask in said["dimensions"]:
                    logit = numpy.float64(file[mask["name"] + "/logit"][:])
                    z = numpy.clip(1.2 / (1 + numpy.exp(-logit)) - 0.1, 0, 1)
                    alive = 1 / (1 + numpy.exp(-logit + 2 / 3 * math.log(0.1 / 1.1)))
                    self.assertEqual(mask["total"], 8 if mask["name"].endswith("qk") else 32)
                    self.assertEqual(mask["active"], (z > 0).sum())
                    self.assertAlmostEqual(mask["expected"], alive.sum(), places=3)
                    self.assertEqual(len(file[mask["name"] + "/dimension_id"]), len(logit))
            for key in ("active", "expected"):
                told = sum(mask[key] for mask in said["dimensions"])
                if step == 2:  # step 3 starts from these gates
                    metric = self.world.metrics("r/dfa", f"dfa/model/{key}")[3]
                    self.assertAlmostEqual(told, metric, places=3)
                    self.assertLess(told, 80 if key == "expected" else 81)
                else:
                    self.assertLessEqual(told, 40)  # the budget
        self.assertEqual(self.inspect(UNDISTURBED)["dimensions"], [])
        table = self.world.done("inspect", "r/dfa", "--ranks")
        self.assertIn("head dimensions", table)
        self.assertIn("layer/1/dfa/v", table)

    def test_routers_of_heads_are_told_apart(self):
        said = self.inspect(self.attention_run())
        heads = [router for router in said["routers"] if router.get("of_heads")]
        self.assertEqual([router["name"] for router in heads], ["layer/0/heads", "layer/1/heads"])
        self.assertEqual(len(said["routers"]), 4)
        for layer, router in enumerate(heads):
            gate = numpy.array(router["mean_gate"])
            self.assertEqual(len(gate), 2)
            self.assertAlmostEqual(gate.mean(), 1, places=6)  # softmax heads share their mass
            self.assertTrue(numpy.allclose(gate, 2 * numpy.array(router["load"])))
            metric = self.world.metrics("r/dfa", f"head_gate/{layer}/heads/entropy")[6]
            self.assertAlmostEqual(router["entropy"], metric, places=9)
        self.assertGreater(numpy.ptp(heads[0]["mean_gate"]), 0)
        self.assertNotIn("mean_gate", said["routers"][0])
        table = self.world.done("inspect", "r/dfa", "--gates")
        experts, heads = table.split("head router")
        self.assertIn("layer/0/main", experts)
        self.assertIn("layer/0/heads", heads)
        self.assertNotIn("layer/0/main", heads)
        self.assertNotIn("head router", self.world.done("inspect", UNDISTURBED, "--gates"))

    def test_gates_of_adapters_are_named(self):
        self.world.train("r/named", "--set", "router.main.kind=sigmoid", "--set",
                         "router.main.over=adapters", "--set", "adapter.main.experts=1")
        for router in self.inspect("r/named")["routers"]:
            self.assertEqual(router["labels"], ["q", "v", "up"])
            self.assertEqual(len(router["load"]), 3)
        self.assertRegex(self.world.done("inspect", "r/named", "--gates"), r" up:0\.\d{3}")

    def test_experts_that_share_a_have_ranks_of_their_own(self):
        plain = (self.world.root / "a.ini").read_text().replace("rank_gate = main", "")
        (self.world.root / "shared.ini").write_text(
            re.sub(r"\[rank.main\][^\[]*", "", plain).replace("alpha = 8", "shared_a = true"))
        self.world.done("train", "-c", "shared.ini", "--run", "r/shared")
        said = self.inspect("r/shared")
        self.assertEqual(len(said["sites"]), 18)
        with h5py.File(self.world.root / said["path"] / "checkpoint.h5") as file:
            for site in said["sites"]:
                a = numpy.float64(file[site["name"] + "/shared/A"][:])
                b = numpy.float64(file[f"{site['name']}/expert/{site['expert']}/B"][:])
                p = numpy.linalg.svd(b.T @ a, compute_uv=False) ** 2
                p = p[p > 1e-20 * p.sum()] / p.sum()
                self.assertAlmostEqual(site["spectral"], math.exp(-(p * numpy.log(p)).sum()),
                                       delta=1e-3)

    def test_the_experts_of_a_linear_are_summed(self):
        said = self.inspect(UNDISTURBED)
        table = self.world.done("inspect", UNDISTURBED, "--ranks").split("all experts of")[1]
        rows = {line.split()[0]: line.split()[1:] for line in table.splitlines()[1:] if line}
        self.assertEqual(len(rows), 6)
        for name, row in rows.items():
            sites = [site for site in said["sites"] if site["name"] == name]
            self.assertEqual([int(cell) for cell in row[:3]],
                             [3, sum(site["rank"] for site in sites),
                              sum(site["active"] for site in sites)])
            spectral = sum(site["spectral"] for site in sites)
            self.assertAlmostEqual(float(row[4]), spectral, delta=0.01)


class Data(Inspect):
    def test_use_on_data_is_that_of_eval_by_router(self):
        use = self.inspect(UNDISTURBED, "--data", "train.jsonl")["use"]
        said = json.loads(self.world.done("eval", UNDISTURBED, "--data", "train.jsonl", "--json"))
        self.assertEqual(use["load_of_task"], said["load"])
        self.assertEqual(use["mutual_information"], said["mutual_information"])
        tokens = {task: figures["tokens"] for task, figures in said["tasks"].items()}
        for task, figures in use["tasks"].items():
            self.assertEqual(figures, {key: said["tasks"][task][key]
                                       for key in ("ce", "tokens", "items")})
        self.assertEqual([router["name"] for router in use["routers"]],
                         ["layer/0/main", "layer/1/main"])
        for router in use["routers"]:
            of_task = {task: numpy.array(load) for task, load in router["load_of_task"].items()}
            load = sum(of_task[task] * tokens[task] for task in tokens) / sum(tokens.values())
            self.assertTrue(numpy.allclose(router["load"], load))
            self.assertAlmostEqual(load.sum(), 1, places=6)
            self.assertAlmostEqual(router["load_cv"], load.std() / load.mean(), places=9)
            self.assertAlmostEqual(router["entropy"], -(load * numpy.log(load)).sum(), places=6)
            mean = sum(of_task.values()) / len(of_task)
            information = sum((share * numpy.log(share / mean)).sum() / len(of_task)
                              for share in of_task.values())
            self.assertAlmostEqual(router["mutual_information"], information, places=6)
            self.assertEqual(router["dead"], [])
        for task in tokens:
            mean = numpy.mean([router["load_of_task"][task] for router in use["routers"]], axis=0)
            self.assertTrue(numpy.allclose(use["load_of_task"][task], mean))

    def test_progress_goes_to_stderr_and_tables_to_stdout(self):
        done = self.world.run("inspect", UNDISTURBED, "--gates", "--data", "train.jsonl", "--data",
                              "train.jsonl")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("48 of 48", done.stderr)
        self.assertNotIn("48 of 48", done.stdout)
        self.assertIn("router on the data", done.stdout)
        self.assertIn("mean over the routers of experts", done.stdout)
        self.assertNotIn("use.", done.stdout)

    def test_heads_have_rows_of_their_own_and_stay_out_of_the_mean(self):
        use = self.inspect(self.attention_run(), "--data", "train.jsonl")["use"]
        heads = [router for router in use["routers"] if router.get("of_heads")]
        self.assertEqual(len(heads), 2)
        for router in heads:
            self.assertAlmostEqual(numpy.mean(router["load"]), 1, places=5)
        for load in use["load_of_task"].values():
            self.assertAlmostEqual(sum(load), 1, places=5)

    def test_data_that_is_not_there_is_refused(self):
        self.refused(2, "inspect", UNDISTURBED, "--data", "nowhere.jsonl", says=["nowhere.jsonl"])
        self.refused(2, "inspect", UNDISTURBED, "--verify", "--data", "train.jsonl",
                     says=["--data", "--verify"])
        self.refused(2, "inspect", "base", "--data", "train.jsonl", says=["--data", "base"])


class Tokens(Inspect):
    def test_every_token_of_a_text_has_its_piece_and_its_gates(self):
        told = self.inspect(UNDISTURBED, "--tokens", self.text_file())["tokens"]
        self.assertEqual(told["routers"], [{"name": "mean"}])
        (text,) = told["texts"]
        self.assertEqual("".join(text["pieces"]), TEXT)
        self.assertEqual(bytes(text["tokens"]).decode(), TEXT)  # a token is a byte here
        at = TEXT.encode().index("é".encode())
        self.assertEqual(text["pieces"][at:at + 2], ["", "é"])
        both = self.inspect(UNDISTURBED, "--tokens", "text.txt", "--router", "0/main", "--router",
                            "layer/1/main")["tokens"]["texts"][0]["gates"]
        self.assertEqual(set(both), {"0/main", "1/main"})
        mean = numpy.array(text["gates"]["mean"])
        self.assertEqual(mean.shape, (len(text["tokens"]), 3))
        self.assertTrue(numpy.allclose(mean.sum(1), 1, atol=1e-5))
        self.assertTrue(numpy.allclose(mean, numpy.mean([both["0/main"], both["1/main"]], axis=0)))
        self.assertNotIn("head_gates", text)

    def test_gates_are_those_with_which_the_next_token_is_generated(self):
        (self.world.root / "short.txt").write_text("3 + 1 =")
        told = self.inspect(UNDISTURBED, "--tokens", "short.txt")["tokens"]["texts"][0]
        said = json.loads(self.world.done("generate", UNDISTURBED, "-p", "3 + 1 =", "--plain",
                                          "--tokens", 1, "--greedy", "--show-gates", "--json"))
        self.assertEqual(said["prompt_tokens"], told["tokens"])
        self.assertTrue(numpy.allclose(said["gates"][0], told["gates"]["mean"][-1], atol=1e-6))

    def test_the_strongest_expert_is_marked_and_all_gates_are_in_the_table(self):
        told = self.inspect(UNDISTURBED, "--tokens", self.text_file())["tokens"]["texts"][0]
        table = self.world.done("inspect", UNDISTURBED, "--tokens", "text.txt")
        gates = told["gates"]["mean"]
        line = "".join(f"{piece}{{{row.index(max(row))}}}"
                       for piece, row in zip(told["pieces"], gates))
        self.assertIn(line, table)
        last = table.splitlines()[-1].split()
        self.assertEqual(last[:2], [str(len(gates) - 1), str(told["tokens"][-1])])
        self.assertEqual(last[-3:], [f"{gate:.3f}" for gate in gates[-1]])

    def test_samples_are_told_one_by_one_also_with_gates_per_document(self):
        write_lines(self.world.root / "two.jsonl", [
            {"prompt": "ab", "completion": "c", "task": "first"},
            {"prompt": "day", "completion": "s"}])
        for scope in ("token", "prompt_mean"):
            run = f"r/{scope}"
            self.world.train(run, "--set", f"router.main.scope={scope}", "--set",
                             "data.prompts=plain")
            first, second = self.inspect(run, "--tokens", "two.jsonl")["tokens"]["texts"]
            self.assertEqual((first["where"], first["task"]), ("two.jsonl:1", "first"))
            self.assertEqual(second["where"], "two.jsonl:2")
            self.assertNotIn("task", second)
            gates = numpy.array(first["gates"]["mean"])
            self.assertEqual(len(gates), len(first["tokens"]))
            self.assertEqual(bool(numpy.ptp(gates, axis=0).max() == 0), scope == "prompt_mean")

    def test_gates_of_heads_stand_beside_them(self):
        told = self.inspect(self.attention_run(), "--tokens", self.text_file())["tokens"]
        heads = numpy.array(told["texts"][0]["head_gates"])
        self.assertEqual(heads.shape[1], 2)
        self.assertTrue(numpy.allclose(heads.mean(1), 1, atol=1e-5))
        self.assertEqual(told["routers"], [{"name": "mean"}])
        chosen = self.inspect("r/dfa", "--tokens", "text.txt", "--router", "1/heads")["tokens"]
        self.assertEqual(chosen["routers"], [{"name": "1/heads", "of_heads": True}])
        self.assertIn("| of heads", self.world.done("inspect", "r/dfa", "--tokens", "text.txt"))

    def test_what_cannot_be_told_is_refused(self):
        self.text_file()
        self.refused(2, "inspect", UNDISTURBED, "--tokens", "text.txt", "--router", "9/main",
                     says=["9/main", "nearest is"])
        self.refused(2, "inspect", UNDISTURBED, "--router", "0/main", says=["--tokens"])
        self.refused(2, "inspect", UNDISTURBED, "--tokens", "nowhere.txt", says=["nowhere.txt"])
        (self.world.root / "empty.txt").write_text("")
        self.refused(3, "inspect", UNDISTURBED, "--tokens", "empty.txt", says=["empty.txt"])
        (self.world.root / "latin.txt").write_bytes(b"caf\xe9")
        self.refused(3, "inspect", UNDISTURBED, "--tokens", "latin.txt")
        self.world.train("r/alone", "--set", "adapter.main.experts=1", "--steps", 0)
        self.refused(2, "inspect", "r/alone", "--tokens", "text.txt", says=["no router"])


CASES = [Heads, Data, Tokens]

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], CASES))
