"""Converted models against the libraries that read them: transformers, tokenizers, bitsandbytes.

usage: convert_parity.py CONVERT_TOOL
The real model is taken from the folder DFMOA_DOWNLOADS; without it those tests are skipped.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import bitsandbytes.functional as bnb
import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()

TOOL = None
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
STATE = ".quant_state.bitsandbytes__nf4"
SITES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CONV1D = ("c_attn", "c_proj", "c_fc")  # GPT-2's linears, [in, out] in files
TEXTS = [
    "The quick brown fox.", "a  12\n7", "x = 1234567;  3.14", "\t 5",
    "नमस्ते १२३ दुनिया", "٣٤ عربى",
    "emoji 👩‍👩‍👧 ok", "    def f():\n\n        return 0",
    "I'll don't we've", "<|im_start|>user\nhi<|im_end|>\n",
]


def tool(*words):
    done = subprocess.run([TOOL, *map(str, words)], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


def real_model(test):
    folder = os.environ.get("DFMOA_DOWNLOADS", "")
    found = sorted(Path(folder).rglob(FILE)) if folder else []
    if not found:
        test.skipTest(f"DFMOA_DOWNLOADS names no folder with {FILE}")
    return found[0]


def is_linear(name):
    return name.endswith(".weight") and name.split(".")[-2] in SITES + CONV1D


def upright(dense):
    """The same weights with every linear as [out, in]."""
    return {name: tensor.T.contiguous() if is_linear(name) and name.split(".")[-2] in CONV1D
            else tensor for name, tensor in dense.items()}


def logits(model, ids):
    with torch.no_grad():
        return model.train()(torch.tensor([ids])).logits[0]


class TemporaryTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def equal(self, ours, theirs, name):
        self.assertEqual((ours.dtype, ours.shape), (theirs.dtype, theirs.shape), name)
        self.assertTrue(torch.equal(ours.view(torch.uint8),
                                    theirs.contiguous().view(torch.uint8)), name)

    def compare_nf4(self, dense, folder, double):
        """Every key that bitsandbytes would store, byte for byte; returns the number of linears."""
        ours = load_file(folder / "model.safetensors")
        linears = [name for name in dense if is_linear(name)]
        expected = {name for name in dense if not is_linear(name)}
        for name in linears:
            codes, state = bnb.quantize_4bit(dense[name], blocksize=64, quant_type="nf4",
                                             compress_statistics=double)
            theirs = {name: codes}
            state_entries = state.as_dict(packed=True).items()
            theirs.update({f"{name}.{key}": value for key, value in state_entries})
            expected.update(theirs)
            meta = json.loads(bytes(ours[name + STATE].tolist()))
            reference = json.loads(bytes(theirs.pop(name + STATE).tolist()))
            self.equal(ours[name], codes, name)
            if double:
                self.compare_scales(ours, name, state, meta, reference)
                theirs = {key: value for key, value in theirs.items()
                          if not key.endswith(("weight.absmax", "nested_absmax"))}
            self.assertEqual(meta, reference, name)
            for key, value in theirs.items():
                self.equal(ours[key], value, key)
        self.assertEqual(set(ours), expected)
        for name in set(dense) - set(linears):
            self.equal(ours[name], dense[name], name)
        return len(linears)

    def compare_scales(self, ours, name, state, meta, reference):
        """The mean differs in its last bits; around our mean the bytes are bitsandbytes's."""
        mean, their_mean = np.float32(meta["nested_offset"]), np.float32(reference["nested_offset"])
        self.assertEqual(float(mean), meta["nested_offset"], name)
        # Theirs sums in fp32: a few units in the last place away from the true mean.
        self.assertLessEqual(abs(float(mean) - float(their_mean)), 8 * np.spacing(their_mean), name)
        reference["nested_offset"] = meta["nested_offset"]
        plain = bnb.quantize_4bit(self.dense_of[name], blocksize=64, quant_type="nf4",
                                  compress_statistics=False)[1].absmax
        self.assertEqual(mean, np.float32(plain.double().mean().item()), name)
        scales, second = bnb.quantize_blockwise(plain - torch.tensor(mean), code=state.state2.code,
                                                blocksize=256)
        self.equal(ours[name + ".absmax"], scales, name)
        self.equal(ours[name + ".nested_absmax"], second.absmax, name)


