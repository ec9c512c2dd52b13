"""`dfmoa eval` as people use it: figures per task, results.json, lines that were passed over,
multiple choice, other gates, forgetting.

usage: eval_test.py DFMOA MPIEXEC [CASE ...]
"""

import json
import math
import sys

from cli_fixture import UNDISTURBED, CliTest, main, write_lines


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


NAMED = [{"instruction": f"Is {i} even?\n\nAnswer format: true/false", "input": "",
          "output": f"the correct answer is {answer}", "answer": answer}
         for i, answer in enumerate(["true", "false"] * 3)]
LISTED = [{"prompt": f"{i} + 1 =", "choices": [" 0", f" {i + 1}", " none"], "answer": 1}
          for i in range(5)]


class Choices(CliTest):
    def setUp(self):
        folder = self.world.root / "even"
        folder.mkdir(exist_ok=True)
        (folder / "test.json").write_text(json.dumps(NAMED, indent=1), encoding="utf-8")
        write_lines(self.world.root / "sums.jsonl", LISTED)

    def eval(self, *options, model=UNDISTURBED):
        return json.loads(self.world.done("eval", model, "--json", *options))

    def samples(self, *options, model=UNDISTURBED):
        self.eval("--log-samples", "samples.jsonl", *options, model=model)
        lines = (self.world.root / "samples.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def test_files_of_both_shapes_are_tasks_with_their_figures(self):
        said = self.eval("--choices", "even/test.json", "--choices", "sums.jsonl")
        self.assertEqual(set(said), {"model", "tasks", "total"})
        self.assertEqual({name: task["items"] for name, task in said["tasks"].items()},
                         {"even": 6, "sums": 5})
        for figures in (*said["tasks"].values(), said["total"]):
            self.assertEqual(set(figures), {"items", "acc", "acc_norm", "stderr"})
            p, n = figures["acc"], figures["items"]
            self.assertAlmostEqual(figures["stderr"], math.sqrt(p * (1 - p) / n), places=12)
        self.assertEqual(said["total"]["items"], 11)
        right = sum(task["acc"] * task["items"] for task in said["tasks"].values())
        self.assertAlmostEqual(said["total"]["acc"], right / 11, places=12)

    def test_logged_samples_give_the_figures_again(self):
        options = ("--choices", "mine=sums.jsonl", "--choices", "even/test.json")
        said, samples = self.eval(*options)["tasks"], self.samples(*options)
        self.assertEqual([(line["task"], line["item"]) for line in samples],
                         [("mine", i + 1) for i in range(5)] + [("even", i + 1) for i in range(6)])
        self.assertEqual(samples[1]["where"], "sums.jsonl:2")
        self.assertEqual(samples[6]["where"], "even/test.json:item 2")
        self.assertEqual(samples[0]["bytes"], [2, 2, 5])
        for task, figures in said.items():
            mine = [line for line in samples if line["task"] == task]
            for line in mine:
                likelihood = line["log_likelihood"]
                per_byte = [a / b for a, b in zip(likelihood, line["bytes"])]
                self.assertEqual(line["chosen"], likelihood.index(max(likelihood)))
                self.assertEqual(line["chosen_norm"], per_byte.index(max(per_byte)))
            for key, chosen in (("acc", "chosen"), ("acc_norm", "chosen_norm")):
                share = sum(line[chosen] == line["answer"] for line in mine) / len(mine)
                self.assertAlmostEqual(figures[key], share, places=12)

    def test_limit_takes_the_first_items_of_each_file(self):
        options = ("--choices", "even/test.json", "--choices", "sums.jsonl")
        few = self.samples(*options, "--limit", 2)
        whole = self.samples(*options)
        self.assertEqual([line["where"] for line in few],
                         ["even/test.json:item 1", "even/test.json:item 2", "sums.jsonl:1",
                          "sums.jsonl:2"])
        for line in few:
            same = next(one for one in whole if one["where"] == line["where"])
            for a, b in zip(line["log_likelihood"], same["log_likelihood"]):
                self.assertAlmostEqual(a, b, places=4)  # the rows are other ones

    def test_a_template_or_plain_and_documents_beside(self):
        chat, plain = (self.samples("--choices", "sums.jsonl", *options)
                       for options in ((), ("--plain",)))
        self.assertNotEqual(chat[0]["log_likelihood"], plain[0]["log_likelihood"])
        said = self.eval("--choices", "sums.jsonl", "--data", "train.jsonl", "--output", "r.json")
        self.assertEqual(set(said["tasks"]), {"add", "echo", "sums"})
        self.assertEqual(said["total"]["items"], 24)
        found = json.loads((self.world.root / "r.json").read_text())["results"]["sums"]
        for key, name in (("acc", "acc,none"), ("acc_norm", "acc_norm,none"),
                          ("stderr", "acc_stderr,none")):
            self.assertEqual(found[name], said["tasks"]["sums"][key])
        table = self.world.done("eval", UNDISTURBED, "--choices", "sums.jsonl")
        self.assertRegex(table, r"\nsums +5 +[01]\.\d{3} \+- 0\.\d{3} +[01]\.\d{3} \+- ")

    def test_broken_items_and_wrong_words_are_refused(self):
        lines = self.world.root / "broken.jsonl"
        write_lines(lines, [LISTED[0], {**LISTED[1], "answer": 3}])
        self.refused(3, "eval", "base", "--choices", "broken.jsonl",
                     says=["broken.jsonl:2: ", "answer", "0 to 2"])
        (self.world.root / "broken.json").write_text(json.dumps([NAMED[0], {"instruction": "x"}]))
        self.refused(3, "eval", "base", "--choices", "broken.json", says=["broken.json:item 2: "])
        (self.world.root / "broken.json").write_text(json.dumps(NAMED)[:-9])
        self.refused(3, "eval", "base", "--choices", "broken.json", says=["broken.json:byte "])
        write_lines(lines, [{"prompt": "x" * 4000, "choices": ["a", "b"], "answer": 0}])
        self.refused(3, "eval", "base", "--choices", "broken.jsonl",
                     says=["broken.jsonl:1: ", "positions"])
        write_lines(lines, [{**LISTED[0], "task": "add"}])
        self.refused(3, "eval", "base", "--choices", "broken.jsonl", "--data", "train.jsonl",
                     says=["broken.jsonl:1: ", "task add"])
        for options, words in ((("--choices", "nowhere.json"), ["nowhere.json"]),
                               (("--limit", 3), ["--limit", "--choices"]),
                               (("--log-samples", "s"), ["--log-samples", "--choices"]),
                               (("--choices", "sums.jsonl", "--exact-match"), ["--data FILE"]),
                               (("--choices", "sums.jsonl", "--limit", -1), ["--limit -1"])):
            self.refused(2, "eval", "base", *options, says=words)


class Gates(CliTest):
    def eval(self, *options, model=UNDISTURBED):
        return json.loads(self.world.done("eval", model, "--json", "--data", "train.jsonl",
                                          *options))

    def test_other_gates_change_the_loss_and_the_load(self):
        soft = self.eval()
        self.assertNotIn("gates", soft)
        self.assertEqual(self.eval("--gates", "soft"), soft)
        loss = {}
        for gates in ("topk", "topk:1", "top1", "topk:3", "mean", "expert:0", "expert:2"):
            said = self.eval("--gates", gates)
            self.assertEqual(said["gates"], gates)
            loss[gates] = said["total"]["ce"]
            for load in said["load"].values():
                self.assertAlmostEqual(sum(load), 1, places=5)
        self.assertAlmostEqual(loss.pop("topk:3"), soft["total"]["ce"], places=5)
        self.assertEqual(loss["topk:1"], loss["top1"])
        self.assertEqual(len({soft["total"]["ce"], *loss.values()}), 6, loss)
        said = self.eval("--gates", "expert:2")
        for load in said["load"].values():
            self.assertAlmostEqual(load[2], 1, places=5)
        self.assertAlmostEqual(self.eval("--gates", "mean")["mutual_information"], 0, places=6)

    def test_gates_that_are_not_there_are_refused(self):
        for model, gates, words in ((UNDISTURBED, "expert:3", ["3 experts", "0 to 2"]),
                                    (UNDISTURBED, "topk:4", ["3 experts", "at most 3"]),
                                    (UNDISTURBED, "hard", ["hard", "expert:I"]),
                                    ("base", "top1", ["no router"])):
            self.refused(2, "eval", model, "--data", "train.jsonl", "--gates", gates, says=words)
            self.refused(2, "generate", model, "-p", "x", "--gates", gates, says=words)

    def test_generation_runs_under_them(self):
        def gates(kind):
            said = self.world.done("generate", UNDISTURBED, "-p", "3 + 1 =", "--tokens", 4,
                                   "--greedy", "--json", "--show-gates", "--gates", kind)
            return json.loads(said)["gates"]
        for row in gates("expert:1"):
            self.assertAlmostEqual(row[1], 1, places=5)
            self.assertAlmostEqual(row[0], 0, places=5)
        mean = gates("mean")
        self.assertEqual(len(mean), 4)
        for row in mean:
            self.assertEqual(row, mean[0])


class Forgetting(CliTest):
    def test_base_and_model_are_compared_on_the_same_text(self):
        write_lines(self.world.root / "base_text.jsonl",
                    [{"text": f"the {i}th line of some text"} for i in range(9)])

        def ask(model):
            return json.loads(self.world.done("eval", model, "--forgetting", "base_text.jsonl",
                                              "--json"))
        said, base = ask(UNDISTURBED), ask("base")
        self.assertEqual(set(said), {"model", "tasks", "forgetting"})
        found = said["forgetting"]
        self.assertEqual(set(found), {"base_perplexity", "perplexity", "tokens"})
        self.assertEqual(found["base_perplexity"], base["forgetting"]["perplexity"])
        self.assertNotEqual(found["base_perplexity"], found["perplexity"])
        for model, key in (("base", "base_perplexity"), (UNDISTURBED, "perplexity")):
            total = json.loads(self.world.done("eval", model, "--data", "base_text.jsonl",
                                               "--json"))["total"]
            self.assertEqual(found["tokens"], total["tokens"])
            self.assertAlmostEqual(found[key], total["perplexity"], places=6)
        self.world.train("r/before", "--steps", 0)
        untrained = ask("r/before")["forgetting"]
        self.assertAlmostEqual(untrained["perplexity"], untrained["base_perplexity"], places=4)
        table = self.world.done("eval", UNDISTURBED, "--forgetting", "base_text.jsonl")
        self.assertRegex(table, r"forgetting, \d+ tokens +base +this model\nperplexity +\d+\.\d+ ")

    def test_a_plain_text_is_read_whole_also_by_span_gates(self):
        text = self.world.root / "base.txt"
        text.write_text("Some text of the base's own kind, é. " * 40, encoding="utf-8")
        size = len(text.read_bytes())
        self.world.train("r/span", "--set", "router.main.scope=span", "--steps", 2)
        for model, high in ((UNDISTURBED, size), ("r/span", size // 2)):
            said = json.loads(self.world.done("eval", model, "--forgetting", "base.txt", "--json"))
            self.assertGreaterEqual(said["forgetting"]["tokens"], high - 2)
            self.assertLessEqual(said["forgetting"]["tokens"], high)
        self.refused(2, "eval", "base", "--forgetting", "nowhere.txt", says=["nowhere.txt"])
        write_lines(self.world.root / "no_text.jsonl", [{"text": "a"}, {"prompt": "a"}])
        self.refused(3, "eval", "base", "--forgetting", "no_text.jsonl", says=["no_text.jsonl:2"])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    cases = sys.argv[3:] or ["Eval", "Choices", "Gates", "Forgetting"]
    sys.exit(main(sys.argv[1], sys.argv[2], [globals()[case] for case in cases]))
