#!/usr/bin/env python3
"""Every unit has a test file that mirrors it.

Usage: check_mirror.py [ROOT]

src/LAYER/UNIT.cpp is tested by tests/LAYER/UNIT_test.cpp; the forms of a kernel (UNIT_cpu.cpp,
UNIT_avx2.cpp, UNIT_avx512.cpp) are one unit. A unit that a sibling's test covers stands in
ci/test_mirror.txt as `SOURCE TEST REASON`.
"""

import pathlib
import re
import sys

FOLDERS = ("src", "kernels", "distributed", "checkpoints", "launch")
KERNEL_FORM = re.compile(r"_(cpu|reference|avx2|avx512)$")


def expected_tests(source):
    """Root-relative places where the test of a source may be, the first one preferred."""
    path = pathlib.PurePosixPath(source)
    parts = path.parts[1:] if path.parts[0] == "src" else path.parts
    if parts[:2] == ("distributed", "comm"):
        parts = parts[1:]
    units = [path.stem]
    if source.startswith("kernels/") and KERNEL_FORM.search(path.stem):
        units.append(KERNEL_FORM.sub("", path.stem))
    folders = dict.fromkeys(["/".join(parts[:-1]), parts[-2], parts[0]])
    return [f"tests/{folder}/{unit}_test.cpp" for folder in folders for unit in units]


def read_exceptions(path):
    """source -> (line number, test, reason); problems."""
    exceptions, problems = {}, []
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split(maxsplit=2)
        if len(fields) < 3:
            problems.append(f"ci/test_mirror.txt:{number}: expected SOURCE TEST REASON")
        else:
            exceptions[fields[0]] = (number, fields[1])
    return exceptions, problems


def check(root):
    exceptions, problems = read_exceptions(root / "ci/test_mirror.txt")
    sources = sorted(path.relative_to(root).as_posix()
                     for folder in FOLDERS for path in (root / folder).rglob("*.cpp"))
    for source in sources:
        places = expected_tests(source)
        mirrored = any((root / place).is_file() for place in places)
        if mirrored or source in exceptions:
            continue
        problems.append(f"{source}: has no {places[0]}, and ci/test_mirror.txt names no other test")
    for source, (number, test) in exceptions.items():
        if source not in sources:
            problems.append(f"ci/test_mirror.txt:{number}: there is no {source}")
        elif not (root / test).is_file():
            problems.append(f"ci/test_mirror.txt:{number}: there is no {test}")
        elif any((root / place).is_file() for place in expected_tests(source)):
            problems.append(f"ci/test_mirror.txt:{number}: {source} has its own test by now")
    return problems


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    problems = check(root.resolve())
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"check_mirror: {len(problems)} violations", file=sys.stderr)
        return 1
    print("check_mirror: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