class RealModel(TemporaryTest):
    def test_every_tensor_equals_transformers_reading_of_the_file(self):
        path = real_model(self)
        tool("convert", path, self.folder / "out")
        theirs = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name,
                                                      dtype=torch.float32)
        ours = AutoModelForCausalLM.from_pretrained(self.folder / "out")
        self.assertEqual(ours.dtype, torch.float32)
        theirs, config = theirs.state_dict(), ours.config
        ours = ours.state_dict()
        self.assertEqual(sorted(ours), sorted(theirs))
        for name, tensor in theirs.items():
            self.equal(ours[name], tensor, name)
        self.assertEqual(config.rope_parameters["rope_theta"], 100000.0)
        self.assertEqual((config.bos_token_id, config.eos_token_id), (1, 2))

    def test_every_nf4_byte_equals_bitsandbytes(self):
        path = real_model(self)
        tool("convert", path, self.folder / "dense")
        self.dense_of = load_file(self.folder / "dense" / "model.safetensors")
        for double in (False, True):
            out = self.folder / f"nf4_{double}"
            begin = time.monotonic()
            tool("convert", path, out, "nf4=true", f"double_quant={double}".lower())
            print(f"convert to NF4, double {double}: {time.monotonic() - begin:.2f} s")
            self.assertEqual(self.compare_nf4(self.dense_of, out, double), 210)

    def test_transformers_runs_the_nf4_directory(self):
        path = real_model(self)
        tool("convert", path, self.folder / "dense")
        dense = AutoModelForCausalLM.from_pretrained(self.folder / "dense")
        for double in (False, True):
            out = self.folder / f"nf4_{double}"
            tool("convert", path, out, "nf4=true", f"double_quant={double}".lower())
            quantised = AutoModelForCausalLM.from_pretrained(out)
            weights = dict(quantised.named_parameters())
            with torch.no_grad():
                for name, weight in dense.named_parameters():
                    if is_linear(name):
                        q = weights[name]
                        weight.copy_(bnb.dequantize_4bit(q.data, q.quant_state))
            ids = [1, 504, 2365, 6354, 16438]
            difference = (logits(quantised, ids) - logits(dense, ids)).abs().max().item()
            self.assertLess(difference, 2e-3)  # fp32 sums in another order, |logit| <= 44

    def test_tokenizer_splits_every_digit_first(self):
        path = real_model(self)
        tool("convert", path, self.folder / "out")
        fields = gguf.GGUFReader(path).fields
        tokens = fields["tokenizer.ggml.tokens"].contents()
        kinds = fields["tokenizer.ggml.token_type"].contents()
        merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
        theirs = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
        theirs.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True),
             pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
        theirs.decoder = decoders.ByteLevel()
        theirs.add_special_tokens([token for token, kind in zip(tokens, kinds) if kind == 3])
        ours = AutoTokenizer.from_pretrained(self.folder / "out")
        for text in TEXTS:
            self.assertEqual(ours(text)["input_ids"], theirs.encode(text).ids, text)
            self.assertEqual(ours.decode(ours(text)["input_ids"]), text)
        self.assertEqual(ours("a  12\n7")["input_ids"], [81, 256, 33, 34, 198, 39])
        template = fields["tokenizer.chat_template"].contents()
        self.assertEqual(ours.chat_template, template)


