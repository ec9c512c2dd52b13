"""The demo's table: its exit status says what the figures say."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "launch"))
import demo_table  # noqa: E402


def task(ce, exact_match, items=40):
    return {"ce": ce, "items": items, "exact_match": exact_match}


class DemoTable(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        (self.folder / "tuned").mkdir()
        self.write("parts.tsv", "build\t60\ndata\t2\n")
        self.write("log.txt", "resumed at step 10, 5120 tokens seen\n")
        self.write("killed_at", "15\n")
        self.write("tuned/config.ini", "[rank.r]\nkind = hard_concrete\nbudget = 20\n")
        self.write_metrics([(1, 16), (2, 16), (3, 8)])
        for run in ("tuned", "twin"):
            self.write_json(f"{run}.json", {"parameters_hash": "00ff"})
        self.write_tasks("base", gcd=task(4.0, 0.0), count_bits=task(6.0, 0.0))
        self.write_tasks("tuned", gcd=task(1.5, 0.25), count_bits=task(0.9, 0.2))
        self.write_tasks("single", gcd=task(1.6, 0.25), count_bits=task(0.8, 0.2))

    def write(self, name, text):
        (self.folder / name).write_text(text, encoding="utf-8")

    def write_json(self, name, value):
        self.write(name, json.dumps(value))

    def write_tasks(self, model, prompts_hash="77", **tasks):
        evaluation = {"tasks": tasks, "prompts_hash": prompts_hash}
        if model != "base":
            evaluation |= {"load": {name: [0.25, 0.75] for name in tasks},
                           "mutual_information": 0.0123}
        self.write_json(f"eval_{model}.json", evaluation)

    def write_metrics(self, active, end=""):
        lines = [{"step": step, "time": 0, "key": key, "value": value}
                 for step, active_here in active
                 for key, value in (("train/ce", 4 - step), ("rank/0/q/active", active_here),
                                    ("rank/model/active", 2 * active_here))]
        lines += [{"step": 3, "time": 0, "key": f"rank/cut/ce_{side}", "value": value}
                  for side, value in (("before", 1.5), ("after", 1.75))]
        self.write("tuned/metrics.jsonl", "\n".join(map(json.dumps, lines)) + "\n" + end)

    def run_table(self):
        out, err = io.StringIO(), io.StringIO()
        original, sys.argv = sys.argv, ["demo_table.py", str(self.folder)]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status = demo_table.main()
        finally:
            sys.argv = original
        return status, out.getvalue(), err.getvalue()

    def expect(self, wanted_status, *sentences):
        status, out, err = self.run_table()
        for sentence in sentences:
            self.assertIn(sentence, out + err)
        self.assertEqual(status, wanted_status, out + err)

    def test_a_good_demo_is_reported_and_succeeds(self):
        self.expect(0, "below the base on 2 of 2 tasks", "on 2 of 2 tasks\n",
                    "after step 15; resumed at step 10", "equal",
                    "active directions: 32 at step 1, 16 at step 3, budget 20",
                    "the cut at the start of step 3 switched off 16; cross-entropy of that step's "
                    "rows: 1.500 before, 1.750 after",
                    "experts of gcd                    0.250  0.750",
                    "expert and task: 0.0123 nats, at most 0.693",
                    "prompts of all three models are the same: 77",
                    "in all                                  62")

    def test_another_hash_than_the_twin_fails(self):
        self.write_json("twin.json", {"parameters_hash": "00fe"})
        self.expect(1, "00fe  DIFFERENT")

    def test_a_log_without_a_resume_fails(self):
        self.write("log.txt", "step 1/40\n")
        self.expect(1, "the log names NO resumed step")

    def test_a_resume_at_step_0_fails(self):
        self.write("log.txt", "resumed at step 0\n")
        self.expect(1, "resumed at step 0")

    def test_a_task_that_got_worse_fails_by_name(self):
        self.write_tasks("tuned", gcd=task(4.0, 0.25), count_bits=task(0.9, 0.2))
        self.expect(1, "below the base on 1 of 2 tasks; NOT on gcd")

    def test_other_prompts_fail(self):
        self.write_tasks("single", "78", gcd=task(1.6, 0.25), count_bits=task(0.8, 0.2))
        self.expect(1, "the models read DIFFERENT prompts: 77, 78")

    def test_a_gain_within_one_standard_error_does_not_count(self):
        self.write_tasks("base", gcd=task(4.0, 0.2), count_bits=task(6.0, 0.0))
        self.expect(0, "on 1 of 2 tasks: fewer than two thirds")

    def test_without_exact_match_the_column_is_empty(self):
        for model, ce in (("base", 4.0), ("tuned", 1.0), ("single", 1.0)):
            self.write_tasks(model, gcd={"ce": ce, "items": 40})
        status, out, _ = self.run_table()
        self.assertEqual(status, 0)
        self.assertNotIn("exact match went up", out)

    def test_half_a_line_at_the_end_of_the_metrics_is_ignored(self):
        self.write_metrics([(1, 16), (2, 8)], end='{"step": 3, "ti')
        self.expect(0, "16 at step 2")

    def test_a_step_that_ran_again_counts_once(self):
        self.write_metrics([(1, 16), (2, 16), (2, 16), (3, 8)])
        self.expect(0, "32 at step 1, 16 at step 3")

    def test_a_broken_line_within_the_metrics_is_named(self):
        self.write("tuned/metrics.jsonl", "{}\n{}\n")
        self.expect(1, "metrics.jsonl:1: KeyError")

    def test_a_missing_result_is_named(self):
        (self.folder / "eval_single.json").unlink()
        self.expect(1, "eval_single.json")

    def test_a_result_without_a_hash_is_named(self):
        self.write_json("tuned.json", {})
        self.expect(1, "lacks 'parameters_hash'")

    def test_a_task_evaluated_for_one_model_only_is_named(self):
        self.write_tasks("single", gcd=task(1.6, 0.25))
        self.expect(1, "task count_bits was not evaluated for every model")


if __name__ == "__main__":
    unittest.main()
