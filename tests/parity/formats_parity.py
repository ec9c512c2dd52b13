"""The file formats against the libraries that own them: safetensors, gguf, tensorboard.

usage: formats_parity.py FORMATS_TOOL
The real model is taken from the folder DFMOA_DOWNLOADS; without it that test is skipped.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors import safe_open
from safetensors.torch import load_file, save_file

try:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util
    NO_TENSORBOARD = ""
except ModuleNotFoundError as error:  # the wheel needs packages that it was installed without
    NO_TENSORBOARD = f"tensorboard's event loader cannot be imported: {error}"

TOOL = None
QUANTISED = [Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1]
K_QUANTS = {Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208]}  # places of fp16 scales


def tool(*words, **options):
    return subprocess.run([TOOL, *map(str, words)], check=True, **options)


def read_tensors(*words):
    """What the tool prints, one (line, bytes) at a time: a model never lies in memory whole."""
    with subprocess.Popen([TOOL, *map(str, words)], stdout=subprocess.PIPE) as process:
        for line in process.stdout:
            tensor = json.loads(line)
            yield tensor, process.stdout.read(tensor["bytes"])
    assert process.returncode == 0, process.returncode


class TemporaryTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


def sample_tensors():
    torch.manual_seed(1)
    return {
        "f64": torch.randn(3, 5, dtype=torch.float64),
        "f32": torch.randn(40, 17),
        "f16": torch.randn(7).half(),
        "bf16": torch.randn(2, 3, 4).bfloat16(),
        "i64": torch.arange(-3, 9),
        "i32": torch.arange(6, dtype=torch.int32).reshape(2, 3),
        "u8.odd": torch.arange(13, dtype=torch.uint8),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
        "Zoë \"quoted\"\n": torch.ones(1),
    }


class Safetensors(TemporaryTest):
    def test_their_file_is_read_byte_for_byte(self):
        tensors = sample_tensors()
        save_file(tensors, self.folder / "theirs")
        self.compare(tensors, read_tensors("dump", self.folder / "theirs"))

    def compare(self, tensors, read):
        """Names in order, shapes and bytes."""
        read = list(read)
        self.assertEqual([line["name"] for line, _ in read], sorted(tensors, key=str.encode))
        for line, content in read:
            tensor = tensors[line["name"]]
            self.assertEqual(line["shape"], list(tensor.shape))
            self.assertEqual(content, tensor.reshape(-1).view(torch.uint8).numpy().tobytes())

    def test_our_files_open_in_the_library(self):
        tensors = sample_tensors()
        save_file(tensors, self.folder / "theirs")
        for verb in ("copy", "stream"):
            with self.subTest(verb):
                path = self.folder / verb
                tool(verb, self.folder / "theirs", path)
                loaded = load_file(path)
                self.assertEqual(loaded.keys(), tensors.keys())
                for name, tensor in tensors.items():
                    self.assertEqual(loaded[name].dtype, tensor.dtype)
                    self.assertTrue(torch.equal(loaded[name], tensor), name)
                with safe_open(path, "pt") as file:
                    self.assertEqual(file.metadata(), {"format": "pt"})
                length = struct.unpack("<Q", path.read_bytes()[:8])[0]
                self.assertEqual(length % 8, 0)

    def test_both_refuse_the_same_damage(self):
        good = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                "b": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}}
        damages = {"overlap": ("b", {"data_offsets": [4, 8]}),
                   "hole": ("b", {"data_offsets": [9, 13]}),
                   "shape": ("a", {"shape": [3]}),
                   "dtype": ("a", {"dtype": "F64"}),
                   "outside": ("b", {"shape": [2], "data_offsets": [8, 16]}),
                   "none": ("a", {})}
        for damage, (name, change) in damages.items():
            with self.subTest(damage):
                header = json.dumps(good | {name: good[name] | change}).encode()
                path = self.folder / damage
                path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))
                ours = subprocess.run([TOOL, "dump", path], capture_output=True).returncode
                try:
                    load_file(path)
                    theirs = 0
                except Exception:  # the library's error type differs from damage to damage
                    theirs = 3
                self.assertEqual(ours, theirs)
                self.assertEqual(ours, 0 if damage == "none" else 3)

    def test_shards_of_the_library_are_one_store(self):
        tensors = sample_tensors()
        shard_of = {name: f"model-0000{1 + i % 2}-of-00002.safetensors"
                    for i, name in enumerate(tensors)}
        for shard in set(shard_of.values()):
            save_file({name: tensors[name] for name in tensors if shard_of[name] == shard},
                      self.folder / shard, metadata={"format": "pt"})
        index = {"metadata": {"total_size": 1}, "weight_map": shard_of}
        (self.folder / "model.safetensors.index.json").write_text(json.dumps(index))
        self.compare(tensors, read_tensors("dump_store", self.folder))


class Gguf(TemporaryTest):
    def compare(self, path):
        """Every tensor of a file, bit for bit; gives how many there were."""
        theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        seen = 0
        for line, content in read_tensors("dequantize", path):
            tensor = theirs[line["name"]]
            self.assertEqual(line["dtype"], tensor.tensor_type.name)
            self.assertEqual(line["shape"], tensor.shape.tolist()[::-1])
            expected = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            self.assertEqual(content, np.ascontiguousarray(expected, np.float32).tobytes(),
                             line["name"])
            seen += 1
        self.assertEqual(seen, len(theirs))
        return seen

    def write(self, tensors):
        path = self.folder / "model.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        for name, (data, tensor_type) in tensors.items():
            writer.add_tensor(name, data, raw_dtype=tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def test_floating_types_widen_bit_for_bit(self):
        random = np.random.default_rng(3)
        finite = np.arange(65536, dtype=np.uint32).astype(np.uint16)
        half = finite[np.isfinite(finite.view(np.float16)) | np.isinf(finite.view(np.float16))]
        brain = finite[(finite & 0x7FFF) <= 0x7F80]
        path = self.write({
            "f32": (random.standard_normal((3, 2, 5), dtype=np.float32), Type.F32),
            "f16": (half.view(np.float16), Type.F16),  # every value that there is
            "bf16": (brain.view(np.uint8), Type.BF16),
        })
        self.assertEqual(self.compare(path), 3)

    def test_quantised_types_are_bit_equal(self):
        random = np.random.default_rng(4)
        tensors = {}
        for kind in QUANTISED:
            for scale in (1e-6, 0.02, 30.0):
                values = (random.standard_normal((7, 96)) * scale).astype(np.float32)
                values[2] = 0
                tensors[f"{kind.name}.{scale}"] = (gguf.quants.quantize(values, kind), kind)
        self.assertEqual(self.compare(self.write(tensors)), 3 * len(QUANTISED))

    def test_k_quants_of_random_codes_are_bit_equal(self):
        random = np.random.default_rng(5)
        tensors = {}
        for kind, scales in K_QUANTS.items():
            size = gguf.GGML_QUANT_SIZES[kind][1]
            blocks = random.integers(0, 256, (64, size), dtype=np.uint8)
            for place in scales:
                scale = (random.standard_normal(64) * 0.1).astype(np.float16)
                blocks[:, place:place + 2] = scale.view(np.uint8).reshape(64, 2)
            tensors[kind.name] = (blocks.reshape(16, 4 * size), kind)
        self.assertEqual(self.compare(self.write(tensors)), 3)

    def test_metadata_equal_the_library_s(self):
        path = self.folder / "keys.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_uint8("u8", 255)
        writer.add_int8("i8", -128)
        writer.add_uint64("u64", 2**63 + 1)
        writer.add_int64("i64", -2**63)
        writer.add_float32("f32", 0.1)
        writer.add_float64("f64", 0.1)
        writer.add_bool("flag", True)
        writer.add_string("text", "naïve \n ☃")
        writer.add_array("texts", ["", "Ġa", "日本"])
        writer.add_array("integers", [1, -2, 3])
        writer.add_array("numbers", [0.5, -0.25])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        self.compare_metadata(path)

    def compare_metadata(self, path):
        ours = json.loads(tool("metadata", path, stdout=subprocess.PIPE).stdout)
        theirs = {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()
                  if not name.startswith("GGUF.")}
        self.assertEqual(ours, theirs)

    def test_real_model_is_bit_equal(self):
        folder = os.environ.get("DFMOA_DOWNLOADS", "")
        found = sorted(Path(folder).rglob("SmolLM2-135M-Instruct.Q4_1.gguf")) if folder else []
        if not found:
            self.skipTest("DFMOA_DOWNLOADS names no folder with SmolLM2-135M-Instruct.Q4_1.gguf")
        self.assertEqual(self.compare(found[0]), 272)
        self.compare_metadata(found[0])


@unittest.skipIf(NO_TENSORBOARD, NO_TENSORBOARD)
class TensorBoard(TemporaryTest):
    def test_event_loader_reads_exact_values(self):
        values = [("train/loss", 0, 0.1, 1.5), ("train/loss", 300, -3.5e-12, 1700000000.25),
                  ("eval/perplexité", 2**40, 3e38, 0.0), ("router/7/load_cv", 1, float("inf"), 2.0),
                  ("negative", -1, 1.0, 2.0), ("x" * 300, 5, 0.0, 2.0)]
        lines = "".join(f"{tag} {step} {value!r} {wall!r}\n" for tag, step, value, wall in values)
        tool("events", self.folder, input=lines.encode())
        [path] = self.folder.iterdir()
        self.assertIn("tfevents", path.name)
        version, *events = EventFileLoader(str(path)).Load()
        self.assertEqual(version.file_version, "brain.Event:2")
        self.assertEqual(len(events), len(values))
        for event, (tag, step, value, wall) in zip(events, values):
            [entry] = event.summary.value
            self.assertEqual((entry.tag, event.step, event.wall_time), (tag, step, wall))
            self.assertEqual(tensor_util.make_ndarray(entry.tensor).item(), np.float32(value))

    def test_a_flipped_bit_is_noticed(self):
        tool("events", self.folder, input=b"train/loss 1 0.5 1.0\n")
        [path] = self.folder.iterdir()
        content = bytearray(path.read_bytes())
        content[-6] ^= 1
        path.write_bytes(content)
        self.assertEqual(len(list(EventFileLoader(str(path)).Load())), 1)  # the version alone


if __name__ == "__main__":
    TOOL = sys.argv.pop(1)
    outcome = unittest.main(exit=False, verbosity=2).result
    failed = len(outcome.failures) + len(outcome.errors)
    skipped = len(outcome.skipped)
    print(f"{outcome.testsRun - failed - skipped} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or outcome.testsRun == 0 else 0)