class SeededModel(TemporaryTest):
    SHAPES = {
        "plain": [],
        "nine_three": ["hidden=72", "heads=9", "kv_heads=3", "tied=false"],
        "qwen2": ["qkv_bias=true", "rope_theta=1000000"],
        "llama3": ["llama3_scaling=true", "rope_theta=500000", "vocabulary=300"],
        "gpt2": ["family=gpt2"],
        "gpt2_nine": ["family=gpt2", "hidden=36", "heads=9", "intermediate=50", "tied=false"],
        "odd": ["hidden=10", "heads=1", "kv_heads=1", "intermediate=7", "layers=1"],
    }

    def test_transformers_opens_every_shape(self):
        for name, words in self.SHAPES.items():
            out = self.folder / name
            tool("init", out, *words)
            model, info = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
            self.assertFalse(info["missing_keys"] or info["unexpected_keys"], name)
            self.assertEqual(type(model).__name__,
                             {"qwen2": "Qwen2ForCausalLM", "gpt2": "GPT2LMHeadModel"}.get(
                                 name.split("_")[0], "LlamaForCausalLM"))
            self.assertEqual(model.config.eos_token_id, 258)
            stored = load_file(out / "model.safetensors")
            for key, tensor in stored.items():
                self.equal(model.state_dict()[key], tensor, key)
            self.assertTrue(torch.isfinite(logits(model, [1, 2, 3])).all())
            tokenizer = AutoTokenizer.from_pretrained(out)
            self.assertEqual(tokenizer("Aé\0")["input_ids"], [65, 0xC3, 0xA9, 0])
            self.assertEqual((tokenizer.bos_token_id, tokenizer.eos_token_id), (257, 258))
        self.assertEqual(model.config.head_dim, 10)

    def test_the_options_reach_transformers(self):
        tool("init", self.folder / "a", *self.SHAPES["llama3"], "max_positions=4096", "std=0.5")
        model = AutoModelForCausalLM.from_pretrained(self.folder / "a")
        rope = model.config.rope_parameters
        self.assertEqual((rope["rope_type"], rope["rope_theta"], rope["factor"]),
                         ("llama3", 5e5, 8))
        self.assertEqual(rope["original_max_position_embeddings"], 512)
        self.assertEqual(model.config.vocab_size, 300)
        self.assertAlmostEqual(model.model.embed_tokens.weight.std().item(), 0.5, delta=0.02)

    def test_nf4_of_every_shape_equals_bitsandbytes_and_opens(self):
        for name, words in self.SHAPES.items():
            tool("init", self.folder / name, *words)
            self.dense_of = upright(load_file(self.folder / name / "model.safetensors"))
            for double in (False, True):
                out = self.folder / f"{name}_{double}"
                tool("convert", self.folder / name, out, "nf4=true",
                     f"double_quant={double}".lower())
                self.assertGreater(self.compare_nf4(self.dense_of, out, double), 0)
                model = AutoModelForCausalLM.from_pretrained(out)
                mlp = (model.transformer.h if "gpt2" in name else model.model.layers)[0].mlp
                linear = mlp.c_fc if "gpt2" in name else mlp.up_proj
                self.assertEqual(type(linear).__name__, "Linear4bit")
                self.assertTrue(torch.isfinite(logits(model, [1, 2, 3])).all())

    def test_bf16_rounds_to_nearest_even(self):
        tool("init", self.folder / "a")
        tool("convert", self.folder / "a", self.folder / "b", "dtype=bf16")
        theirs = load_file(self.folder / "a" / "model.safetensors")
        ours = load_file(self.folder / "b" / "model.safetensors")
        for name, tensor in theirs.items():
            self.equal(ours[name], tensor.bfloat16(), name)
        model = AutoModelForCausalLM.from_pretrained(self.folder / "b")
        self.assertEqual(model.dtype, torch.bfloat16)

    def test_shards_and_other_element_types_are_read(self):
        for family in ("llama", "gpt2"):
            self.read_shards(family)

    def read_shards(self, family):
        tool("init", self.folder / family, f"family={family}")
        model = AutoModelForCausalLM.from_pretrained(self.folder / family)
        for dtype in (torch.float16, torch.bfloat16, torch.float64):
            source = self.folder / f"{family}_{dtype}"
            model.to(dtype).save_pretrained(source, max_shard_size="40KB")
            self.assertTrue((source / "model.safetensors.index.json").exists())
            tool("convert", source, source / "out")
            ours = load_file(source / "out" / "model.safetensors")
            for name, tensor in ours.items():
                self.equal(tensor, model.state_dict()[name].float(), name)
            self.assertEqual(AutoModelForCausalLM.from_pretrained(source / "out").dtype,
                             torch.float32)


