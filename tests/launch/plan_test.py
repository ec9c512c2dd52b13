"""What `plan` predicts of a run: of a folder with config.json alone, and equal to what runs count.

usage: plan_test.py DFMOA MPIEXEC
"""

import json
import sys

from cli_fixture import CliTest, main

PARTS = ["base", "adapters", "lent", "messages", "activations", "scratch", "head", "program",
         "slack", "sums"]
LARGE = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
         "vocab_size": 128256, "max_position_embeddings": 8192}


class Plans(CliTest):
    def plan(self, processes, *keys, options=()):
        settings = [part for key in keys for part in ("--set", key)]
        return json.loads(self.world.done("plan", "-c", "a.ini", "--processes", processes, "--json",
                                          *settings, *options))

    def shapes(self, name, **more):
        """A folder that holds a config.json and nothing else."""
        folder = self.world.root / name
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({**LARGE, **more}), encoding="utf-8")
        return f"model.path={folder}"

    def test_a_run_counts_what_was_predicted(self):
        for number, keys in enumerate([
                [], ["train.memory=recompute"],
                ["parallel.expert=2", "parallel.transport=move_weights"],
                ["parallel.expert=2", "train.memory=recompute", "train.micro_batches=3"]]):
            plan = self.plan(2, *keys)
            folder = f"r/planned{number}"
            settings = [part for key in keys for part in ("--set", key)]
            # Before the rank cut: afterwards less travels.
            self.world.train(folder, "--steps", 2, *settings, launcher=self.world.mpi(2))
            for key, figure in (("comm/bytes", "bytes"), ("comm/sent_bytes", "sent_bytes")):
                counted = self.world.metrics(folder, key)
                self.assertEqual(counted, {1: plan[figure], 2: plan[figure]}, (keys, key))
            self.assertGreater(self.world.metrics(folder, "time/comm_s")[2], 0)
            self.assertEqual(sum(one["bytes"] for one in plan["traffic"]), plan["bytes"])

    def test_a_run_says_its_plan_first_and_what_came_of_it_last(self):
        result = self.world.run("train", "-c", "a.ini", "--run", "r/told", "--steps", 1, "--set",
                                "parallel.expert=2", launcher=self.world.mpi(2))
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stderr.splitlines()
        self.assertRegex(lines[0], r"2 processes, mpi, on .*, EP 2 x 1, transport move_weights: "
                                   r"[\d.]+ kB per step, 1 threads each")
        self.assertRegex(lines[1], r"predicted memory of the fullest process: \d+ MB \(base .*, "
                                   r"adapters .*, slack ")
        table = result.stderr[result.stderr.index("plan against actual"):].splitlines()
        cells = [line.split() for line in table[1:6]]
        self.assertEqual([line[-1] for line in cells[1:3]],
                         [line[line.index("kB") + 1] for line in cells[1:3]])
        self.assertEqual(cells[4][:3], ["in", "collectives", "-"])

    def test_the_keys_of_the_json(self):
        plan = self.plan(4, "parallel.expert=2", "parallel.transport=move_tokens")
        self.assertEqual((plan["processes"], plan["transport"], plan["expert"]),
                         (4, "move_tokens", 2))
        self.assertEqual(sorted(plan["memory"]), sorted(PARTS))
        self.assertEqual(sum(plan["memory"].values()), plan["memory_bytes"])
        self.assertGreater(plan["flops"], 0)
        self.assertGreater(plan["seconds"], 0)
        self.assertTrue(plan["estimate"])
        layouts = [(one["transport"], one["expert"]) for one in plan["layouts"]]
        self.assertEqual(layouts, [("replicate", 1), ("move_weights", 2), ("move_tokens", 2)])

    def test_config_json_is_enough_and_gives_the_memory_of_a_large_model(self):
        llama = self.shapes("llama", quantization_config={"quant_method": "bitsandbytes"})
        plan = self.plan(8, llama, "adapter.main.sites=all", "train.memory=recompute")
        linears = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
        dense = 4 * (2 * 128256 * 4096 + 65 * 4096)
        self.assertEqual(plan["memory"]["base"], linears * 9 // 16 + dense)
        self.assertEqual(plan["memory"]["scratch"], 4 * 4096 * 14336)
        dense_plan = self.plan(8, self.shapes("dense"))
        self.assertEqual(dense_plan["memory"]["base"], 4 * linears + dense)
        self.assertEqual(dense_plan["memory"]["scratch"], 0)

    def test_few_experts_are_not_sharded_for_show_and_many_are(self):
        llama = self.shapes("llama", quantization_config={"quant_method": "bitsandbytes"})
        keys = [llama, "adapter.main.sites=all", "train.memory=recompute", "train.tokens=2048",
                "train.micro_batches=8", "adapter.main.experts=8", "adapter.main.rank=16"]
        few = self.plan(8, *keys)
        self.assertEqual(few["recommended"]["transport"], "replicate")
        self.assertIn("room for all experts", few["recommended"]["reason"])
        many = self.plan(8, *keys, "adapter.main.experts=64", "adapter.main.rank=64")
        self.assertEqual(many["recommended"]["transport"], "move_weights")
        self.assertIn("replicate needs", many["recommended"]["reason"])
        self.assertFalse(many["layouts"][0]["fits"])
        none = self.plan(8, *keys, options=("--memory-gib", 4))
        self.assertEqual(list(none["recommended"]), ["reason"])
        self.assertIn("none of these fits in 4.0 GiB", none["recommended"]["reason"])

    def test_sparse_gates_save_arithmetic_where_tokens_are_sent(self):
        llama = self.shapes("llama", quantization_config={"quant_method": "bitsandbytes"})
        keys = [llama, "adapter.main.sites=all", "train.memory=recompute", "train.tokens=2048",
                "train.micro_batches=8", "adapter.main.experts=64", "adapter.main.rank=64",
                "router.main.kind=topk", "router.main.top_k=2", "parallel.expert=8"]
        weights = self.plan(8, *keys, "parallel.transport=move_weights")
        tokens = self.plan(8, *keys, "parallel.transport=move_tokens")
        # Of 64 experts a process has 8; both that a token chooses are among the other 56, or not.
        arrive = 1 - 56 * 55 / (64 * 63)
        linears = 32 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))
        saved = 8 * 2048 * (64 * 64 * linears) * (1 - arrive)  # 8: forward twice, backward
        self.assertAlmostEqual((weights["flops"] - tokens["flops"]) / saved, 1, 9)
        self.assertEqual(tokens["recommended"]["transport"], "move_tokens")
        self.assertIn("fastest", tokens["recommended"]["reason"])

    def test_links_and_arithmetic_make_the_time(self):
        keys = [self.shapes("llama"), "parallel.expert=2"]
        slow = self.plan(4, *keys, options=("--tflops", 1, "--node-size", 1))
        self.assertGreater(slow["seconds"], slow["flops"] / 1e12)
        instant = ("--tflops", 1e6, "--latency-us", 0, "--node-latency-us", 0)
        wide = self.plan(4, *keys, options=(*instant, "--gbit", 8, "--node-size", 1))
        self.assertAlmostEqual(wide["seconds"], wide["sent_bytes"] / 1e9 + wide["flops"] / 1e18, 9)
        node = self.plan(4, *keys, options=(*instant, "--gbit", 8, "--node-gbit", 80))
        self.assertAlmostEqual(node["seconds"], node["sent_bytes"] / 1e10 + node["flops"] / 1e18, 9)

    def test_the_tables_for_people(self):
        text = self.world.done("plan", "-c", "a.ini", "--processes", 2)
        self.assertRegex(text, r"^2 processes, transport replicate: .* sent per step and process")
        for words in (*PARTS, "C2/sum", "move_tokens", "~", "recommended: transport replicate"):
            self.assertIn(words, text)

    def test_wrong_input_is_refused_in_a_sentence(self):
        def refused(*arguments, says, code=2):
            self.refused(code, "plan", *arguments, says=says)
        refused("--processes", 2, says=["-c FILE is missing"])
        refused("-c", "a.ini", says=["--processes P is missing"])
        refused("-c", "a.ini", "--processes", 0, says=["--processes 0", "expected from 1"])
        refused("-c", "a.ini", "--processes", -3, says=["--processes -3"])
        refused("-c", "nowhere.ini", "--processes", 2, says=["nowhere.ini"])
        refused("-c", "a.ini", "--processes", 4, "--set", "parallel.expert=3",
                says=["parallel.expert = 3", "divisor of the 4"])
        refused("-c", "a.ini", "--processes", 2, "--set", "model.path=nowhere",
                says=["nowhere"])
        refused("-c", "a.ini", "--processes", 2, "--set", "adapter.main.sites=nose",
                says=["nose"])
        refused("-c", "a.ini", "--processes", 2, "--gbit", 0, says=["gbit"])
        refused("-c", "a.ini", "--processes", 2, "--set", "parallel.heads=shard",
                says=["heads = shard"])
        refused("-c", "a.ini", "--processes", 2, "--set", "parallel.owners=0,7,0",
                "--set", "parallel.expert=2", says=["owners"])
        broken = self.world.root / "broken"
        broken.mkdir()
        (broken / "config.json").write_text("{", encoding="utf-8")
        refused("-c", "a.ini", "--processes", 2, "--set", f"model.path={broken}",
                says=["config.json"], code=3)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], [Plans]))
