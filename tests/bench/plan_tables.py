"""The tables of docs/scaling.md, from `dfmoa plan`.

usage: plan_tables.py --program DFMOA
"""

import argparse
import json
import pathlib
import subprocess
import tempfile

MODELS = {"Llama-3-8B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                         "num_attention_heads": 32},
          "Llama-3-70B": {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
                          "num_attention_heads": 64}}
SHARED = {"model_type": "llama", "num_key_value_heads": 8, "vocab_size": 128256,
          "max_position_embeddings": 8192}
CONFIG = """[model]
path = {model}
quantize = nf4
[adapter.main]
sites = all
experts = {experts}
rank = {rank}
router = main
[router.main]
kind = topk
top_k = 2
[train]
memory = recompute
tokens = 4096
"""
PARTS = ("base", "adapters", "lent", "messages", "sums", "activations", "scratch", "head",
         "program", "slack")


class Plans:
    def __init__(self, program, root):
        self.program, self.root = program, pathlib.Path(root)
        for name, shape in MODELS.items():
            folder = self.root / name
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps({**SHARED, **shape}), encoding="utf-8")

    def ask(self, model, experts, rank, processes, transport="auto", expert=1):
        file = self.root / "plan.ini"
        file.write_text(CONFIG.format(model=self.root / model, experts=experts, rank=rank),
                        encoding="utf-8")
        line = [self.program, "plan", "-c", file, "--processes", processes, "--json"]
        for key, value in {"train.micro_batches": processes, "parallel.transport": transport,
                           "parallel.expert": expert}.items():
            line += ["--set", f"{key}={value}"]
        return json.loads(subprocess.run(list(map(str, line)), check=True, capture_output=True,
                                         text=True).stdout)


def layouts_shown(plan, processes, experts):
    """Replicate, a node's eight processes, the recommended, and all 64 where experts are many."""
    best = (plan["recommended"].get("transport"), plan["recommended"].get("expert"))
    for layout in plan["layouts"]:
        key = (layout["transport"], layout["expert"])
        shown = (key[0] == "replicate" or key == best or key[1] == 8 or
                 (key[1] == 64 and experts == 64 and processes >= 64))
        if shown:
            yield layout, key == best


def print_layouts(plans, model, experts, rank):
    print(f"\n### {model}, {experts} experts of rank {rank}\n")
    print("| P | transport | EP | GiB | sent | s a step |\n|---|---|---|---|---|---|")
    for processes in (8, 64, 256, 1024):
        plan = plans.ask(model, experts, rank, processes)
        for layout, is_best in layouts_shown(plan, processes, experts):
            gib = layout["memory_bytes"] / 2**30
            memory = f"{gib:,.1f}" if layout["fits"] else f"{gib:,.0f}, no"
            sent = f"{layout['sent_bytes'] / 1e9:,.1f} GB" + ("~" if layout["estimate"] else "")
            print(f"| {processes:,} | {layout['transport']}{' *' if is_best else ''} | "
                  f"{layout['expert']} | {memory} | {sent} | {layout['seconds']:.1f} |")


def print_memory(plans):
    print("\n| model, experts of rank | transport, EP | " + " | ".join(PARTS) + " |")
    print("|---" * (len(PARTS) + 2) + "|")
    for model in MODELS:
        for experts, rank in ((8, 16), (64, 64)):
            for transport, expert in (("replicate", 1), ("move_weights", 8), ("move_tokens", 8)):
                memory = plans.ask(model, experts, rank, 64, transport, expert)["memory"]
                cells = " | ".join(f"{memory[part] / 1e9:.1f}" for part in PARTS)
                print(f"| {model.removeprefix('Llama-3-')}, {experts} of {rank} | "
                      f"{transport}, {expert} | {cells} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        plans = Plans(options.program, root)
        for model in MODELS:
            for experts, rank in ((8, 16), (64, 64)):
                print_layouts(plans, model, experts, rank)
        print_memory(plans)


if __name__ == "__main__":
    main()
