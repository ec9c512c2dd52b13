"""The verdict on a ctest run: what may be skipped, what may not, and the last line."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parents[1] / "count_tests.py"
sys.path.insert(0, str(SCRIPT.parent))
import count_tests  # noqa: E402

PASSED = '<testcase name="a" status="run"/>'
FAILED = '<testcase name="b" status="fail"><failure message="Failed"/></testcase>'
MISSING = ('<testcase name="c" status="notrun"><skipped message="Unable to find executable"/>'
           "</testcase>")


def skipped(label, reason):
    return ('<testcase name="s" status="notrun">'
            '<skipped message="SKIP_REGULAR_EXPRESSION_MATCHED"/>'
            f'<properties><property name="cmake_labels" value="{label}"/></properties>'
            f"<system-out>x_test.cpp:3: Skipped\n{reason}\n[  SKIPPED ] s\n</system-out>"
            "</testcase>")


class CountTests(unittest.TestCase):
    def verdict(self, *cases, status="0"):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "junit.xml")
            path.write_text(f"<testsuite>{''.join(cases)}</testsuite>", encoding="utf-8")
            run = subprocess.run([sys.executable, SCRIPT, path, status], capture_output=True,
                                 text=True, check=False)
        return run.returncode, run.stdout, run.stdout.splitlines()[-1]

    def test_passing_tests_pass(self):
        self.assertEqual(self.verdict(PASSED)[::2], (0, "1 passed, 0 failed, 0 skipped"))

    def test_a_failure_fails(self):
        self.assertEqual(self.verdict(PASSED, FAILED)[::2], (1, "1 passed, 1 failed, 0 skipped"))

    def test_a_test_that_could_not_start_fails(self):
        self.assertEqual(self.verdict(PASSED, MISSING)[::2], (1, "1 passed, 1 failed, 0 skipped"))

    def test_no_test_at_all_fails(self):
        self.assertEqual(self.verdict()[::2], (1, "0 passed, 0 failed, 0 skipped"))

    def test_a_failed_ctest_fails_whatever_was_counted(self):
        self.assertEqual(self.verdict(PASSED, status="8")[0], 1)

    def test_a_missing_file_fails(self):
        run = subprocess.run([sys.executable, SCRIPT, "/nonexistent.xml"], capture_output=True,
                             text=True, check=False)
        self.assertEqual(run.returncode, 1)
        self.assertEqual(run.stdout, "0 passed, 1 failed, 0 skipped\n")

    def test_a_gpu_test_may_be_skipped_and_says_why(self):
        status, said, last = self.verdict(PASSED, skipped("gpu", "no GPU here"))
        self.assertEqual((status, last), (0, "1 passed, 0 failed, 1 skipped"))
        self.assertIn("skipped: s: no GPU here", said)

    def test_any_other_skip_fails(self):
        status, said, _ = self.verdict(PASSED, skipped("parity", "no transformers"))
        self.assertEqual(status, 1)
        self.assertIn("not allowed", said)

    def test_a_skip_inside_a_suite_is_no_pass(self):
        suite = ('<testcase name="parity.x" status="run"><system-out>'
                 "test_a (__main__.Logits.test_a) ... ok\n"
                 "test_b (__main__.Logits.test_b)\nOf the real model. ... skipped 'no model'\n"
                 "1 passed, 0 failed, 1 skipped\n</system-out></testcase>")
        status, said, last = self.verdict(PASSED, suite)
        self.assertEqual((status, last), (1, "2 passed, 0 failed, 1 skipped"))
        self.assertIn("skipped: parity.x:test_b: no model", said)
        nameless = suite.replace("... skipped 'no model'", "... ok")
        status, said, last = self.verdict(PASSED, nameless)
        self.assertEqual((status, last), (1, "2 passed, 0 failed, 1 skipped"))
        self.assertIn("parity.x:one of its tests: no reason given", said)

    def test_a_fault_test_may_be_skipped_only_where_mounting_is_impossible(self):
        test = count_tests.Test("s", ["fault"], "skipped", "needs mount")
        self.assertTrue(count_tests.is_allowed(test, lambda: False))
        self.assertFalse(count_tests.is_allowed(test, lambda: True))
        other = count_tests.Test("s", ["fault"], "skipped", "no preload library")
        self.assertFalse(count_tests.is_allowed(other, lambda: False))

    def test_a_test_of_missing_instructions_may_be_skipped_only_where_they_are_missing(self):
        skip = count_tests.Test("s", ["unit"], "skipped", "this machine has no avx512")
        present = count_tests.has_instructions("avx512")
        self.assertEqual(count_tests.is_allowed(skip, lambda: True), not present)
        unknown = count_tests.Test("s", ["unit"], "skipped", "this machine has no printer")
        self.assertFalse(count_tests.is_allowed(unknown, lambda: True))


if __name__ == "__main__":
    unittest.main()
