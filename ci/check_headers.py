#!/usr/bin/env python3
"""Every torch-free header compiles alone.

Usage: check_headers.py [ROOT]

Headers that reach torch are left to the build: each costs tens of seconds without the precompiled
header, and every one is the first include of its own .cpp.
"""

import concurrent.futures
import pathlib
import shlex
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import check_layers  # noqa: E402


def include_flags():
    """Include folders of the libraries that are not on the default path."""
    packages = ["pkg-config", "--cflags", "hdf5-serial", "ompi-c"]
    found = subprocess.run(packages, capture_output=True, text=True, check=False)
    return shlex.split(found.stdout) if found.returncode == 0 else []


def compile_alone(root, header, flags):
    command = ["g++", "-std=c++20", "-fsyntax-only", "-w", "-x", "c++", f"-I{root}", *flags, header]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    if run.returncode == 0:
        return []
    error = next((line for line in run.stderr.splitlines() if "error:" in line), "failed")
    return [f"{header}: does not compile alone: {error}"]


def check(root):
    tree = check_layers.Tree(root)
    headers = [name for name in tree.includes if name.endswith(".h") and not any(
        check_layers.TORCH.match(target) for target in tree.reached(name))]
    headers = [name for name in headers if not needs_cuda(tree, name)]
    flags = include_flags()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda header: compile_alone(root, header, flags), headers)
    return [problem for problems in found for problem in problems], len(headers)


def needs_cuda(tree, name):
    """Headers of the CUDA library are compiled only where the toolkit is."""
    return any(target.startswith(("cuda", "cublas", "nccl")) for target in tree.reached(name))


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    problems, count = check(root.resolve())
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"check_headers: {len(problems)} of {count} headers", file=sys.stderr)
        return 1
    print(f"check_headers: ok ({count} headers)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
