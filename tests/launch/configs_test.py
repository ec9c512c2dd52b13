"""Every shipped configuration on a tiny model of its family: it learns, resumes and generates.

usage: configs_test.py DFMOA MPIEXEC
"""

import json
import sys

from cli_fixture import main
from configs_fixture import STEPS, ConfigurationsTest


class Configurations(ConfigurationsTest):
    def test_the_systems_and_their_published_forms_are_there(self):
        systems = ["df_moa", "adamole", "moa_soft", "moa_sparse", "gate_conditioned", "gpt2_dfa",
                   "dfa_smollm2"]
        self.assertEqual(self.names, sorted(["dfmoa_smollm2", *systems,
                                             *(f"{name}_literal" for name in systems)]))

    def test_each_learns_resumes_bit_for_bit_and_generates(self):
        for name in self.names:
            with self.subTest(name):
                whole, said = self.train(name, f"r/{name}")
                self.assertEqual("as published: " in said, name.endswith("_literal"), said)
                ce = self.world.metrics(f"r/{name}", "train/ce")
                self.assertLess(min(ce[STEPS], ce[STEPS - 1]), ce[1])
                self.train(name, f"r/{name}_halves", "--steps", 3)
                resumed, _ = self.train(name, f"r/{name}_halves", "--resume", "auto")
                self.assertEqual(resumed["parameters_hash"], whole["parameters_hash"])
                text = self.world.done("generate", f"r/{name}", "-p", "say the next number",
                                       "--tokens", 4, "--greedy", "--show-gates", "--json")
                said = json.loads(text)  # it may end its answer early, as it was taught
                self.assertEqual(len(said["gates"]), len(said["tokens"]))

    def test_each_starts_as_its_base_unless_it_replaces_attention_or_scales_logits(self):
        for name in self.names:
            with self.subTest(name):
                self.train(name, f"r/{name}_start", "--steps", 0)
                data = "text.jsonl" if name.startswith("gpt2") else "instructions.jsonl"
                base = "gpt2" if name.startswith("gpt2") else "base"
                start, plain = (
                    json.loads(self.world.done("eval", model, "--data", data, "--json"))
                    ["total"]["ce"] for model in (f"r/{name}_start", f"{base}_nf4"))
                if name in ("gpt2_dfa_literal", "dfa_smollm2_literal", "gate_conditioned_literal"):
                    self.assertGreater(abs(start - plain), 1e-4)
                else:
                    self.assertAlmostEqual(start, plain, places=6)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], [Configurations]))
