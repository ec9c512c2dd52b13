"""Planted violations of lengths, marks and folder READMEs are found."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import check_text  # noqa: E402

SHORT = """// A comment with a brace { and "a quote
namespace a {
struct S {
  S(int x) : x_{x}, y_{0} {
    if (x) { f("{"); }
  }
  int x_{1};
  std::function<void()> g = [] { h('{'); };
};
}  // namespace a
"""


def long_function(lines):
    body = "  f(1);\n" * (lines - 2)
    return "void g(int x,\n       int y) const noexcept {\n" + body + "}\n"


class CheckText(unittest.TestCase):
    def problems(self, name, text, readme="# base\n"):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True)
            path.write_text(text, encoding="utf-8")
            if readme is not None:
                pathlib.Path(folder, name.split("/")[0], "README.md").write_text(readme)
            return check_text.check(pathlib.Path(folder))

    def assert_found(self, name, text, expected, **options):
        found = self.problems(name, text, **options)
        self.assertEqual(len(found), 1, found)
        self.assertIn(expected, found[0])

    def test_a_good_file_passes(self):
        self.assertEqual(self.problems("src/base/a.cpp", SHORT), [])

    def test_a_long_file_is_found(self):
        self.assertEqual(self.problems("src/base/a.cpp", "int x;\n" * 400), [])
        self.assert_found("src/base/a.cpp", "int x;\n" * 401, "401 lines")

    def test_a_long_line_is_found(self):
        self.assertEqual(self.problems("src/base/a.py", "x" * 100 + "\n"), [])
        self.assert_found("src/base/a.py", "x" * 101 + "\n", "101 characters")

    def test_a_long_function_is_found(self):
        self.assertEqual(self.problems("src/base/a.cpp", long_function(49)), [])
        self.assert_found("src/base/a.cpp", SHORT + long_function(50), ":11: the function has 51")

    def test_functions_in_classes_and_after_initialisers_are_measured(self):
        body = "  f(1);\n" * 50
        for head in ("struct S {\nS(int x) : x_{x}, y_(0) {\n",
                     "class S : T<int(int)> {\nint f() {\n",
                     "template <class T>\nauto S<T>::f() -> int {{\n"):
            tail = "}\n" * head.count("{")
            self.assert_found("src/base/a.cpp", head + body + tail, "the function has")

    def test_a_lambda_inside_a_function_counts_with_it(self):
        found = list(check_text.functions("int f() {\n  auto g = [] {\n  };\n}\n"))
        self.assertEqual(found, [(1, 4)])

    def test_a_mark_without_an_owner_is_found(self):
        mark = "TO" + "DO"
        self.assertEqual(self.problems("src/base/a.cpp", f"// {mark}(ada): later\n"), [])
        self.assert_found("src/base/a.cpp", f"// {mark}: later\n", "no owner")

    def test_rank_for_a_process_is_found(self):
        self.assert_found("src/train/a.cpp", "int world_rank = 0;\n", "LoRA rank")
        self.assert_found("distributed/comm/a.cpp", "int rank = 0;\n", "LoRA rank")
        self.assertEqual(self.problems("distributed/comm/a.cpp", "MPI_Comm_rank(c, &p);\n"), [])
        self.assertEqual(self.problems("src/adapters/a.cpp", "int rank = 8;\n"), [])

    def test_a_path_of_one_machine_is_found(self):
        self.assert_found("src/base/a.cpp", 'f("/' + 'home/ada/x");\n', "one machine")

    def test_a_missing_or_long_readme_is_found(self):
        self.assert_found("src/base/a.cpp", "int x;\n", "has no README", readme=None)
        self.assert_found("src/base/a.cpp", "int x;\n", "longer than 25", readme="a\n" * 26)


if __name__ == "__main__":
    unittest.main()
