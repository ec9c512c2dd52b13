#!/usr/bin/env python3
"""Writes the demo's data: six short task families of reasoning-gym, one JSON object a line.

    {"messages": [{"role": "user", ...}, {"role": "assistant", ...}], "task": "gcd"}

OUT/train.jsonl and OUT/heldout.jsonl are a pure function of the options. reasoning-gym draws item i
of seed s from seed s + i, so all sets lie a million seeds apart; held-out prompts that occur in
training all the same are dropped by their hash, counted and replaced by the next ones; so are
repeats within a set.
"""

import argparse
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import json
import os
import pathlib
import random
import sys
import types

SEED_DISTANCE = 1_000_000


@dataclasses.dataclass(frozen=True)
class Family:
    name: str
    module: str
    options: dict  # kept short: a small model on a CPU reads some twenty thousand tokens in all


FAMILIES = (
    Family("spell_backward", "algorithmic", {"min_word_len": 3, "max_word_len": 5}),
    Family("letter_counting", "algorithmic", {"min_words": 3, "max_words": 8}),
    Family("chain_sum", "arithmetic", {"max_terms": 2, "max_digits": 2}),
    Family("family_relationships", "graphs", {"max_family_size": 4}),
    Family("gcd", "arithmetic", {"max_value": 100}),
    Family("count_bits", "arithmetic", {"max_n": 65535}),
)


class NotEnough(Exception):
    """A family has fewer different prompts than were asked for."""


@functools.cache  # the empty packages cannot be opened twice
def load_families():
    """reasoning-gym's create_dataset with only FAMILIES registered.

    Its own __init__ imports over a hundred families and, with them, a dozen packages that none of
    ours needs; so the packages are opened empty and only the modules of FAMILIES are loaded.
    """
    found = importlib.util.find_spec("reasoning_gym")
    if found is None:
        raise ModuleNotFoundError("reasoning_gym is not installed, run ci/setup.sh first")
    root = pathlib.Path(found.submodule_search_locations[0])
    for name in ("", "coaching", *sorted({family.module for family in FAMILIES})):
        package = types.ModuleType(f"reasoning_gym.{name}".rstrip("."))
        package.__path__ = [str(root / name)]
        sys.modules[package.__name__] = package
    coaching = sys.modules["reasoning_gym.coaching"]
    for source in ("attributes", "base_curriculum"):
        module = importlib.import_module(f"reasoning_gym.coaching.{source}")
        for name, value in vars(module).items():
            if isinstance(value, type):
                setattr(coaching, name, value)
    factory = importlib.import_module("reasoning_gym.factory")
    for family in FAMILIES:
        importlib.import_module(f"reasoning_gym.{family.module}.{family.name}")
    return factory.create_dataset


def prompt_hash(prompt):
    return hashlib.sha256(prompt.encode("utf-8")).digest()


def row(family, item):
    return {"messages": [{"role": "user", "content": item["question"].strip()},
                         {"role": "assistant", "content": item["answer"].strip()}],
            "task": family.name}


def draw(create_dataset, family, seed, wanted, taken):
    """(rows with prompts that are new to `taken`, prompts met in `taken`, repeats of own rows)."""
    size = min(4 * wanted + 100, SEED_DISTANCE)  # enough for small families with many repeats
    items = create_dataset(family.name, seed=seed, size=size, **family.options)
    rows, in_taken, repeats, own = [], 0, 0, set()
    for index in range(size):
        if len(rows) == wanted:
            break
        new = row(family, items[index])
        key = prompt_hash(new["messages"][0]["content"])
        if key in taken:
            in_taken += 1
        elif key in own:
            repeats += 1
        else:
            own.add(key)
            rows.append(new)
    if len(rows) < wanted:
        raise NotEnough(f"{family.name}: {len(rows)} different prompts in {size} draws of seed "
                        f"{seed}, expected {wanted}: ask for fewer per task")
    return rows, in_taken, repeats


def write_jsonl(path, rows):
    """Written beside and renamed: a reader never sees half a file."""
    beside = path.with_suffix(".jsonl.tmp")
    with open(beside, "w", encoding="utf-8", newline="\n") as file:
        for entry in rows:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    os.replace(beside, path)


def positive(text):
    value = int(text)
    if not 1 <= value <= SEED_DISTANCE // 8:
        raise argparse.ArgumentTypeError(f"{value}, expected 1 to {SEED_DISTANCE // 8}")
    return value


def parse_options(arguments):
    parser = argparse.ArgumentParser(
        description="Writes OUT/train.jsonl and OUT/heldout.jsonl: six short task families.")
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder, made if missing")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    parser.add_argument("--train-per-task", type=positive, default=200, help="default 200")
    parser.add_argument("--eval-per-task", type=positive, default=40, help="default 40")
    options = parser.parse_args(arguments)
    if options.seed < 0:
        parser.error(f"--seed: {options.seed}, expected 0 or more")
    return options


def main(arguments=None):
    options = parse_options(arguments)
    create_dataset = load_families()
    train, heldout, total_dropped = [], [], 0
    print(f"{'task':<22}{'train':>7}{'held-out':>10}{'in training':>13}{'repeats':>9}")
    for index, family in enumerate(FAMILIES):
        seed = 2 * SEED_DISTANCE * (options.seed * len(FAMILIES) + index)
        new, _, _ = draw(create_dataset, family, seed, options.train_per_task, set())
        seen = {prompt_hash(entry["messages"][0]["content"]) for entry in new}
        held, dropped, repeats = draw(create_dataset, family, seed + SEED_DISTANCE,
                                      options.eval_per_task, seen)
        print(f"{family.name:<22}{len(new):>7}{len(held):>10}{dropped:>13}{repeats:>9}")
        train += new
        heldout += held
        total_dropped += dropped
    random.Random(options.seed).shuffle(train)  # every batch sees several tasks
    options.out.mkdir(parents=True, exist_ok=True)
    write_jsonl(options.out / "train.jsonl", train)
    write_jsonl(options.out / "heldout.jsonl", heldout)
    print(f"{len(train)} training and {len(heldout)} held-out rows in {options.out}; "
          f"{total_dropped} held-out prompts dropped because they occur in training")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ImportError, NotEnough) as error:
        print(f"demo_data.py: {error}", file=sys.stderr)
        sys.exit(1)
