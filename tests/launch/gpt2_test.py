"""A GPT-2 from its first weights to a trained, resumed and evaluated run.

usage: gpt2_test.py DFMOA MPIEXEC
"""

import json
import math
import sys

from cli_fixture import CliTest, main, read_safetensors

MODEL = ["--set", "model.path=gpt2", "--set", "adapter.main.sites=all",
         "--set", "rank.main.budget=0"]


class Gpt2(CliTest):
    @classmethod
    def setUpClass(cls):
        cls.world.done("init-model", "--family", "gpt2", "--hidden", 36, "--heads", 9,
                       "--max-positions", 96, "gpt2")
        cls.world.done("convert", "gpt2", "gpt2_nf4", "--nf4")
        cls.world.train("r/gpt2", *MODEL)

    def eval(self, model):
        return json.loads(self.world.done("eval", model, "--data", "train.jsonl", "--json"))

    def test_training_lowers_the_loss_of_an_untouched_base(self):
        before = read_safetensors(self.world.root / "gpt2")
        self.world.train("r/start", *MODEL, "--steps", 0)
        start, base, trained = (self.eval(model)["total"]["ce"]
                                for model in ("r/start", "gpt2", "r/gpt2"))
        self.assertAlmostEqual(start, base, places=6)
        self.assertLess(trained, base - 0.05)
        self.assertEqual(read_safetensors(self.world.root / "gpt2"), before)

    def test_a_resumed_run_equals_the_undisturbed_one(self):
        self.world.train("r/halves", *MODEL, "--steps", 3)
        self.world.train("r/halves", *MODEL, "--resume", "auto")
        said = json.loads(self.world.done("inspect", "r/gpt2", "--diff", "r/halves", "--json"))
        self.assertTrue(said["identical"])

    def test_every_linear_that_it_has_is_adapted(self):
        said = json.loads(self.world.done("inspect", "r/gpt2", "--ranks", "--json"))
        sites = {site["name"].split("/")[2] for site in said["sites"]}
        self.assertEqual(sites, {"q", "k", "v", "o", "up", "down"})
        self.refused_training(2, *MODEL, "--set", "adapter.main.sites=q,gate",
                              says=["adapter.main.sites", "'gate' matches no linear"])

    def test_inspect_tells_dense_and_quantised_models(self):
        dense, nf4 = (json.loads(self.world.done("inspect", name, "--json"))
                      for name in ("gpt2", "gpt2_nf4"))
        header = read_safetensors(self.world.root / "gpt2")[0]
        shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
        for said in (dense, nf4):
            self.assertEqual(said["parameters"], sum(math.prod(shape) for shape in shapes))
            self.assertEqual({key: said["architecture"][key]
                              for key in ("model_type", "heads", "kv_heads", "intermediate",
                                          "max_positions", "rope")},
                             {"model_type": "gpt2", "heads": 9, "kv_heads": 9, "intermediate": 144,
                              "max_positions": 96, "rope": "none"})
        self.assertEqual(nf4["quantisation"],
                         {"kind": "nf4", "linears": 8, "block": 64, "double": False})
        self.assertLess(nf4["bytes"], dense["bytes"])

    def test_the_quantised_model_trains_and_generates(self):
        nf4 = [*MODEL, "--set", "model.path=gpt2_nf4"]
        stored = self.world.train("r/stored", *nf4)
        made = self.world.train("r/made", *MODEL, "--set", "model.quantize=nf4")
        self.assertEqual(stored["parameters_hash"], made["parameters_hash"])
        text = self.world.done("generate", "r/stored", "-p", "1 + 1 =", "--tokens", 5, "--greedy")
        self.assertEqual(text, self.world.done("generate", "r/made", "-p", "1 + 1 =", "--tokens", 5,
                                               "--greedy"))

    def test_texts_and_prompts_beyond_its_positions_are_refused(self):
        (self.world.root / "long.jsonl").write_text(json.dumps({"text": "a" * 96}) + "\n")
        self.refused(3, "eval", "gpt2", "--data", "long.jsonl", says=["long.jsonl:1", "96"])
        self.refused_training(3, *MODEL, "--set", "data.train=long.jsonl",
                              "--set", "train.tokens=128", says=["long.jsonl:1"],
                              after_start=True)
        self.refused(3, "generate", "gpt2", "--plain", "-p", "a" * 96, "--tokens", 1, says=["96"])

    def test_what_gpt2_does_not_have_is_refused(self):
        for option in (["--kv-heads", 2], ["--qkv-bias"], ["--llama3-scaling"], ["--head-dim", 8]):
            self.refused(2, "init-model", "--family", "gpt2", *option, "refused", says=["gpt2"])
        self.assertFalse((self.world.root / "refused").exists())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], [Gpt2]))
