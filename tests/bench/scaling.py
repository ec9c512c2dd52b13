"""Several processes beside one, work per process constant: time of a step, memory, exchange.

usage: scaling.py --program DFMOA --config FILE [--layouts 1 2:move_weights:2 ...] [--set KEY=VALUE]

A layout is PROCESSES[:TRANSPORT[:EXPERT]]. Every layout runs as many micro-batches as processes,
one thread each; layouts take turns, --rounds times. The first --warm steps of a run do not count.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--layouts", nargs="+", default=["1", "2", "2:move_weights:2"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--launcher", default="mpirun --oversubscribe --bind-to none "
                        "--mca btl self,vader --mca mpi_yield_when_idle 1",
                        help="what -n PROCESSES is added to")
    return parser.parse_args()


def parts(layout):
    words = layout.split(":")
    return (int(words[0]), words[1] if len(words) > 1 else "replicate",
            int(words[2]) if len(words) > 2 else 1)


def figures(folder, key, warm):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["value"] for line in lines if line["key"] == key and line["step"] > warm]


def run(options, layout):
    """Seconds of every counted step, largest memory of process 0, figures of exchange."""
    processes, transport, expert = parts(layout)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="scaling_"))
    keys = {"train.micro_batches": processes, "parallel.transport": transport,
            "parallel.expert": expert, "train.evaluate_every": 0, "checkpoint.keep_best": "false",
            "log.tensorboard": "false", "checkpoint.every": 0}
    line = [*options.launcher.split(), "-n", str(processes), options.program, "train", "-c",
            options.config, "--run", str(folder), "--steps", str(options.steps)]
    for key, value in keys.items():
        line += ["--set", f"{key}={value}"]
    for pair in options.set:
        line += ["--set", pair]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1",
                   "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    result = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{layout}: exit {result.returncode}\n{result.stderr}")
    tokens = figures(folder, "throughput/tokens_per_s", options.warm)
    found = {"tokens_per_s": [rate / processes for rate in tokens],
             "peak_bytes": max(figures(folder, "memory/peak_bytes", 0)),
             "comm_pct": statistics.median(figures(folder, "time/comm_pct", options.warm)),
             "sent_bytes": statistics.median(figures(folder, "comm/sent_bytes", options.warm))}
    shutil.rmtree(folder)
    return found


def main():
    options = arguments()
    all_runs = {layout: [] for layout in options.layouts}
    for _ in range(options.rounds):
        for layout in options.layouts:
            all_runs[layout].append(run(options, layout))
    table = []
    for layout, runs in all_runs.items():
        samples = [rate for one in runs for rate in one["tokens_per_s"]]
        table.append({"layout": layout, "tokens_per_s_per_process": statistics.median(samples),
                      "samples": samples, "peak_bytes": max(one["peak_bytes"] for one in runs),
                      "comm_pct": statistics.median(one["comm_pct"] for one in runs),
                      "sent_bytes": runs[0]["sent_bytes"]})
    for row in table:
        row["efficiency"] = (row["tokens_per_s_per_process"] /
                             table[0]["tokens_per_s_per_process"])
        print(f"{row['layout']:20} {row['tokens_per_s_per_process']:9.1f} tok/s a process  "
              f"efficiency {row['efficiency']:.3f}  exchange {row['comm_pct']:.1f} %  "
              f"{row['sent_bytes'] / 1e6:.2f} MB sent  peak {row['peak_bytes'] / 1e6:.0f} MB",
              file=sys.stderr)
    print(json.dumps(table))


if __name__ == "__main__":
    main()
