"""The demo's data: held out means held out, and the same options give the same bytes."""

import collections
import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "launch"))
import demo_data  # noqa: E402


def write(folder, *options):
    """What the script prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        demo_data.main(["--out", str(folder), *options])
    return said.getvalue()


def prompts(path):
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row["messages"][0]["content"] for row in rows]


class Draw(unittest.TestCase):
    FAMILY = demo_data.Family("toy", "none", {})

    def draw(self, questions, wanted, taken=()):
        def create_dataset(name, seed, size):
            return [{"question": q, "answer": "1"} for q in questions] + [
                {"question": f"fill {seed} {i}", "answer": "1"} for i in range(size)]
        hashes = {demo_data.prompt_hash(prompt) for prompt in taken}
        return demo_data.draw(create_dataset, self.FAMILY, 7, wanted, hashes)

    def test_drops_and_counts_what_was_taken(self):
        rows, in_taken, repeats = self.draw(["a", "b", "a", "c", "c"], 2, taken=["a"])
        self.assertEqual([row["messages"][0]["content"] for row in rows], ["b", "c"])
        self.assertEqual((in_taken, repeats), (2, 0))

    def test_drops_and_counts_repeats_of_its_own(self):
        rows, in_taken, repeats = self.draw(["a", "a", "b"], 2)
        self.assertEqual([row["messages"][0]["content"] for row in rows], ["a", "b"])
        self.assertEqual((in_taken, repeats), (0, 1))

    def test_blanks_at_the_ends_make_no_other_prompt(self):
        rows, in_taken, _ = self.draw([" a\n", "b"], 1, taken=["a"])
        self.assertEqual(rows[0]["messages"][0]["content"], "b")
        self.assertEqual(in_taken, 1)

    def test_a_family_that_is_too_small_is_refused_with_the_numbers(self):
        def create_dataset(name, seed, size):
            return [{"question": "the only one", "answer": "1"}] * size
        with self.assertRaisesRegex(demo_data.NotEnough, "toy: 1 different .* expected 5"):
            demo_data.draw(create_dataset, self.FAMILY, 0, 5, set())


class DemoData(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)

    def test_no_held_out_prompt_occurs_in_training_and_the_dropped_are_counted(self):
        said = write(self.folder)
        train, heldout = (prompts(self.folder / f"{name}.jsonl") for name in ("train", "heldout"))
        self.assertEqual(set(train) & set(heldout), set())
        self.assertEqual(len(set(heldout)), len(heldout))
        dropped = {line.split()[0]: int(line.split()[3]) for line in said.splitlines()[1:-1]}
        self.assertGreater(dropped["chain_sum"], 0)  # two-digit sums do meet by chance
        self.assertIn(f"; {sum(dropped.values())} held-out prompts dropped", said)

    def test_every_family_has_the_rows_asked_for(self):
        write(self.folder, "--train-per-task", "6", "--eval-per-task", "4")
        for name, count in (("train", 6), ("heldout", 4)):
            lines = (self.folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
            rows = [json.loads(line) for line in lines]
            tasks = collections.Counter(row["task"] for row in rows)
            self.assertEqual(tasks, {family.name: count for family in demo_data.FAMILIES})
            for row in rows:
                self.assertEqual([m["role"] for m in row["messages"]], ["user", "assistant"])
                self.assertTrue(all(m["content"] for m in row["messages"]))
        self.assertGreaterEqual(len(demo_data.FAMILIES), 6)

    def test_the_same_options_give_the_same_bytes_and_another_seed_other_rows(self):
        for folder, seed in (("a", "3"), ("b", "3"), ("c", "4")):
            write(self.folder / folder, "--seed", seed, "--train-per-task", "5")
        for name in ("train.jsonl", "heldout.jsonl"):
            a, b, c = ((self.folder / folder / name).read_bytes() for folder in "abc")
            self.assertEqual(a, b)
            self.assertNotEqual(a, c)

    def test_sets_lie_a_million_seeds_apart(self):
        seeds = []

        def load():
            def create_dataset(name, seed, size, **_):
                seeds.append(seed)
                return [{"question": f"{name} {seed + i}", "answer": "1"} for i in range(size)]
            return create_dataset
        original, demo_data.load_families = demo_data.load_families, load
        self.addCleanup(setattr, demo_data, "load_families", original)
        for seed in ("0", "1"):
            write(self.folder, "--seed", seed)
        seeds.sort()
        self.assertEqual(len(seeds), 4 * len(demo_data.FAMILIES))
        self.assertTrue(all(b - a >= 1_000_000 for a, b in zip(seeds, seeds[1:])))

    def test_nothing_is_written_when_there_are_too_few_prompts(self):
        with self.assertRaises(demo_data.NotEnough):
            write(self.folder / "new", "--train-per-task", "20000")
        self.assertFalse((self.folder / "new").exists())


if __name__ == "__main__":
    unittest.main()
