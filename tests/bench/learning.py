#!/usr/bin/env python3
"""What each system learns at equal trainable parameters and equal data order, beside LoRA.

    tests/bench/learning.py DFMOA FOLDER --out runs/learning [--seeds 3] [--jobs 2] [--only NAME...]

FOLDER holds model/ (a small pre-trained LLaMA), train_seed0.jsonl ... (one order of the data per
seed, taken as it stands; more seeds than orders take them again with another initialisation) and
eval.jsonl; lines name a "task". Every method runs the same grid of
(scale, learning rate) on every seed; the table shows each method at the point of the grid with the
lowest mean cross-entropy, and its difference on the same seeds to the better of LoRA and rsLoRA,
which are one method on two parts of the grid. Results are kept in
OUT/results.jsonl: a second call only runs what is missing. The table goes to stdout in Markdown.
"""

import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

SITES = "q, k, v, o, gate, up, down"
COMMON = {
    "model.quantize": "nf4", "data.order": "file", "train.documents": 30, "train.tokens": 1024,
    "train.micro_batches": 1, "train.steps": 120, "train.warmup": 20, "train.final_rate": 0.1,
    "train.beta2": 0.99, "checkpoint.every": 0, "log.tensorboard": "false", "log.every": 1000,
}
LORAS = ("LoRA", "rsLoRA")
ALPHAS = (16, 32)
RATES = (3e-3, 6e-3)


def mixture(experts=4, rank=2, router="main", **router_keys):
    """LoRA experts on all linears behind one router."""
    keys = {"adapter.mix.sites": SITES, "adapter.mix.experts": experts, "adapter.mix.rank": rank,
            "adapter.mix.router": router}
    return {**keys, **{f"router.{router}.{key}": value for key, value in router_keys.items()}}


def lora(rank=8, **keys):
    return {"adapter.mix.sites": SITES, "adapter.mix.experts": 1, "adapter.mix.rank": rank,
            **{f"adapter.mix.{key}": value for key, value in keys.items()}}


def moa(kind, prompt, rank=6, **router_keys):
    sides = ["parallel"] + (["prompt"] if prompt else [])
    keys = {"adapter.mix.sites": "q, k, v, o, down", "adapter.mix.experts": 1,
            "adapter.mix.rank": rank, "adapter.mix.router": "block"}
    for side in sides:
        keys.update({f"adapter.{side}.kind": side, f"adapter.{side}.experts": 1,
                     f"adapter.{side}.router": "block", f"adapter.{side}.width": 4})
    return {**keys, "router.block.kind": kind, "router.block.over": "adapters",
            "router.block.entropy": "none",
            **{f"router.block.{key}": value for key, value in router_keys.items()}}


