"""`dfmoa bench`: what it prints and refuses. Nothing here judges a time.

Usage: bench_test.py PROGRAM MPIEXEC
"""

import json
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cli_fixture import CliTest, main  # noqa: E402

QUICK = ("--json", "--samples", 3, "--warm-up", 0, "--threads", 1)


class Bench(CliTest):
    def bench(self, *options):
        return json.loads(self.world.done("bench", *options, *QUICK))

    def test_one_measurement_prints_machine_limits_and_every_raw_sample(self):
        said = self.bench("--one", "G11")
        self.assertEqual(said["machine"]["threads"], 1)
        self.assertGreater(said["limits"]["copy_bytes_per_s"], 1e8)
        self.assertGreater(said["limits"]["mm_flops_per_s"], 1e8)
        bar, = said["bars"]
        self.assertEqual((bar["id"], bar["unit"], len(bar["samples"])), ("G11", "s", 3))
        self.assertEqual(bar["value"], statistics.median(bar["samples"]))
        self.assertGreaterEqual(bar["peak_bytes"], bar["extra_bytes"])
        self.assertIsNone(bar["bar"])

    def test_a_ratio_of_its_own_is_judged_against_its_bar(self):
        share, seconds = self.bench("--one", "G8.bf16")["bars"]
        self.assertEqual((share["id"], share["unit"], share["bar"]), ("G8.bf16", "ratio", 0.75))
        self.assertEqual((seconds["id"], seconds["unit"]), ("G9.bf16", "s"))
        self.assertEqual(statistics.median(seconds["samples"]), seconds["value"])

    def test_whole_steps_run_on_a_model_in_both_memory_forms(self):
        for form in ("keep", "recompute"):
            step, share = self.bench("--one", f"G6a.{form}", "--model", "base",
                                     "--tokens", 32)["bars"]
            self.assertEqual(step["id"], f"G6a.{form}")
            self.assertGreater(step["value"], 0)
            self.assertGreater(share["value"], 0)
            self.assertEqual(share["bar"], 0.75 if form == "keep" else None)
        frozen, = self.bench("--one", "frozen", "--model", "base", "--tokens", 32)["bars"]
        self.assertGreater(frozen["value"], 0)

    def test_every_system_is_measured_over_the_frozen_base(self):
        bars = {bar["id"]: bar for bar in self.bench("--one", "systems", "--model", "base",
                                                     "--tokens", 32)["bars"]}
        for name in ("softmax", "threshold", "sparsegen", "softmax_prompt_mean", "shared_a",
                     "heterogeneous", "dfa"):
            self.assertGreater(bars[f"systems.{name}"]["value"], 0)
        self.assertEqual(bars["systems.threshold.router"]["bar"], 1.1)
        self.assertNotIn("systems.dfa.router", bars)

    def test_gates_of_attention_and_decoding_are_ratios(self):
        gates, = self.bench("--one", "G18")["bars"]
        self.assertEqual((gates["unit"], gates["bar"]), ("ratio", 1.15))
        ratio, rate = self.bench("--one", "decode", "--model", "base")["bars"]
        self.assertAlmostEqual(ratio["value"], ratio["samples"][1] / ratio["samples"][0])
        self.assertAlmostEqual(rate["value"], 256 / rate["samples"][0])

    def test_documents_come_from_a_file(self):
        bar, = self.bench("--one", "G6b", "--model", "base", "--data", "train.jsonl")["bars"]
        self.assertGreater(bar["value"], 0)
        self.assertIn("train.jsonl", bar["what"])

    def test_list_names_what_can_be_measured(self):
        said = self.world.done("bench", "--list")
        for name in ("G2.d576", "G8.fp32", "G10", "G11", "G14.v49152", "G6a.keep", "G6b"):
            self.assertIn(f"\n{name} ", "\n" + said)
        self.assertIn("needs --model", said)

    def test_what_cannot_be_measured_is_refused(self):
        self.refused(2, "bench", "--one", "G6a.kep", says=["G6a.kep", "G6a.keep"])
        self.refused(2, "bench", "--one", "G6a.keep", says=["--model DIR"])
        self.refused(2, "bench", "--one", "G6b", "--model", "base", says=["--data FILE"])
        self.refused(2, "bench", "--one", "G10", "--samples", 0, says=["--samples 0"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], [Bench]))
