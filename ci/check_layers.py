#!/usr/bin/env python3
"""Enforces who may include whom.

Usage: check_layers.py [ROOT]

A layer may include itself and everything at or below it along the arrows of BELOW. Kernels, comm,
formats, data and checkpoints never reach torch, not even through a header of ours; no CUDA source
does; spdlog and fmt (whose headers clash with those torch carries) stay in torch-free .cpp files.
"""

import pathlib
import re
import sys

BELOW = {
    "base": [],
    "kernels": ["base"],
    "comm": ["base"],
    "formats": ["base"],
    "data": ["formats"],
    "ops": ["kernels"],
    "gates": ["ops"],
    "adapters": ["gates"],
    "model": ["adapters", "data"],
    "distributed": ["comm", "model"],
    "checkpoints": ["distributed"],
    "train": ["checkpoints"],
    "launch": ["train"],
    "torch_pch": [],
}
TORCH_LAYERS = {"ops", "gates", "adapters", "model", "distributed", "train", "launch", "torch_pch"}
FOLDERS = ("src", "kernels", "distributed", "checkpoints", "launch")
SUFFIXES = (".h", ".cpp", ".cu", ".cuh")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
TORCH = re.compile(r"^(torch|ATen|c10|caffe2)/")
LOGGING = re.compile(r"^(spdlog|fmt)/")


def reach(layer):
    """The layer and all layers below it."""
    seen, todo = set(), [layer]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += BELOW[name]
    return seen


def layer_of(path):
    """The layer of a root-relative path; None for what is no source of the product."""
    parts = path.split("/")
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    if parts[0] == "distributed" and len(parts) > 2 and parts[1] == "comm":
        return "comm"
    return parts[0] if parts[0] in FOLDERS[1:] else None


class Tree:
    """All sources of the product with their includes."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.includes = {}
        for folder in FOLDERS:
            for path in sorted((self.root / folder).rglob("*")):
                if path.suffix in SUFFIXES:
                    name = path.relative_to(self.root).as_posix()
                    self.includes[name] = INCLUDE.findall(path.read_text(encoding="utf-8"))

    def reached(self, name):
        """Every include of the file and of the headers it includes -> the chain leading there."""
        chains, todo = {}, [(name, [name])]
        while todo:
            current, chain = todo.pop()
            for _, target in self.includes.get(current, []):
                if target not in chains:
                    chains[target] = chain + [target]
                    todo.append((target, chain + [target]))
        return chains


def check_includes(tree, name):
    layer = layer_of(name)
    if layer not in BELOW:
        yield f"{name}: the folder is no known layer (expected one of {', '.join(BELOW)})"
        return
    allowed = reach(layer)
    for form, target in tree.includes[name]:
        if form == "<":
            continue
        other = layer_of(target)
        if target.endswith(".inc"):  # generated into the build folder
            continue
        if target not in tree.includes:
            yield f'{name}: includes "{target}", expected a path from the root of the project'
        elif other == "torch_pch" and layer in TORCH_LAYERS:
            continue
        elif other not in allowed:
            yield f'{name}: layer {layer} includes "{target}" of layer {other}, not below it'


def check_torch(tree, name):
    chains = tree.reached(name)
    torch = next((target for target in chains if TORCH.match(target)), None)
    logging = next((target for target in chains if LOGGING.match(target)), None)
    suffix = pathlib.PurePosixPath(name).suffix
    if torch:
        chain = " -> ".join(chains[torch])
        if suffix in (".cu", ".cuh"):
            yield f"{name}: a CUDA source includes torch ({chain})"
        elif layer_of(name) not in TORCH_LAYERS:
            yield f"{name}: layer {layer_of(name)} is torch-free but includes torch ({chain})"
    if logging and suffix != ".cpp":
        yield f"{name}: {logging} may be included by a torch-free .cpp only, not by a header"
    elif logging and torch:
        yield f"{name}: includes both {logging} and torch, whose headers clash"


def check(root):
    tree = Tree(root)
    if not tree.includes:
        return [f"{root}: no sources were found in {', '.join(FOLDERS)}"]
    problems = []
    for name in tree.includes:
        problems += check_includes(tree, name)
        problems += check_torch(tree, name)
    return problems


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    problems = check(root)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"check_layers: {len(problems)} violations", file=sys.stderr)
        return 1
    print("check_layers: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
