"""The shipped configurations on tiny models of their families."""

import json

from cli_fixture import CliTest, write_lines

STEPS = 8
SMALL = {"train.steps": STEPS, "train.tokens": 96, "train.micro_batches": 2, "data.eval": "",
         "checkpoint.every": 4, "log.tensorboard": "false"}


def instructions(count=24):
    return [{"task": ("add", "echo")[i % 2], "instruction": "say the next number",
             "input": f"{i}", "output": str(i + 1)} for i in range(count)]


class ConfigurationsTest(CliTest):
    """Tests that train shipped configurations."""

    @classmethod
    def setUpClass(cls):
        world = cls.world
        world.done("init-model", "--family", "gpt2", "--hidden", 36, "--heads", 9,
                   "--max-positions", 96, "gpt2")
        for base in ("base", "gpt2"):  # every configuration quantises its base
            world.done("convert", base, f"{base}_nf4", "--nf4")
        write_lines(world.root / "instructions.jsonl", instructions())
        write_lines(world.root / "text.jsonl",
                    [{"text": f"{i} and {i + 1} and {i + 2}, and so on. " * 3} for i in range(12)])
        cls.names = [name.removesuffix(".ini") for name in world.done("configs", "list").split()]
        for name in cls.names:
            world.done("configs", "copy", f"{name}.ini", f"{name}.ini")

    def small(self, name):
        """Options that put a configuration on the tiny world."""
        text = (self.world.root / f"{name}.ini").read_text(encoding="utf-8")
        is_gpt2 = "gpt2_small" in text
        reads_text = "train = data/text.jsonl" in text
        keys = {**SMALL, "model.path": "gpt2" if is_gpt2 else "base",
                "data.train": "text.jsonl" if reads_text else "instructions.jsonl"}
        for line in text.splitlines():
            if line.startswith("[rank.") and f"{line}\nkind = literal" not in text:
                keys[f"{line[1:-1]}.budget"] = 40
        return [part for key, value in keys.items() for part in ("--set", f"{key}={value}")]

    def train(self, name, folder, *options, launcher=()):
        result = self.world.run("train", "-c", f"{name}.ini", "--run", folder, "--json",
                                *self.small(name), *options, launcher=launcher)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout), result.stderr
