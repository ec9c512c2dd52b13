"""Logits of the program against transformers: in fp64 to 1e-9, in fp32 within twice its own error.

usage: logits_parity.py LOGITS_TOOL DFMOA
The real model is taken from the folder DFMOA_DOWNLOADS; without it those tests are skipped.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import bitsandbytes
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

TOOL = PROGRAM = None
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
FLOOR = 5e-5  # of fp32: logits reach 44, and 44 * 2^-23 is 5e-6 for one rounding
TEXTS = {
    "plain": "The capital of France is Paris, and its river is the Seine.",
    "emoji": "family 👩‍👩‍👧 done",
    "arabic": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 "  # with ZWNJ, then with ZWJ
              "\u0627\u0644\u0633\u0644\u0627\u0645 \u0647\u200d \u0661\u0662\u0663",
    "blanks": "a" + " " * 40 + "b",
    "digits": "x  12\n7   345 ٣",
    "nul": "before\0after",
}


def norm_in_its_own_type(self, hidden):
    """transformers narrows the norm's input to fp32, also that of an fp64 model: not an oracle."""
    variance = hidden.pow(2).mean(-1, keepdim=True)
    return self.weight * (hidden * torch.rsqrt(variance + self.variance_epsilon))


def exact_model(model):
    """The same model in fp64 throughout. The rotary table stays fp32, as published."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = norm_in_its_own_type.__get__(module)
    return model.double()


def run(*words):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def ours(model, ids, precision, folder):
    source, target = folder / "ids", folder / "logits"
    np.asarray(ids, dtype=np.int64).tofile(source)
    run(TOOL, model, precision, source, target)
    return np.fromfile(target, dtype=np.float64).reshape(len(ids), -1)


def theirs(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].to(torch.float64).numpy()


def worst(one, two):
    return float(np.abs(one - two).max())


class Logits(unittest.TestCase):
    def setUp(self):
        self.kept = tempfile.TemporaryDirectory()
        self.addCleanup(self.kept.cleanup)
        self.folder = Path(self.kept.name)

    def compare(self, path, texts_of_ids, own_fp32=True):
        """fp64 to 1e-9; fp32 within twice the error of transformers' fp32 (and the floor)."""
        single = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
        fp32 = {name: theirs(single, ids) for name, ids in texts_of_ids.items()}
        model = exact_model(single)
        for name, ids in texts_of_ids.items():
            exact = theirs(model, ids)
            self.assertLess(worst(ours(path, ids, "fp64", self.folder), exact), 1e-9, name)
            if own_fp32:
                bound = 2 * max(worst(fp32[name], exact), FLOOR)
                self.assertLess(worst(ours(path, ids, "fp32", self.folder), exact), bound, name)

    def seeded(self, name, *options):
        path = self.folder / name
        run(PROGRAM, "init-model", *options, "--std", "0.2", "--seed", "3", path)
        vocabulary = AutoModelForCausalLM.from_pretrained(path).config.vocab_size
        ids = np.random.default_rng(7).integers(0, vocabulary, 200).tolist()
        self.compare(path, {name: ids})

    def test_nine_query_and_three_key_value_heads(self):
        self.seeded("gqa", "--hidden", "144", "--heads", "9", "--kv-heads", "3", "--tied", "false")

    def test_qwen2_biases(self):
        self.seeded("qwen2", "--qkv-bias")

    def test_llama3_rope_scaling(self):
        self.seeded("llama3", "--llama3-scaling", "--rope-theta", "500000")

    def gpt2(self, name, *options):
        path = self.folder / name
        run(PROGRAM, "init-model", "--family", "gpt2", "--max-positions", "200", "--std", "0.2",
            "--seed", "3", *options, path)
        return path, np.random.default_rng(7).integers(0, 259, 200).tolist()

    def test_gpt2_of_even_and_odd_heads_tied_and_not(self):
        for name, options in {
                "twelve": ["--hidden", "48", "--heads", "12"],
                "nine": ["--hidden", "45", "--heads", "9", "--layers", "3"],
                "one": ["--hidden", "20", "--heads", "1", "--intermediate", "33"],
                "untied": ["--hidden", "48", "--heads", "6", "--tied", "false"]}.items():
            path, ids = self.gpt2(name, *options)
            self.compare(path, {name: ids, "short": ids[:1]})

    def test_gpt2_in_files_of_old_names(self):
        path, ids = self.gpt2("new", "--hidden", "48", "--heads", "12")
        old = self.folder / "old"
        shutil.copytree(path, old)
        tensors = {name.removeprefix("transformer."): tensor
                   for name, tensor in load_file(path / "model.safetensors").items()}
        for layer in range(2):
            tensors[f"h.{layer}.attn.bias"] = torch.ones(200, 200).tril().view(1, 1, 200, 200)
            tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        save_file(tensors, old / "model.safetensors", {"format": "pt"})
        self.compare(old, {"old": ids})
        self.assertEqual(worst(*(ours(form, ids, "fp64", self.folder) for form in (path, old))), 0)

    def test_gpt2_beyond_its_positions_is_refused(self):
        path, ids = self.gpt2("short")
        np.asarray([*ids, 1], dtype=np.int64).tofile(self.folder / "ids")
        done = subprocess.run([TOOL, path, "fp32", self.folder / "ids", self.folder / "logits"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("201 tokens, expected at most the 200 positions", done.stderr)

    def test_gpt2_in_nf4_plain_and_double(self):
        # Extents in whole blocks: bitsandbytes' CPU kernel is wrong where a block crosses rows.
        path, ids = self.gpt2("dense", "--hidden", "192", "--heads", "12")
        self.compare_nf4(path, ids)

    def real(self, *options):
        folder = os.environ.get("DFMOA_DOWNLOADS", "")
        found = sorted(Path(folder).rglob(FILE)) if folder else []
        if not found:
            self.skipTest(f"DFMOA_DOWNLOADS names no folder with {FILE}")
        path = self.folder / "smollm2"
        run(PROGRAM, "convert", *options, found[0], path)
        return path

    def test_real_model_on_difficult_texts(self):
        path = self.real()
        tokenizer = AutoTokenizer.from_pretrained(path)
        self.compare(path, {name: tokenizer(text)["input_ids"] for name, text in TEXTS.items()})

    def test_real_model_on_4096_tokens(self):
        path = self.real()
        license_text = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")
        text = AutoTokenizer.from_pretrained(path)(2 * license_text)["input_ids"]
        self.assertGreaterEqual(len(text), 4096)
        self.compare(path, {"text": text[:4096]})
        # Random tokens hold positions at which any rounding grows a hundredfold: fp64 only.
        ids = np.random.default_rng(5).integers(3, 49152, 4096).tolist()
        self.compare(path, {"random": ids}, own_fp32=False)

    def test_real_model_in_nf4_plain_and_double(self):
        dense = self.real()
        self.compare_nf4(dense, AutoTokenizer.from_pretrained(dense)(TEXTS["plain"])["input_ids"])

    def compare_nf4(self, dense, ids):
        for options in (["--nf4"], ["--nf4", "--double-quant"]):
            path = self.folder / "".join(options)
            run(PROGRAM, "convert", *options, dense, path)
            # In evaluation mode on a CPU bitsandbytes rounds the scales to bf16.
            quantised = AutoModelForCausalLM.from_pretrained(path).train()
            error = worst(theirs(quantised, ids), ours(path, ids, "fp64", self.folder))
            self.assertLess(error, 10 * FLOOR, options)
            # Its weights in a dense model, in fp64: the same numbers.
            packed = dict(quantised.named_parameters())
            model = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32).eval()
            linears = 0
            with torch.no_grad():
                for name, weight in model.named_parameters():
                    q = packed[name]
                    if not hasattr(q, "quant_state"):
                        continue
                    values = bitsandbytes.functional.dequantize_4bit(q.data, q.quant_state)
                    weight.copy_(values.T if model.config.model_type == "gpt2" else values)
                    linears += 1
            self.assertGreater(linears, 0)
            exact = theirs(exact_model(model), ids)
            self.assertLess(worst(ours(path, ids, "fp64", self.folder), exact), 1e-9, options)
            bound = 2 * max(error, FLOOR)
            self.assertLess(worst(ours(path, ids, "fp32", self.folder), exact), bound, options)
            self.assertGreater(worst(ours(dense, ids, "fp64", self.folder), exact), 0.1)


if __name__ == "__main__":
    TOOL, PROGRAM = sys.argv[1:3]
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Logits)
    outcome = unittest.TextTestRunner(verbosity=2).run(suite)
    bad = len(outcome.failures) + len(outcome.errors)
    skipped = len(outcome.skipped)
    print(f"{outcome.testsRun - bad - skipped} passed, {bad} failed, {skipped} skipped")
    sys.exit(1 if bad or outcome.testsRun == 0 else 0)
