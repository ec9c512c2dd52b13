"""`dfmoa eval` as people use it: figures per task, results.json, lines that were passed over.

usage: eval_test.py DFMOA MPIEXEC
"""

import json
import math
import sys

from cli_fixture import UNDISTURBED, CliTest, main


class Eval(CliTest):
    def test_eval_tells_every_task_and_the_total(self):
        arguments = ["--data", "train.jsonl", "--json"]
        said = json.loads(self.world.done("eval", UNDISTURBED, *arguments, "--exact-match",
                                          "--max-new-tokens", 2))
        self.assertEqual(said["model"], UNDISTURBED)
        self.assertEqual(set(said["tasks"]), {"add", "echo"})
        for figures in said["tasks"].values():
            self.assertEqual(set(figures), {"ce", "perplexity", "tokens", "items", "exact_match",
                                            "stderr"})
            self.assertEqual(figures["items"], 12)
            self.assertAlmostEqual(figures["perplexity"], math.exp(figures["ce"]), places=6)
        total = said["total"]
        for key in ("items", "tokens"):
            self.assertEqual(total[key], sum(task[key] for task in said["tasks"].values()))
        mean = sum(t["ce"] * t["tokens"] for t in said["tasks"].values()) / total["tokens"]
        self.assertAlmostEqual(total["ce"], mean, places=9)
        plain = json.loads(self.world.done("eval", UNDISTURBED, *arguments))
        self.assertNotIn("exact_match", plain["total"])
        self.assertEqual(plain["total"]["ce"], total["ce"])

    def test_untrained_adapters_are_the_base_model_and_training_lowers_its_loss(self):
        self.world.train("r/start", "--steps", 0)
        start, base, trained = (
            json.loads(self.world.done("eval", model, "--data", "train.jsonl", "--json"))["total"]
            for model in ("r/start", "base", UNDISTURBED))
        self.assertAlmostEqual(start["ce"], base["ce"], places=6)
        self.assertLess(trained["ce"], base["ce"] - 0.05)

    def test_results_are_also_written_in_the_shape_of_lm_eval(self):
        arguments = ["eval", UNDISTURBED, "--data", "train.jsonl", "--exact-match",
                     "--max-new-tokens", 2]
        said = json.loads(self.world.done(*arguments, "--json", "--output", "results.json"))
        results = json.loads((self.world.root / "results.json").read_text())
        self.assertEqual(set(results["results"]), set(said["tasks"]))
        for task, figures in said["tasks"].items():
            found = results["results"][task]
            self.assertEqual(found["alias"], task)
            for key, name in (("ce", "ce,none"), ("perplexity", "perplexity,none"),
                              ("exact_match", "exact_match,none"),
                              ("stderr", "exact_match_stderr,none")):
                self.assertEqual(found[name], figures[key])
            self.assertEqual(results["n-samples"][task], {"original": 12, "effective": 12})

    def test_lines_that_were_passed_over_are_told(self):
        self.world.train("r/skipping", "--set", "data.skip_bad_lines=true", "--steps", 1)
        path = self.world.root / "half_broken.jsonl"
        path.write_text('{"text": "a"}\n{broken\n{"text": "b"}\n')
        done = self.world.run("eval", "r/skipping", "--data", "half_broken.jsonl")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("1 broken lines were passed over", done.stderr)

    def test_held_out_data_is_read_before_anything_is_trained(self):
        (self.world.root / "broken.jsonl").write_text('{"text": "a"}\n{broken\n')
        self.refused_training(3, "--set", "data.eval=broken.jsonl", "--set",
                              "train.evaluate_every=2", says=["broken.jsonl:2"])
        self.refused_training(3, "--set", "data.eval=broken.jsonl", "--set",
                              "train.evaluate_every=2", "--dry-run", says=["broken.jsonl:2"])

    def test_an_instruction_is_asked_as_it_was_trained(self):
        def ids(*options):
            said = self.world.done("generate", UNDISTURBED, "-p", "add one", "--tokens", 1,
                                   "--greedy", "--json", *options)
            return json.loads(said)["prompt_tokens"]
        plain, chat = ids("--plain"), ids()
        both = ids("--instruction", "--input", "5")
        self.assertEqual(bytes(plain).decode(), "add one")
        self.assertNotEqual(chat, both)
        self.assertGreater(len(ids("--system", "be brief")), len(chat))
        self.refused(2, "generate", UNDISTURBED, "-p", "x", "--plain", "--input", "5",
                     says=["--input", "--plain"])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], [Eval]))
