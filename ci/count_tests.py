#!/usr/bin/env python3
"""Counts the tests of a ctest JUnit file per label, names every skip with its reason, and decides.

Usage: count_tests.py JUNIT.xml [CTEST_EXIT_STATUS]

Exit status 1 when a test failed or did not run, when no test ran, or when a test was skipped
although ci/setup.sh installs what it needs: only tests labelled `gpu` may be skipped, `fault`
tests that say they need a mount where mounting is impossible, and tests of instructions that this
processor does not have. The last line is always
"N passed, N failed, N skipped". A test that a Python suite skipped inside itself counts like any.
"""

import collections
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

Test = collections.namedtuple("Test", "name labels state reason")
STATES = ("passed", "failed", "skipped")


def labels_of(case):
    for entry in case.iter("property"):
        if entry.get("name") == "cmake_labels":
            return [label for label in entry.get("value", "").split(";") if label]
    return []


def skip_reason(case):
    """The sentence given to GTEST_SKIP, or the last line a script printed."""
    lines = [line.strip() for line in case.findtext("system-out", "").splitlines()]
    lines = [line for line in lines if line]
    for index, line in enumerate(lines[:-1]):
        if re.search(r": Skipped$", line):
            return lines[index + 1]
    said = [line for line in lines if re.match(r"(?i)skip", line)]
    if said:
        return said[-1]
    return lines[-1] if lines else "no reason given"


def skipped_inside(case):
    """(name, reason) of every test that a suite of Python's unittest skipped inside itself."""
    out = case.findtext("system-out", "")
    named = re.findall(r"^(\w+)[^\n]*?(?:\n[^\n]*?)?\.\.\. skipped (['\"])(.*)\2$", out,
                       re.MULTILINE)
    said = re.findall(r"^\d+ passed, \d+ failed, (\d+) skipped", out, re.MULTILINE)
    count = max([len(named), *map(int, said)])
    return [(name, reason) for name, _, reason in named] + (
        [("one of its tests", "no reason given")] * (count - len(named)))


def read(path):
    tests = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        state, reason = "passed", ""
        status = case.get("status", "")
        if case.find("failure") is not None or status in ("fail", "disabled"):
            state = "failed"
        elif case.find("skipped") is not None or status == "notrun":
            # Only a test that started can say why it skips; the rest could not be run at all.
            message = case.find("skipped").get("message", "") if case.find(
                "skipped") is not None else ""
            state = "skipped" if message.startswith("SKIP_") else "failed"
            reason = skip_reason(case) if state == "skipped" else message
        tests.append(Test(case.get("name"), labels_of(case), state, reason))
        tests.extend(Test(f"{case.get('name')}:{name}", labels_of(case), "skipped", why)
                     for name, why in skipped_inside(case))
    return tests


def can_mount():
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def has_instructions(level):
    """Whether this processor has avx2 or avx512, which no set-up can install."""
    flag = {"avx2": "avx2", "avx512": "avx512f"}.get(level)
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
            flags = next((line for line in cpuinfo if line.startswith("flags")), "").split()
    except OSError:
        return True
    return flag is None or flag in flags


def is_allowed(test, mount_is_possible):
    if "gpu" in test.labels:
        return True
    processor = re.search(r"this machine has no (\w+)", test.reason)
    if processor:
        return not has_instructions(processor.group(1))
    return "fault" in test.labels and "mount" in test.reason and not mount_is_possible()


def print_table(tests):
    count = collections.Counter()
    for test in tests:
        for label in test.labels or ["(none)"]:
            count[label, test.state] += 1
    print(f"{'label':<10}{'run':>8}{'failed':>8}{'skipped':>9}")
    for label in sorted({label for label, _ in count}):
        failed, skipped = count[label, "failed"], count[label, "skipped"]
        print(f"{label:<10}{count[label, 'passed'] + failed:>8}{failed:>8}{skipped:>9}")


def main():
    if len(sys.argv) not in (2, 3):
        print("count_tests.py: expected JUNIT.xml [CTEST_EXIT_STATUS]", file=sys.stderr)
        return 2
    try:
        tests = read(sys.argv[1])
    except (OSError, ElementTree.ParseError) as error:
        print(f"count_tests.py: cannot read {sys.argv[1]}: {error}", file=sys.stderr)
        print("0 passed, 1 failed, 0 skipped")
        return 1
    count = collections.Counter(test.state for test in tests)
    print_table(tests)
    forbidden = 0
    for test in tests:
        if test.state == "failed":
            print(f"failed:  {test.name}{': ' + test.reason if test.reason else ''}")
        if test.state == "skipped":
            allowed = is_allowed(test, can_mount)
            forbidden += not allowed
            note = "" if allowed else "  <- not allowed: ci/setup.sh installs what it needs"
            print(f"skipped: {test.name}: {test.reason}{note}")
    ctest_failed = len(sys.argv) == 3 and sys.argv[2] != "0"
    if not tests:
        print("no test ran")
    bad = count["failed"] or forbidden or ctest_failed or not count["passed"]
    print(", ".join(f"{count[state]} {state}" for state in STATES))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