class WrittenGguf(TemporaryTest):
    """A GGUF file of each architecture, written by the gguf library from a seeded model."""

    def write(self, folder, architecture, pre, rope_factors=None):
        config = json.loads((folder / "config.json").read_text())
        writer = gguf.GGUFWriter(self.folder / f"{pre}.gguf", architecture)
        writer.add_block_count(config["num_hidden_layers"])
        writer.add_context_length(config["max_position_embeddings"])
        writer.add_embedding_length(config["hidden_size"])
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count(config["num_attention_heads"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_rope_freq_base(config["rope_theta"])
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        vocabulary = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        vocabulary.append("ab")
        writer.add_token_list(vocabulary)
        writer.add_token_types([3 if token.startswith("<|") else 1 for token in vocabulary])
        writer.add_token_merges(["a b"])
        writer.add_bos_token_id(257)
        writer.add_eos_token_id(258)
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA if architecture == "llama"
                                         else gguf.MODEL_ARCH.QWEN2, config["num_hidden_layers"])
        for name, tensor in load_file(folder / "model.safetensors").items():
            for site, heads in (("q_proj", "num_attention_heads"),
                                ("k_proj", "num_key_value_heads")):
                if architecture == "llama" and f"{site}.weight" in name:
                    rows, columns = tensor.shape
                    tensor = tensor.reshape(config[heads], 2, rows // config[heads] // 2, columns)
                    tensor = tensor.swapaxes(1, 2).reshape(rows, columns)
            writer.add_tensor(names.get_name(name, (".weight", ".bias")),
                              tensor.contiguous().numpy())
        if rope_factors is not None:
            writer.add_tensor("rope_freqs.weight", np.asarray(rope_factors, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return self.folder / f"{pre}.gguf"

    def round_trip(self, architecture, pre, words, rope_factors=None):
        tool("init", self.folder / "a", "vocabulary=300", *words)
        path = self.write(self.folder / "a", architecture, pre, rope_factors)
        tool("convert", path, self.folder / "b")
        theirs = load_file(self.folder / "a" / "model.safetensors")
        ours = load_file(self.folder / "b" / "model.safetensors")
        self.assertEqual(sorted(ours), sorted(theirs))
        for name, tensor in theirs.items():
            self.equal(ours[name], tensor, name)
        first, second = (AutoModelForCausalLM.from_pretrained(self.folder / part) for part in "ab")
        self.assertEqual(first.config.rope_parameters, second.config.rope_parameters)
        ids = [65, 66, 67, 68, 69, 70]
        self.equal(logits(second, ids), logits(first, ids), "logits")
        tokenizer = AutoTokenizer.from_pretrained(self.folder / "b")
        self.assertEqual(tokenizer("abA", add_special_tokens=False)["input_ids"], [259, 65])
        return tokenizer

    def test_qwen2_keeps_its_rows_and_biases(self):
        tokenizer = self.round_trip("qwen2", "qwen2", ["qkv_bias=true", "rope_theta=1000000"])
        self.assertEqual(tokenizer("e\u0301")["input_ids"], [0xC3, 0xA9])  # NFC

    def test_llama3_gets_its_scaling_and_begin_token_back(self):
        words = ["llama3_scaling=true", "rope_theta=500000", "max_positions=65536", "tied=false"]
        tool("init", self.folder / "probe", *words)
        model = AutoModelForCausalLM.from_pretrained(self.folder / "probe")
        plain = 1 / 5e5 ** (torch.arange(0, 16, 2) / 16)
        factors = plain / model.model.rotary_emb.inv_freq
        self.assertAlmostEqual(factors.max().item(), 8, places=4)
        factors = torch.where(factors > 7.9, 8.0, factors)
        tokenizer = self.round_trip("llama", "llama-bpe", words, factors)
        self.assertEqual(tokenizer("A")["input_ids"], [257, 65])

    def test_gpt2_rule(self):
        tokenizer = self.round_trip("llama", "gpt-2", ["hidden=72", "heads=9", "kv_heads=3"])
        self.assertEqual(tokenizer("A<|im_end|>")["input_ids"], [65, 258])


if __name__ == "__main__":
    TOOL = str(Path(sys.argv.pop(1)).resolve())
    outcome = unittest.main(exit=False, verbosity=2).result
    failed = len(outcome.failures) + len(outcome.errors)
    skipped = len(outcome.skipped)
    print(f"{outcome.testsRun - failed - skipped} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or outcome.testsRun == 0 else 0)
