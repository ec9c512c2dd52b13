#!/usr/bin/env python3
"""Prints the demo's table from what launch/demo.sh wrote into its folder.

Usage: demo_table.py DIR

Exit status 1 when the resumed run and its undisturbed twin differ, when the run did not resume from
a checkpoint, when the models read different prompts, or when tuning did not lower the cross-entropy
of some task: the table says which.
"""

import collections
import configparser
import json
import math
import pathlib
import re
import sys

MODELS = (("base", "eval_base.json"), ("tuned", "eval_tuned.json"), ("E = 1", "eval_single.json"))


class Unreadable(Exception):
    """A result that the table needs is missing or is not what the program prints."""


def read_json(path):
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot read {path}: {error}") from error


def read_metrics(path):
    """key -> {step: value}; a step that ran again after the resume counts once."""
    metrics = collections.defaultdict(dict)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            metrics[entry["key"]][entry["step"]] = entry["value"]
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break  # the killed process may have left half a line at the end
            raise Unreadable(f"{path}:{number}: {error!r}") from error
    return metrics


def standard_error(share, items):
    return math.sqrt(share * (1 - share) / items) if items else 0.0


def print_parts(folder):
    try:
        lines = (folder / "parts.tsv").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Unreadable(str(error)) from error
    parts = [line.split("\t") for line in lines]
    total = sum(int(seconds) for _, seconds in parts)
    print(f"{'part':<34}{'seconds':>8}")
    for name, seconds in [*parts, ("in all", total)]:
        print(f"{name:<34}{seconds:>8}")


def exact_match(task):
    if "exact_match" not in task:
        return "-"
    share = task["exact_match"]
    return f"{share:.2f} ±{standard_error(share, task['items']):.2f}"


def print_tasks(results):
    """results: label -> {task: numbers}."""
    labels = [label for label, _ in MODELS]
    print(f"\n{'':<22}{'':>5}  {'cross-entropy, nats per token':<30}  exact match, standard error")
    print(f"{'task':<22}{'n':>5}  " + "".join(f"{label:>9} " for label in labels) + "  " +
          "".join(f"{label:>13}" for label in labels))
    for task in results["base"]:
        rows = [results[label].get(task) for label in labels]
        if None in rows:
            raise Unreadable(f"task {task} was not evaluated for every model")
        print(f"{task:<22}{rows[0]['items']:>5}  " +
              "".join(f"{row['ce']:>9.3f} " for row in rows) + "  " +
              "".join(f"{exact_match(row):>13}" for row in rows))


def better_by_one_error(base, tuned):
    """Exact match went up by more than one standard error of the difference."""
    error = math.hypot(*(standard_error(task["exact_match"], task["items"])
                         for task in (base, tuned)))
    return tuned["exact_match"] - base["exact_match"] > error


def judge_tasks(base, tuned):
    """Sentences about the gain; False when a task got worse."""
    worse = [task for task in base if tuned[task]["ce"] >= base[task]["ce"]]
    print(f"\ncross-entropy of the mixture is below the base on {len(base) - len(worse)} of "
          f"{len(base)} tasks" + (f"; NOT on {', '.join(worse)}" if worse else ""))
    scored = [task for task in base if "exact_match" in base[task] and "exact_match" in tuned[task]]
    if scored:
        up = sum(better_by_one_error(base[task], tuned[task]) for task in scored)
        print(f"exact match went up by more than one standard error on {up} of {len(scored)} tasks"
              + ("" if 3 * up >= 2 * len(scored) else ": fewer than two thirds"))
    return not worse


def judge_resume(folder, log):
    killed = (folder / "killed_at").read_text(encoding="utf-8").strip()
    resumed = re.findall(r"resumed at step (\d+)", log)
    hashes = [read_json(folder / f"{run}.json")["parameters_hash"] for run in ("tuned", "twin")]
    print(f"one of two processes was killed with -9 after step {killed}; "
          + (f"resumed at step {resumed[0]}" if resumed else "the log names NO resumed step"))
    equal = hashes[0] == hashes[1]
    print(f"parameters of the resumed run   {hashes[0]}\n"
          f"parameters of the undisturbed   {hashes[1]}  {'equal' if equal else 'DIFFERENT'}")
    return equal and bool(resumed) and int(resumed[0]) > 0


def budget_of(config):
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.read_string(config)
    budgets = [float(parser[section].get("budget", "0")) for section in parser.sections()
               if section.startswith("rank.")]
    return sum(budgets)


def print_ranks(metrics, budget):
    """Directions that are on in evaluation form, and the loss, across the cut."""
    active = metrics.get("rank/model/active", {})
    if not active:
        print("the run wrote no rank/model/active: no rank gate was trained")
        return
    steps = sorted(active)
    falls = [(active[a] - active[b], b) for a, b in zip(steps, steps[1:])]
    fall, cut = max(falls, default=(0, 0))
    print(f"active directions: {active[steps[0]]:g} at step {steps[0]}, "
          f"{active[steps[-1]]:g} at step {steps[-1]}"
          + (f", budget {budget:g}" if budget else ", no budget"))
    if fall > 0:
        ce = [metrics.get(f"rank/cut/ce_{side}", {}).get(cut) for side in ("before", "after")]
        said = "not logged" if None in ce else f"{ce[0]:.3f} before, {ce[1]:.3f} after"
        print(f"the cut at the start of step {cut} switched off {fall:g}; cross-entropy of that "
              f"step's rows: {said}")


def print_load(evaluation):
    """Which experts each task uses: the mean gate at the tokens that bear loss."""
    load = evaluation.get("load", {})
    for task, shares in load.items():
        print(f"experts of {task:<22}" + " ".join(f"{share:6.3f}" for share in shares))
    if load:
        experts = max(len(shares) for shares in load.values())
        most = f", at most {math.log(min(experts, len(load))):.3f}"
        print(f"mutual information of expert and task: {evaluation['mutual_information']:.4f} nats"
              + most)


def judge_prompts(evaluations):
    """All models must have read the same rendered prompts, or their figures say nothing."""
    hashes = {evaluation["prompts_hash"] for evaluation in evaluations}
    if len(hashes) > 1:
        print(f"the models read DIFFERENT prompts: {', '.join(sorted(hashes))}")
        return False
    print(f"prompts of all three models are the same: {hashes.pop()}")
    return True


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip(), file=sys.stderr)
        return 0 if len(sys.argv) == 2 else 2
    folder = pathlib.Path(sys.argv[1])
    try:
        evaluations = {label: read_json(folder / name) for label, name in MODELS}
        results = {label: evaluation["tasks"] for label, evaluation in evaluations.items()}
        print_parts(folder)
        print_tasks(results)
        good = judge_tasks(results["base"], results["tuned"])
        good &= judge_prompts(evaluations.values())
        log = (folder / "log.txt").read_text(encoding="utf-8", errors="replace")
        good &= judge_resume(folder, log)
        config = (folder / "tuned/config.ini").read_text(encoding="utf-8")
        print_ranks(read_metrics(folder / "tuned/metrics.jsonl"), budget_of(config))
        print_load(evaluations["tuned"])
    except (OSError, Unreadable, configparser.Error) as error:
        print(f"demo_table.py: {error}", file=sys.stderr)
        return 1
    except (KeyError, TypeError) as error:
        print(f"demo_table.py: a result in {folder} lacks {error}", file=sys.stderr)
        return 1
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