HEADS = {"dfa.router": "heads", "router.heads.kind": "softmax"}
LITERAL = {"adapter.mix.scale": "literal"}
# NAME: (keys, the key whose whole number is fitted to LoRA's number of trained parameters)
METHODS = {
    "LoRA": (lora(scale="lora"), "adapter.mix.rank"),
    "rsLoRA": (lora(), "adapter.mix.rank"),
    "wide LoRA, cut by norm": (
        {**lora(16), "adapter.mix.rank_gate": "cut", "rank.cut.kind": "norm"}, None),
    "wide LoRA, cut by SVD": (
        {**lora(16), "adapter.mix.rank_gate": "cut", "rank.cut.kind": "svd"}, None),
    "wide LoRA, SVD at the end": (
        {**lora(16), "adapter.mix.rank_gate": "cut", "rank.cut.kind": "svd", "rank.cut.cut": 1},
        None),
    "softmax, token": (mixture(kind="softmax"), "adapter.mix.rank"),
    "softmax, span": (mixture(kind="softmax", scope="span"), "adapter.mix.rank"),
    "softmax, frozen random router": (
        mixture(kind="softmax", init="normal", init_scale=0.5, learning_rate=0),
        "adapter.mix.rank"),
    "DF-MoA": ({**mixture(rank=4, kind="softmax", scope="span"), "adapter.mix.rank_gate": "cut",
                "rank.cut.kind": "hard_concrete"}, None),
    "DF-MoA literal": (
        {**mixture(kind="softmax", init="uniform", entropy="literal", entropy_weight=0.05,
                   scope="first_token"), **LITERAL, "adapter.mix.rank_gate": "cut",
         "rank.cut.kind": "literal", "rank.cut.strength": 1e-4, "rank.cut.learning_rate": 6e-3},
        "adapter.mix.rank"),
    "AdaMoLE": (mixture(kind="threshold", input="per_site", entropy="none", balance="switch",
                        balance_weight=1e-3), "adapter.mix.rank"),
    "AdaMoLE literal": (
        {**mixture(kind="threshold", input="per_site", init="uniform", entropy="none",
                   balance="threshold_literal", balance_weight=1e-3), **LITERAL},
        "adapter.mix.rank"),
    "MoA soft": (moa("sigmoid", True), "adapter.mix.rank"),
    "MoA soft literal": ({**moa("sigmoid", True, init="uniform"), **LITERAL}, "adapter.mix.rank"),
    "MoA sparse": (moa("sigmoid_threshold", False), "adapter.mix.rank"),
    "MoA sparse literal": (
        {**moa("sigmoid_threshold_literal", False, init="uniform"), **LITERAL},
        "adapter.mix.rank"),
    "Gate-Conditioned LoRA": (
        mixture(kind="topk", top_k=2, scope="span", entropy="fixed"), "adapter.mix.rank"),
    "Gate-Conditioned LoRA literal": (
        {**mixture(kind="topk_literal", mix="logits", top_k=2, scope="first_token",
                   init="uniform", entropy="fixed", entropy_of="unit"), **LITERAL},
        "adapter.mix.rank"),
    "top-2 on the MLP, LoRA on attention (MixLoRA)": (
        {**mixture(kind="topk", top_k=2, entropy="none", balance="switch", balance_weight=0.06),
         "adapter.mix.sites": "gate, up, down", "adapter.attention.sites": "q, k, v, o",
         "adapter.attention.experts": 1, "adapter.attention.rank": 8}, "adapter.mix.rank"),
    "HydraLoRA": ({**mixture(kind="softmax"), "adapter.mix.shared_a": "true"}, "adapter.mix.rank"),
    "sparsegen (LD-MoLE)": (mixture(kind="sparsegen"), "adapter.mix.rank"),
    "DFA head gates and LoRA": ({**lora(), **HEADS}, "adapter.mix.rank"),
    "DFA head gates alone": (HEADS, None),
    "DFA literal": (
        {**HEADS, "router.heads.scope": "first_token", "router.heads.init": "uniform",
         "router.heads.entropy": "literal", "router.heads.entropy_weight": 0.05,
         "dfa.attention": "literal", "dfa.rank_gate": "masks", "rank.masks.kind": "literal",
         "rank.masks.strength": 1e-4, "rank.masks.learning_rate": 6e-3}, None),
}


class Bench:
    def __init__(self, arguments):
        self.program = str(pathlib.Path(arguments.program).resolve())
        self.folder = pathlib.Path(arguments.folder).resolve()
        self.out = pathlib.Path(arguments.out).resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.results = self.out / "results.jsonl"
        self.parameters = {}

    def call(self, *words):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        result = subprocess.run([self.program, *map(str, words)], env=environment,
                                capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, words))}\n{result.stderr}")
        return result

    def train(self, keys, folder, *options):
        keys = {**COMMON, "model.path": self.folder / "model", **keys}
        config = folder.with_suffix(".ini")
        config.write_text("", encoding="utf-8")
        sets = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
        return self.call("train", "-c", config, "--run", folder, *options, *sets)

    def count(self, keys):
        """Trained parameters, the experts' routers included."""
        folder = self.out / "count"
        shutil.rmtree(folder, ignore_errors=True)
        said = self.train({**keys, "data.train": self.folder / "train_seed0.jsonl"}, folder,
                          "--steps", 0).stderr
        return int(re.search(r"(\d+) trainable parameters", said).group(1))

    def fitted(self, name, goal):
        """The keys of a method with its rank chosen for as many parameters as LoRA has."""
        keys, free = METHODS[name]
        if free is None:
            return {**keys, **self.budget_of(keys)}
        keys = dict(keys)
        first = self.count({**keys, free: 1})
        slope = self.count({**keys, free: 2}) - first
        keys[free] = max(1, 1 + round((goal - first) / slope))
        return keys

    @staticmethod
    def budget_of(keys):
        """Half of the directions stay: as many as LoRA has."""
        for key in keys:
            if key.startswith("rank.cut."):
                layers, linears, kept = 3, 7, 8
                return {"rank.cut.budget": layers * linears * kept}
        return {}

    def run(self, name, keys, alpha, rate, seed):
        folder = self.out / f"{re.sub(r'[^a-z0-9]+', '_', name.lower())}_{alpha}_{rate}_{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        orders = len(list(self.folder.glob("train_seed*.jsonl")))
        point = {"data.train": self.folder / f"train_seed{seed % orders}.jsonl",
                 "data.span": "^<bos>(.)", "train.seed": 1 + seed // orders,
                 "train.learning_rate": rate}
        for key in keys:
            if key.endswith(".sites"):
                point[key.replace(".sites", ".alpha")] = alpha
        self.train({**keys, **point}, folder)
        said = json.loads(self.call("eval", folder, "--data", self.folder / "eval.jsonl",
                                    "--json").stdout)
        shutil.rmtree(folder)
        tasks = said["tasks"]
        return {"method": name, "alpha": alpha, "rate": rate, "seed": seed,
                "parameters": self.parameters[name],
                "ce": sum(task["ce"] for task in tasks.values()) / len(tasks),
                "mutual_information": said.get("mutual_information"), "tasks": len(tasks)}

    def known(self):
        if not self.results.exists():
            return []
        return [json.loads(line) for line in self.results.read_text("utf-8").splitlines()]

    def run_all(self, names, seeds, jobs):
        goal = self.count(METHODS["LoRA"][0])
        done = {(r["method"], r["alpha"], r["rate"], r["seed"]) for r in self.known()}
        todo = []
        for name in names:
            keys = self.fitted(name, goal)
            self.parameters[name] = self.count(keys)
            alphas = ALPHAS if "adapter.mix.sites" in keys else ALPHAS[:1]  # the scale is LoRA's
            for alpha in alphas:
                for rate in RATES:
                    todo += [(name, keys, alpha, rate, seed) for seed in range(seeds)
                             if (name, alpha, rate, seed) not in done]
        print(f"{len(todo)} runs", file=sys.stderr)
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool, \
                open(self.results, "a", encoding="utf-8") as out:
            for number, found in enumerate(pool.map(lambda work: self.run(*work), todo), 1):
                out.write(json.dumps(found) + "\n")
                out.flush()
                print(f"{number}/{len(todo)} {found['method']} ce {found['ce']:.3f}",
                      file=sys.stderr)


