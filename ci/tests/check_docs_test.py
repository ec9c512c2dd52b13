"""A document that names what is not there is found."""

import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import check_docs  # noqa: E402


class CheckDocs(unittest.TestCase):
    def problems(self, document):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            (root / "src/gates").mkdir(parents=True)
            (root / "docs").mkdir()
            (root / "src/gates/router.cpp").write_text("void route_all();\nclass TopK {};\n"
                                                       "TEST(Router, ties_go_to_the_lowest) {}\n")
            (root / "docs/a.md").write_text(document, encoding="utf-8")
            return check_docs.check(root)

    def test_what_is_there_may_be_named(self):
        self.assertEqual(self.problems(
            "`src/gates`, `src/gates/router`, `src/gates/router.cpp`, `gates::route_all`, `TopK`, "
            "`Router.ties_go_*`, `x + 1`, `dfmoa train`, `src/NAME.cpp`\n"), [])

    def test_a_path_that_is_gone_is_found_with_its_line(self):
        self.assertEqual(self.problems("a\n`src/gates/top_k.cpp`\n"),
                         ["docs/a.md:2: there is no src/gates/top_k.cpp"])

    def test_a_symbol_that_is_gone_is_found(self):
        for symbol in ("route_some", "TopP", "gates::BottomK", "Router.ties_come_*"):
            self.assertEqual(self.problems(f"`{symbol}`"),
                             [f"docs/a.md:1: no source holds the symbol {symbol}"])

    def test_code_blocks_are_left_alone(self):
        self.assertEqual(self.problems("```\n`src/nowhere.cpp`\n```\n"), [])


if __name__ == "__main__":
    unittest.main()
