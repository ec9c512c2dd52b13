#!/usr/bin/env python3
"""Speed and memory of `dfmoa bench` beside the libraries that people would use instead.

Both sides are alternated on the same machine with the same threads; a ratio above 1 means that
dfmoa is faster (or smaller). Needs ci/setup.sh; whole steps need a dense model folder:

    dfmoa convert SmolLM2-135M-Instruct.Q4_1.gguf models/smollm2-dense
    .venv/bin/python launch/demo_data.py --out data
    .venv/bin/python tests/bench/peers.py --dfmoa build/release/launch/dfmoa \\
        --model models/smollm2-dense --data data/train.jsonl --threads 1 --json peers.json
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent


@dataclasses.dataclass(frozen=True)
class Pair:
    """dfmoa's measurement (and the bar inside it), the peer, and what the ratio should reach."""

    measurement: str
    bar_id: str
    peer: str
    bar: float = 0.0
    stretch: float = 0.0
    recompute: bool = False
    needs: str = ""

    def samples(self, options):
        """Of each side in a round: what takes milliseconds is repeated more often."""
        return options.samples if self.needs else 5 * options.samples


PAIRS = (
    Pair("G2.d576", "G2.d576", "dense_loop_linear:576", 2.4, 2.8),
    Pair("G2.d768", "G2.d768", "dense_loop_linear:768", 2.4, 2.8),
    Pair("G2.d2048", "G2.d2048", "dense_loop_linear:2048", 1.7, 1.9),
    Pair("G2.d576", "G3.d576", "top2_loop_linear:576", 1.4, 1.6),
    Pair("G2.d768", "G3.d768", "top2_loop_linear:768", 1.3, 1.45),
    Pair("G2.d2048", "G3.d2048", "top2_loop_linear:2048", 1.15, 1.22),
    Pair("G8.fp32", "G9.fp32", "dequantise:float32", 7, 10),
    Pair("G8.bf16", "G9.bf16", "dequantise:bfloat16", 12, 18),
    Pair("G10", "G10", "quantise", 25, 50),
    Pair("G11", "G11", "qlora_linear", 1.05, 1.12),
    Pair("G14.v49152", "G14.v49152", "head:49152x576", 1.1, 1.2),
    Pair("G14.v50257", "G14.v50257", "head:50257x768", 1.1, 1.2),
    Pair("frozen", "frozen", "step:frozen", needs="model"),
    Pair("G6a.keep", "G6a.keep", "step:peft_lora", 1.05, 1.15, needs="model"),
    Pair("G6a.keep", "G6a.keep", "step:peft_lora_nf4", 1.05, 1.15, needs="model"),
    Pair("G6a.keep", "G6a.keep", "step:top2_loop", needs="model"),
    Pair("G6a.keep", "G6a.keep", "step:dense_loop", 2.0, needs="model"),
    Pair("G6a.recompute", "G6a.recompute", "step:peft_lora", 1.05, 1.15, True, "model"),
    Pair("G6b", "G6b", "documents", 1.5, 2.5, needs="data"),
)


class Peer:
    """The worker process of a pair: idle while dfmoa measures."""

    def __init__(self, pair, options):
        command = [sys.executable, HERE / "peer_worker.py", pair.peer,
                   "--threads", str(options.threads), "--tokens", str(options.tokens)]
        for name in ("model", "data"):
            if getattr(options, name):
                command += ["--" + name, getattr(options, name)]
        if pair.recompute:
            command.append("--recompute")
        environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads),
                           HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env=environment)

    def measure(self, warm_up, samples):
        print(warm_up, samples, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            raise RuntimeError(f"the peer ended with exit code {code}:\n{self.errors.read()}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def measure_dfmoa(pair, options, warm_up, samples):
    command = [options.dfmoa, "bench", "--one", pair.measurement, "--json",
               "--threads", str(options.threads), "--tokens", str(options.tokens),
               "--warm-up", str(warm_up), "--samples", str(samples)]
    for name in ("model", "data"):
        if pair.needs and getattr(options, name):
            command += ["--" + name, getattr(options, name)]
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads))
    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                                       env=environment).stdout)
    bar = next(bar for bar in result["bars"] if bar["id"] == pair.bar_id)
    return {"seconds": bar["samples"], "peak_bytes": bar["peak_bytes"],
            "extra_bytes": bar["extra_bytes"]}, result


def spread(seconds):
    """Interquartile range over median: how far equal work differs from itself (A/A)."""
    if len(seconds) < 4:
        return 0.0
    low, _, high = statistics.quantiles(seconds, n=4)
    return (high - low) / statistics.median(seconds)


def compare(pair, options):
    peer = Peer(pair, options)
    ours, theirs, result = [], [], {}
    try:
        for number in range(options.rounds):
            warm_up = options.warm_up if number == 0 else 1
            theirs.append(peer.measure(warm_up, pair.samples(options)))
            mine, result = measure_dfmoa(pair, options, options.warm_up, pair.samples(options))
            ours.append(mine)
    finally:
        peer.close()
    sides = {}
    for name, runs in (("dfmoa", ours), ("other", theirs)):
        seconds = [second for run in runs for second in run["seconds"]]
        sides[name] = {"median_s": statistics.median(seconds), "spread": spread(seconds),
                       "peak_bytes": max(run["peak_bytes"] for run in runs),
                       "extra_bytes": max(run["extra_bytes"] for run in runs),
                       "samples": seconds}
    return {"id": pair.bar_id, "peer": pair.peer, "bar": pair.bar, "stretch": pair.stretch,
            "ratio": sides["other"]["median_s"] / sides["dfmoa"]["median_s"],
            **sides, "machine": result["machine"], "limits": result["limits"]}


def verdict(row):
    if not row["bar"]:
        return ""
    return f"bar {row['bar']:g}: " + ("met" if row["ratio"] >= row["bar"] else "MISSED")


def print_row(row):
    mine, peer = row["dfmoa"], row["other"]
    print(f"{row['id']:14} {row['peer']:24} {mine['median_s']:9.4f} s {peer['median_s']:9.4f} s "
          f"ratio {row['ratio']:5.2f}  spread {mine['spread']:.0%}/{peer['spread']:.0%}  "
          f"peak {mine['peak_bytes'] >> 20}/{peer['peak_bytes'] >> 20} MiB, "
          f"more {mine['extra_bytes'] >> 20}/{peer['extra_bytes'] >> 20} MiB  {verdict(row)}",
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dfmoa", required=True)
    parser.add_argument("--model", help="dense base model folder, for whole steps")
    parser.add_argument("--data", help="JSONL of messages, for G6b")
    parser.add_argument("--one", help="only pairs whose id or peer begins with this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=3, help="of each side in a round")
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--json", help="file for every raw sample")
    options = parser.parse_args()
    rows = []
    for pair in PAIRS:
        if options.one and not (pair.bar_id.startswith(options.one) or
                                pair.peer.startswith(options.one)):
            continue
        if pair.needs and not (options.model and (pair.needs == "model" or options.data)):
            print(f"{pair.bar_id}: left out, it needs --{pair.needs}", file=sys.stderr)
            continue
        rows.append(compare(pair, options))
        print_row(rows[-1])
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
