"""Log-likelihoods of multiple-choice texts against transformers, item by item: in fp32 to 1e-4, in
fp64 to 1e-9. The tokenizer has merges that reach across the border of question and choice.

usage: choices_parity.py DFMOA
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer

from logits_parity import exact_model

PROGRAM = None
ROOT = Path(__file__).parents[2]
CHATML = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + "
          "message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}"
          "{{ '<|im_start|>assistant\\n' }}{% endif %}")
NAMED = [{"instruction": f"Is this licen{words}?\n\nAnswer format: answer1/answer2/answer10",
          "input": ("", "the license of the work")[i % 2],
          "output": f"the correct answer is answer{(1, 2, 10)[i % 3]}",
          "answer": f"answer{(1, 2, 10)[i % 3]}"}
         for i, words in enumerate(["se", "ce", "sed work", "sor", "See the file"])]
LISTED = [{"prompt": prompt, "choices": choices, "answer": 0} for prompt, choices in (
    ("the licen", ["se of the work", "ce", "sor may"]),  # merged across the border
    ("You may ", ["reproduce", "not", "use the Work"]),  # the blank begins the choice
    ("You may\n\n ", ["reproduce", "not"]),
    ("in", ["stead", "g of", "to"]),
    ("naïve café ", ["é", "ñandú 日本", "🙂"]),
    ("1 + 1 =", [" 2", " 3", " 12", " 2"]),
    ("contributor", ["s", "s,", "s, and", ": the owner of the copyright"]))]


def write_tokenizer(folder):
    """Byte-level BPE of 700 tokens, learned from the license."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train([str(ROOT / "LICENSE")], trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<|im_start|>", "<|im_end|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>",
         "chat_template": CHATML}))


def run(*words):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def question_of(item):
    if "prompt" in item:
        return item["prompt"]
    return item["instruction"] + ("\n\n" + item["input"] if item["input"] else "")


def texts_of(item):
    if "choices" in item:
        return item["choices"]
    names = item["instruction"].rsplit("Answer format:", 1)[1].strip().split("/")
    before = item["output"][:-len(item["answer"])]
    return [before + name for name in names]


def encode_pair(tokenizer, context, continuation):
    """lm-eval's _encode_pair, blank by blank."""
    blanks = len(context) - len(context.rstrip())
    if blanks > 0:
        continuation = context[-blanks:] + continuation
        context = context[:-blanks]
    return encode_together(tokenizer, context, continuation)


def encode_together(tokenizer, context, continuation):
    whole = tokenizer(context + continuation, add_special_tokens=False)["input_ids"]
    alone = tokenizer(context, add_special_tokens=False)["input_ids"]
    return alone, whole[len(alone):]


def pair_of(tokenizer, item, text, plain):
    question = question_of(item)
    if plain:
        return encode_pair(tokenizer, question + ("" if "prompt" in item else "\n"), text)
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": question}],
                                             tokenize=False, add_generation_prompt=True)
    return encode_together(tokenizer, rendered, text)


def likelihood(model, context, continuation):
    with torch.no_grad():
        logits = model(torch.tensor([context + continuation])).logits[0]
    log_p = torch.log_softmax(logits.double(), -1)
    return sum(log_p[len(context) - 1 + i, token].item() for i, token in enumerate(continuation))


class Choices(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.kept = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.kept.cleanup)
        cls.folder = Path(cls.kept.name)
        source = cls.folder / "tokenizer"
        source.mkdir()
        write_tokenizer(source)
        run(PROGRAM, "init-model", "--tokenizer", source, "--std", "0.2", "--seed", "3",
            "--max-positions", "512", cls.folder / "base")
        (cls.folder / "named.json").write_text(json.dumps(NAMED), encoding="utf-8")
        (cls.folder / "listed.jsonl").write_text(
            "".join(json.dumps(item) + "\n" for item in LISTED), encoding="utf-8")
        cls.model = AutoModelForCausalLM.from_pretrained(cls.folder / "base", dtype=torch.float32)
        cls.model = exact_model(cls.model.eval())
        cls.tokenizer = AutoTokenizer.from_pretrained(cls.folder / "base")

    def ours(self, model, *options):
        log = self.folder / "samples.jsonl"
        run(PROGRAM, "eval", model, "--json", "--choices", self.folder / "named.json", "--choices",
            self.folder / "listed.jsonl", "--log-samples", log, *options)
        return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]

    def compare(self, model, tolerance):
        for plain in (False, True):
            found = self.ours(model, *(["--plain"] if plain else []))
            items = NAMED + LISTED
            self.assertEqual(len(found), len(items))
            for item, line in zip(items, found):
                texts = texts_of(item)
                self.assertEqual(line["bytes"], [len(text.encode()) for text in texts])
                for text, value in zip(texts, line["log_likelihood"]):
                    context, continuation = pair_of(self.tokenizer, item, text, plain)
                    expected = likelihood(self.model, context, continuation)
                    self.assertLess(abs(value - expected), tolerance, (plain, item, text))

    def test_fp32(self):
        self.compare(self.folder / "base", 1e-4)

    def test_fp64(self):
        lines = self.folder / "train.jsonl"
        lines.write_text('{"prompt": "You", "completion": "may"}\n', encoding="utf-8")
        (self.folder / "run.ini").write_text(
            f"[model]\npath = {self.folder}/base\n[data]\ntrain = {lines}\n[train]\nsteps = 1\n"
            "precision = fp64\n[adapter.main]\nexperts = 2\nrank = 2\nrouter = main\n"
            "[router.main]\nkind = softmax\n", encoding="utf-8")
        run(PROGRAM, "train", "-c", self.folder / "run.ini", "--run", self.folder / "run",
            "--steps", "0")
        self.compare(self.folder / "run", 1e-9)

    def test_the_border_is_where_the_items_say(self):
        """Else the comparison would be of texts that no merge crosses."""
        crossed = [item["prompt"] for item in LISTED for text in item["choices"]
                   if self.tokenizer.tokenize(item["prompt"] + text)
                   != self.tokenizer.tokenize(item["prompt"]) + self.tokenizer.tokenize(text)]
        self.assertIn("the licen", crossed)
        self.assertIn("You may ", crossed)


if __name__ == "__main__":
    (PROGRAM,) = sys.argv[1:2]
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Choices)
    outcome = unittest.TextTestRunner(verbosity=2).run(suite)
    bad = len(outcome.failures) + len(outcome.errors)
    skipped = len(outcome.skipped)
    print(f"{outcome.testsRun - bad - skipped} passed, {bad} failed, {skipped} skipped")
    sys.exit(1 if bad or outcome.testsRun == 0 else 0)
