"""Damaged checkpoints and checkpoints of something else: refused and named where they are asked
for, passed over with a sentence where the newest valid one is.

Usage: checkpoint_damage_test.py PROGRAM MPIEXEC
"""

import ctypes
import json
import pathlib
import shutil
import subprocess
import sys

import h5py

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cli_fixture import UNDISTURBED, CliTest, main  # noqa: E402

NEWEST = "checkpoints/step_00000006"
EXPERTS = [f"layer/{layer}/{site}/expert/{expert}"
           for layer in range(2) for site in "q v up".split() for expert in range(3)]


class Hash(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def xxh3_128(data):
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_128bits.restype = Hash
    library.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    found = library.XXH3_128bits(data, len(data))
    return f"{found.high:016x}{found.low:016x}"


def manifest_of(folder):
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def flip_in_an_expert(folder):
    offset, count, _ = manifest_of(folder)["datasets"]["layer/1/v/expert/2/A"]["stored"][0]
    flip(folder / "checkpoint.h5", offset + count // 2)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def make_newer(folder):
    """A manifest of the next version, whole and with the right checksum."""
    path = folder / "manifest.json"
    rest = path.read_bytes().split(b"\n", 1)[1].replace(b'"format_version": "1.1"',
                                                       b'"format_version": "2.0"')
    assert b'"2.0"' in rest
    path.write_bytes(f'{{"manifest_xxh3_128": "{xxh3_128(rest)}",\n'.encode() + rest)


# Damage, and the words of the refusal beside the folder's name.
DAMAGES = {
    "a flipped byte of an expert": (
        flip_in_an_expert, ["checkpoint.h5 differs from its checksum", "layer/1/v/expert/2/A"]),
    "a flipped byte of the manifest": (
        lambda folder: flip(folder / "manifest.json", 300), ["manifest.json", "checksum"]),
    "truncated data": (
        lambda folder: cut(folder / "checkpoint.h5"), ["checkpoint.h5 holds", "the manifest says"]),
    "a truncated manifest": (
        lambda folder: cut(folder / "manifest.json"), ["manifest.json", "checksum"]),
    "missing data": (
        lambda folder: (folder / "checkpoint.h5").unlink(), ["checkpoint.h5 is missing"]),
    "a missing manifest": (
        lambda folder: (folder / "manifest.json").unlink(), ["manifest.json is missing"]),
    "a newer format": (make_newer, ["format version 2.0", "reads up to 1.1"]),
}


class Damage(CliTest):
    def damaged(self, damage):
        """A copy of the undisturbed run whose newest checkpoint is damaged."""
        folder = self.world.root / "r" / "damaged"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.world.root / UNDISTURBED, folder)
        damage(folder / NEWEST)
        return folder

    def test_the_checksum_of_the_test_is_that_of_the_program(self):
        folder = self.world.root / UNDISTURBED / NEWEST
        self.assertEqual(xxh3_128((folder / "checkpoint.h5").read_bytes()),
                         manifest_of(folder)["files"]["checkpoint.h5"]["xxh3_128"])
        rest = (folder / "manifest.json").read_bytes().split(b"\n", 1)[1]
        self.assertIn(xxh3_128(rest), (folder / "manifest.json").read_text(encoding="utf-8"))

    def test_a_damaged_checkpoint_that_is_asked_for_is_refused_and_named(self):
        for name, (damage, words) in DAMAGES.items():
            with self.subTest(name):
                folder = self.damaged(damage)
                self.refused(3, "train", "-c", "a.ini", "--run", "r/new", "--resume",
                             folder / NEWEST, says=[NEWEST, *words], after_start=True)
                self.refused(3, "eval", folder / NEWEST, "--data", "train.jsonl",
                             says=[NEWEST, *words])
                self.assertFalse((self.world.root / "r/new/checkpoints").exists())

    def test_an_automatic_resume_falls_back_to_the_older_one_and_says_why(self):
        for name, (damage, words) in DAMAGES.items():
            with self.subTest(name):
                folder = self.damaged(damage)
                result = self.world.run("train", "-c", "a.ini", "--run", folder, "--resume",
                                        "auto", "--json")
                self.assertEqual(result.returncode, 0, result.stderr)
                (passed,) = (line for line in result.stderr.splitlines() if "passed over" in line)
                for part in ["step_00000006", *words]:
                    self.assertIn(part, passed)
                self.assertIn("resumed at step 4,", result.stderr)
                self.assertEqual(json.loads(result.stdout)["parameters_hash"],
                                 self.world.undisturbed["parameters_hash"])

    def test_two_processes_refuse_as_one_does(self):
        folder = self.damaged(flip_in_an_expert)
        result = self.world.run("train", "-c", "a.ini", "--run", "r/two", "--resume",
                                folder / NEWEST, launcher=self.world.mpi(2))
        self.assertEqual(result.returncode, 3, result.stderr)
        self.assertIn("layer/1/v/expert/2/A", result.stderr)

    def test_another_base_model_is_refused_with_both_hashes_and_changes_nothing(self):
        self.world.init_model("other", 2)
        self.world.train("r/on_other", "--set", "model.path=other", "--steps", 0)
        mine, other = (json.loads(self.world.done("inspect", name, "--json"))["base_hash"]
                       for name in (UNDISTURBED, "r/on_other"))
        folder = self.damaged(lambda _: None)
        for resume in ("auto", folder / NEWEST):
            before = sorted(path.name for path in (folder / "checkpoints").iterdir())
            self.refused(3, "train", "-c", "a.ini", "--run", folder, "--resume", resume, "--set",
                         "model.path=other", says=["base model", mine, other], after_start=True)
            self.assertEqual(sorted(path.name for path in (folder / "checkpoints").iterdir()),
                             before)

    def test_other_programs_list_every_expert_by_name(self):
        file = self.world.root / UNDISTURBED / NEWEST / "checkpoint.h5"
        listing = subprocess.run(["h5dump", "-n", file], check=True, stdout=subprocess.PIPE,
                                 text=True).stdout
        with h5py.File(file, "r") as content:
            for expert in EXPERTS:
                for part in ("A", "B", "direction_id"):
                    self.assertIn(f"{expert}/{part}", content)
                    self.assertIn(f"/{expert}/{part}\n", listing)
                self.assertEqual(content[f"{expert}/A"].shape[0], content[f"{expert}/B"].shape[0])
                self.assertEqual(content[f"{expert}/A"].shape[1], 32)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], [Damage]))