def best_point(results):
    """{seed: result} at the point of the grid with the lowest mean."""
    points = {}
    for result in results:
        points.setdefault((result["alpha"], result["rate"]), {})[result["seed"]] = result
    most = max(len(point) for point in points.values())
    full = [point for point in points.values() if len(point) == most]
    return min(full, key=lambda point: statistics.mean(r["ce"] for r in point.values()))


def best_lora(by_method):
    points = [best_point(by_method[name]) for name in LORAS if name in by_method]
    return min(points, key=lambda point: statistics.mean(r["ce"] for r in point.values()))


def row_of(name, point, reference):
    ces = [result["ce"] for result in point.values()]
    pairs = [point[seed]["ce"] - reference[seed]["ce"] for seed in point if seed in reference]
    error = statistics.stdev(pairs) / math.sqrt(len(pairs)) if len(pairs) > 1 else float("nan")
    first = next(iter(point.values()))
    information = [r["mutual_information"] for r in point.values()
                   if r["mutual_information"] is not None]
    told = f"{statistics.mean(information):.4f}" if information else ""
    is_reference = point is reference or not any(pairs)
    difference = "0" if is_reference else f"{statistics.mean(pairs):+.3f} ± {error:.3f}"
    wins = "" if is_reference else f"{sum(pair < 0 for pair in pairs)} of {len(pairs)}"
    return (statistics.mean(ces),
            f"| {name} | {first['parameters']} | {first['alpha']}, {first['rate']:g} | "
            f"{statistics.mean(ces):.3f} | {min(ces):.3f} to {max(ces):.3f} | {difference} | "
            f"{wins} | {told} |")


def table(results):
    by_method = {}
    for result in results:
        by_method.setdefault(result["method"], []).append(result)
    reference = best_lora(by_method)
    rows = [row_of(name, best_point(found), reference) for name, found in by_method.items()]
    return "\n".join([
        "| method | trained parameters | alpha, rate | held-out CE | lowest to highest seed | "
        "against the better LoRA, same seeds | better on | MI of expert and task |",
        "|---|---|---|---|---|---|---|---|", *(row for _, row in sorted(rows))])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="dfmoa")
    parser.add_argument("folder", help="with model/, train_seedN.jsonl and eval.jsonl")
    parser.add_argument("--out", required=True, help="folder of results and runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--only", nargs="+", help="names of methods; both LoRAs always run")
    arguments = parser.parse_args()
    unknown = set(arguments.only or ()) - set(METHODS)
    if unknown:
        parser.error(f"{sorted(unknown)}: expected some of {sorted(METHODS)}")
    bench = Bench(arguments)
    names = [name for name in METHODS
             if not arguments.only or name in arguments.only or name in LORAS]
    bench.run_all(names, arguments.seeds, arguments.jobs)
    print(table(bench.known()))


if __name__ == "__main__":
    main()
