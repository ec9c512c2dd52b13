"""The style check as a whole: format, test mirror and headers that compile alone."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

CI = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(CI))
import check_headers  # noqa: E402
import check_mirror  # noqa: E402

GOOD = {
    "src/README.md": "# src\n",
    "tests/README.md": "# tests\n",
    "src/base/error.h": "#pragma once\n#include <string>\nextern std::string g;\n",
    "src/base/error.cpp": '#include "src/base/error.h"\nint f = 0;\n',
    "tests/base/error_test.cpp": '#include "src/base/error.h"\n',
}


class CheckStyle(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.folder.name)
        for name, text in GOOD.items():
            self.write(name, text)
        shutil.copy(CI.parent / ".clang-format", self.root / ".clang-format")

    def tearDown(self):
        self.folder.cleanup()

    def write(self, name, text):
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text, encoding="utf-8")

    def run_all(self):
        run = subprocess.run(["bash", CI / "check_style.sh", self.root], capture_output=True,
                             text=True, check=False)
        return run.returncode, run.stdout + run.stderr

    def test_a_good_tree_passes(self):
        self.assertEqual(self.run_all()[0], 0, self.run_all()[1])

    def test_unformatted_code_fails(self):
        self.write("src/base/error.h", "#pragma once\nint   f( );\n")
        status, said = self.run_all()
        self.assertEqual(status, 1)
        self.assertIn("clang-format-violations", said)

    def test_each_part_fails_the_whole(self):
        self.write("src/base/lonely.cpp", "int x = 0;\n")
        status, said = self.run_all()
        self.assertEqual(status, 1)
        self.assertIn("lonely.cpp: has no tests/base/lonely_test.cpp", said)

    def test_a_header_that_does_not_compile_alone_is_found(self):
        self.write("src/base/bad.h", "#pragma once\nstd::string f();\n")
        problems, count = check_headers.check(self.root)
        self.assertEqual(count, 2)
        self.assertIn("src/base/bad.h: does not compile alone", problems[0])

    def test_a_header_that_reaches_torch_is_left_to_the_build(self):
        self.write("src/ops/nf4.h", "#pragma once\n#include <ATen/core/Tensor.h>\n")
        self.assertEqual(check_headers.check(self.root), ([], 1))

    def test_the_forms_of_a_kernel_are_one_unit(self):
        self.write("kernels/nf4_avx2.cpp", "int x = 0;\n")
        self.assertEqual(len(check_mirror.check(self.root)), 1)
        self.write("tests/kernels/nf4_test.cpp", "int x = 0;\n")
        self.assertEqual(check_mirror.check(self.root), [])

    def test_comm_is_its_own_layer(self):
        places = check_mirror.expected_tests("distributed/comm/mpi.cpp")
        self.assertEqual(places[0], "tests/comm/mpi_test.cpp")

    def test_a_folder_within_a_layer_may_have_its_own_folder_of_tests(self):
        self.write("checkpoints/convert/options.cpp", "int x = 0;\n")
        self.assertEqual(len(check_mirror.check(self.root)), 1)
        self.write("tests/convert/options_test.cpp", "int x = 0;\n")
        self.assertEqual(check_mirror.check(self.root), [])

    def test_a_listed_sibling_counts_while_it_exists(self):
        self.write("src/base/part.cpp", "int x = 0;\n")
        self.write("ci/test_mirror.txt", "src/base/part.cpp tests/base/error_test.cpp one unit\n")
        self.assertEqual(check_mirror.check(self.root), [])
        self.write("ci/test_mirror.txt", "src/base/part.cpp tests/base/none_test.cpp one unit\n")
        self.assertIn("there is no tests/base/none_test.cpp", check_mirror.check(self.root)[0])

    def test_stale_and_malformed_exceptions_are_found(self):
        for line, expected in (("src/base/gone.cpp tests/base/error_test.cpp why", "there is no"),
                               ("src/base/error.cpp tests/base/error_test.cpp why", "own test"),
                               ("src/base/error.cpp tests/base/error_test.cpp", "REASON")):
            self.write("ci/test_mirror.txt", line + "\n")
            self.assertIn(expected, check_mirror.check(self.root)[0])


if __name__ == "__main__":
    unittest.main()
