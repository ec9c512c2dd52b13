"""A checkpoint through the eyes of other programs: h5py, h5dump, Python's json.

usage: checkpoint_parity.py CHECKPOINT_TOOL
"""

import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np

TOOL = None
STEP = 100


class Checkpoint(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.temporary.cleanup)
        # One JSON line per array: name, dtype, shape, its bytes in hexadecimal.
        lines = subprocess.run([TOOL, cls.temporary.name, str(STEP)], check=True,
                               stdout=subprocess.PIPE, text=True).stdout.splitlines()
        cls.expected = {entry["name"]: entry for entry in map(json.loads, lines)}
        cls.folder = Path(cls.temporary.name) / f"step_{STEP:08}"
        cls.manifest = json.loads((cls.folder / "manifest.json").read_text())

    def names_of(self, file):
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset)
                        else None)
        return names

    def test_h5py_reads_every_array(self):
        with h5py.File(self.folder / "checkpoint.h5", "r") as file:
            self.assertEqual(sorted(self.names_of(file)), sorted(self.expected))
            for name, entry in self.expected.items():
                dataset = file[name]
                self.assertEqual(list(dataset.shape), entry["shape"], name)
                self.assertEqual(self.stored_bytes(dataset).hex(), entry["bytes"], name)

    def stored_bytes(self, dataset):
        """In the file's own type: h5py would widen a bfloat16 to float32."""
        kind = dataset.id.get_type()
        out = np.empty(dataset.shape, dtype=f"V{kind.get_size()}")
        if out.size:
            dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, out, mtype=kind)
        return out.tobytes()

    def test_numpy_sees_the_element_types(self):
        expected = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "U8": "u1"}
        with h5py.File(self.folder / "checkpoint.h5", "r") as file:
            for name, entry in self.expected.items():
                if entry["dtype"] == "BF16":
                    continue
                self.assertEqual(file[name].dtype, np.dtype("<" + expected[entry["dtype"]]), name)

    def test_bfloat16_is_read_as_its_value(self):
        names = [name for name, entry in self.expected.items() if entry["dtype"] == "BF16"]
        self.assertTrue(names)
        with h5py.File(self.folder / "checkpoint.h5", "r") as file:
            for name in names:
                out = np.empty(file[name].shape, dtype="<f4")
                file[name].id.read(h5py.h5s.ALL, h5py.h5s.ALL, out)
                bits = np.frombuffer(bytes.fromhex(self.expected[name]["bytes"]), dtype="<u2")
                wide = (bits.astype("<u4") << 16).view("<f4").reshape(out.shape)
                np.testing.assert_array_equal(out, wide)

    def test_values_are_attributes_of_the_root(self):
        with h5py.File(self.folder / "checkpoint.h5", "r") as file:
            self.assertEqual(file.attrs["checkpoint_step"], STEP)
            self.assertEqual(np.asarray(file.attrs["checkpoint_format"]).astype(str), "1.1")
            self.assertEqual(np.asarray(file.attrs["config"]).astype(str), "[train]\nsteps = 40\n")
            self.assertEqual(file.attrs["learning_rate"], 2e-4)
            self.assertEqual(file.attrs["tokens_seen"], 9007199254740993)

    def test_every_dataset_is_chunked_and_checksummed(self):
        with h5py.File(self.folder / "checkpoint.h5", "r") as file:
            for name in self.expected:
                self.assertTrue(file[name].fletcher32, name)
                for chunk, extent in zip(file[name].chunks, file[name].shape):
                    self.assertTrue(1 <= chunk <= max(1, extent), name)

    def test_the_manifest_lists_what_h5py_finds(self):
        self.assertEqual(sorted(self.manifest["datasets"]), sorted(self.expected))
        file = self.folder / "checkpoint.h5"
        self.assertEqual(self.manifest["files"]["checkpoint.h5"]["bytes"], file.stat().st_size)
        for name, record in self.manifest["datasets"].items():
            self.assertEqual(record["dtype"], self.expected[name]["dtype"])
            self.assertEqual(record["shape"], self.expected[name]["shape"])

    def test_stored_bytes_lie_where_the_manifest_says(self):
        data = (self.folder / "checkpoint.h5").read_bytes()
        for name, record in self.manifest["datasets"].items():
            expected = bytes.fromhex(self.expected[name]["bytes"])
            if len(record["stored"]) != 1 or len(expected) > 1 << 16:
                continue  # one chunk: the values, then four bytes of Fletcher32
            offset, count, _ = record["stored"][0]
            self.assertEqual(count, len(expected) + 4, name)
            self.assertEqual(data[offset:offset + len(expected)], expected, name)

    @unittest.skipUnless(shutil.which("h5dump"), "h5dump is not installed (hdf5-tools)")
    def test_h5dump_lists_every_expert_by_name(self):
        listing = subprocess.run(["h5dump", "-n", self.folder / "checkpoint.h5"], check=True,
                                 stdout=subprocess.PIPE, text=True).stdout
        for name in self.expected:
            self.assertIn(f"/{name}\n", listing)


def main():
    global TOOL
    TOOL = sys.argv[1]
    result = unittest.main(argv=sys.argv[:1], exit=False, verbosity=2).result
    failed = len(result.failures) + len(result.errors)
    skipped = len(result.skipped)
    print(f"{result.testsRun - failed - skipped} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or result.testsRun == 0 else 0)


if __name__ == "__main__":
    main()
