"""The tokenizer against the tokenizers library, chat templates against transformers.

usage: tokenizer_parity.py TOKENIZER_TOOL
Texts in ten scripts come from a seeded generator: words of Babel's locale data, and invented ones
of random code points. The vocabularies of SmolLM2 and GPT-2 are taken
from the folder DFMOA_DOWNLOADS; without it those tests are skipped.
"""

import functools
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata
import unittest
from pathlib import Path

from babel import Locale
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

try:
    from transformers import PreTrainedTokenizerFast
    NO_TRANSFORMERS = ""
except ImportError as error:  # the wheel needs packages that it was installed without
    NO_TRANSFORMERS = f"transformers cannot be imported: {error}"

TOOL = None
LOCALES = {"LATIN": "fr", "GREEK": "el", "CYRILLIC": "ru", "ARABIC": "fa", "HEBREW": "he",
           "DEVANAGARI": "hi", "THAI": "th", "HIRAGANA": "ja", "HANGUL SYLLABLE": "ko",
           "CJK UNIFIED IDEOGRAPH": "zh"}
SCRIPTS = list(LOCALES)
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|"
         r"\s+(?!\S)|\s+")
ODD = ["\0", " " * 40, "  12 3", "\n\n 7", "\r\n\r\n", "\t1\t", "\u00a0x", "\u3000", "\u180e x",
       "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f3f4\U000e0067\U000e007f", "\u200d",
       "'s 'S '\u017f 'LL\u212a 're", "don't I'VE", "\u0664\u0665 \u2167 \u00bd\u00b2",
       "e\u0301\u0323",
       "\u1e9b\u0323", "\u1100\u1161\u11a8", "\ufb1d \u2126 \uf900", "\x04\x1c\x1f\x7f\x85",
       "\ufeff",
       "\ufffd", "<|im_start|>user\n", "<|endoftext|>", " <|im_end|>",
       "a_b-c/d\\e", "!!!???\n\n..."]


@functools.cache
def code_points():
    """Letters and marks of every script, by name."""
    found = {script: [] for script in SCRIPTS}
    for value in range(0x30000):
        char = chr(value)
        if unicodedata.category(char)[0] in "LM":
            name = unicodedata.name(char, "")
            for script in SCRIPTS:
                if name.startswith(script):
                    found[script].append(char)
    return found


@functools.cache
def words(script):
    """Names of languages and countries, as people who write in the script write them."""
    locale = Locale(LOCALES[script])
    names = [*locale.languages.values(), *locale.territories.values()]
    return sorted({word for name in names for word in name.split()})


def make_texts(seed, count):
    """Texts of 60 pieces: invented words of one script, real ones, blanks, digits, oddities."""
    rng = random.Random(seed)
    texts = []
    for number in range(count):
        script = SCRIPTS[number % len(SCRIPTS)]
        letters = code_points()[script]
        common = rng.sample(letters, min(40, len(letters)))
        pieces = []
        for _ in range(60):
            kind = rng.random()
            if kind < 0.35:
                source = common if rng.random() < 0.8 else letters
                pieces.append("".join(rng.choices(source, k=rng.randint(1, 9))))
            elif kind < 0.55:
                word = rng.choice(words(rng.choice([script, "LATIN"])))
                pieces.append(rng.choice([word, word.title(), word.upper()]))
            elif kind < 0.65:
                pieces.append(str(rng.randint(0, 10 ** rng.randint(1, 9))))
            elif kind < 0.75:
                pieces.append(rng.choice(ODD))
            elif kind < 0.8:
                value = rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])
                pieces.append(chr(value))
            else:
                mark = rng.choice(".,;:!?()[]{}\"'#$%&*+-/<=>@^_`|~")
                pieces.append(mark * rng.choice([1, 1, 2, 5]))
            pieces.append(rng.choice(["", " ", " ", " ", "  ", "\n", "\n\n", "\t", " \n ", "   "]))
        texts.append("".join(pieces))
    # Code points that are younger than one library's Unicode may be letters to the other.
    return ["".join(c for c in text if unicodedata.category(c) != "Cn") for text in texts] + [
        "", " ", *ODD]


def run_tool(verb, folder, values):
    result = subprocess.run([TOOL, verb, str(folder)], stdout=subprocess.PIPE, check=True,
                            input="".join(json.dumps(v) + "\n" for v in values).encode())
    return [json.loads(line) for line in result.stdout.splitlines()]


def char_ranges(text, offsets):
    """Byte ranges as the ranges of the characters they touch."""
    first, at = {}, 0
    for index, char in enumerate(text):
        for _ in char.encode():
            first[at] = index
            at += 1
    first[at] = len(text)
    return [(first[b], first[e - 1] + 1 if e > b else first[b]) for b, e in offsets]


def byte_level(use_regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def download(name):
    folder = os.environ.get("DFMOA_DOWNLOADS", "")
    found = sorted(Path(folder).rglob(name)) if folder else []
    if not found:
        raise unittest.SkipTest(f"DFMOA_DOWNLOADS names no folder with {name}")
    return found[0]


@functools.cache
def smollm2():
    """The tokenizer of the real model: vocabulary and merges from the file, the split by hand."""
    import gguf
    fields = gguf.GGUFReader(download("SmolLM2-135M-Instruct.Q4_1.gguf")).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    kinds = fields["tokenizer.ggml.token_type"].contents()
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level()])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, kinds) if kind == 3])
    return tokenizer, fields["tokenizer.chat_template"].contents()


def trained(pre_tokenizer, **model):
    """A vocabulary of 3,000 tokens over generated texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=3000, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(make_texts(99, 400), trainer)
    content = json.loads(tokenizer.to_str())
    content["model"].update(model)
    return Tokenizer.from_str(json.dumps(content))


def split(pattern, behavior="isolated", invert=False):
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(pattern), behavior, invert), byte_level(use_regex=False)])


class TemporaryTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class Ids(TemporaryTest):
    def compare(self, tokenizer, texts, least=0, has_offsets=True):
        """Ids, offsets and decoded text of every text; counts the tokens."""
        if not any(self.folder.iterdir()):
            tokenizer.save(str(self.folder / "tokenizer.json"))
        count = compared = 0
        for text, ours in zip(texts, run_tool("encode", self.folder, texts), strict=True):
            theirs = tokenizer.encode(text)
            count += len(theirs.ids)
            self.assertEqual(ours["ids"], theirs.ids, ascii(text))
            decoded = tokenizer.decode(theirs.ids, skip_special_tokens=False)
            self.assertEqual(ours["decoded"], decoded)
            # Where a byte has no token their offsets run ahead of the text; ours do not.
            if has_offsets and ours["decoded"].endswith(text):
                self.assertEqual(char_ranges(text, ours["offsets"]), theirs.offsets, ascii(text))
                compared += 1
        self.assertGreaterEqual(count, least)
        if has_offsets and least:
            self.assertGreater(compared, len(texts) // 4)
        print(f"{self.id()}: {count} tokens, 0 mismatches", file=sys.stderr)

    def test_smollm2(self):
        self.compare(smollm2()[0], make_texts(1, 1500), least=200_000)

    def test_gpt2_from_vocab_and_merges(self):
        vocabulary, merges = download("gpt2/encoder.json"), download("gpt2/vocab.bpe")
        (self.folder / "vocab.json").write_bytes(vocabulary.read_bytes())
        (self.folder / "merges.txt").write_bytes(merges.read_bytes())
        tokenizer = Tokenizer(models.BPE.from_file(str(vocabulary), str(merges)))
        tokenizer.pre_tokenizer = byte_level()
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(["<|endoftext|>"])
        self.compare(tokenizer, make_texts(2, 500), least=50_000)

    def test_llama3_split_with_begin_token(self):
        tokenizer = trained(split(LLAMA3), ignore_merges=True)
        tokenizer.add_special_tokens(["<|begin_of_text|>", "<|eot_id|>"])
        begin = tokenizer.token_to_id("<|begin_of_text|>")
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|begin_of_text|> $A",
                                          special_tokens=[("<|begin_of_text|>", begin)])])
        self.compare(tokenizer, make_texts(3, 500), least=50_000)

    def test_qwen2_split_with_nfc(self):
        tokenizer = trained(split(QWEN2, "isolated"))
        tokenizer.normalizer = normalizers.NFC()
        tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
        rng = random.Random(5)
        marked = [chr(v) for v in range(0x110000) if not 0xD800 <= v < 0xE000
                  and (unicodedata.combining(chr(v)) or unicodedata.decomposition(chr(v)))]
        texts = ["".join(rng.choices(marked, k=30)) for _ in range(2000)]
        marks = ["a", "e", "\u0301", "\u0323", "\u05b0", "\u0651", "\u064e"]
        texts += ["".join(rng.choices(marks, k=20)) for _ in range(500)]
        texts += [unicodedata.normalize("NFD", text) for text in make_texts(6, 100)]
        self.compare(tokenizer, make_texts(4, 500) + texts, least=50_000, has_offsets=False)

    def test_gpt4o_split(self):
        self.compare(trained(split(GPT4O)), make_texts(7, 200), least=20_000)

    def test_every_split_behavior(self):
        tokenizer = trained(byte_level())
        for behavior in ["removed", "isolated", "merged_with_previous", "merged_with_next",
                         "contiguous"]:
            for pattern in [r"\s+", r"\p{Lu}", r"\d{2}", r"(?=[A-Z])"]:
                for invert in [False, True]:
                    with self.subTest(behavior=behavior, pattern=pattern, invert=invert):
                        tokenizer.pre_tokenizer = split(pattern, behavior, invert)
                        (self.folder / "tokenizer.json").unlink(missing_ok=True)
                        self.compare(tokenizer, make_texts(8, 20))

    def test_prefix_blank_and_digits(self):
        tokenizer = trained(byte_level())
        for individual in [False, True]:
            for use_regex in [False, True]:
                tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                    [pre_tokenizers.Digits(individual),
                     pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=use_regex)])
                (self.folder / "tokenizer.json").unlink(missing_ok=True)
                # To a token that is the added blank alone they give the character behind it.
                self.compare(tokenizer, make_texts(9, 50), has_offsets=False)

    def test_flags_of_added_tokens(self):
        tokenizer = trained(byte_level())
        rng = random.Random(10)
        names = ["<a>", "<a>b", "[x]", "word", "<sp ace>", "1 2", "the"]
        for name in names:
            flags = {flag: rng.random() < 0.5
                     for flag in ["lstrip", "rstrip", "single_word", "normalized"]}
            tokenizer.add_tokens([AddedToken(name, special=rng.random() < 0.3, **flags)])
        texts = ["".join(rng.choices(names + [" ", "\u3000 ", "b", "\u0301", "\n", "-", "_"], k=12))
                 for _ in range(3000)]
        self.compare(tokenizer, texts)


CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
          "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
QWEN2_CHAT = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
              "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
              "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
              "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
              "{% endif %}")
CHATML_LINES = """{%- for message in messages %}
    {%- if loop.first and messages[0].role != "system" %}
        {{- "<|im_start|>system\\nBe \\"brief\\".<|im_end|>\\n" }}
    {%- endif %}
    {{- '<|im_start|>' }}{{ message.role + '\\n' + message.content }}{{ "<|im_end|>" + "\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
LLAMA3_CHAT = ("{% set loop_messages = messages %}{% for message in loop_messages %}"
               "{% set content = '<|start_header_id|>' + message['role'] + "
               "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}"
               "{% if loop.index0 == 0 %}"
               "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
               "{% if add_generation_prompt %}"
               "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")


@unittest.skipIf(NO_TRANSFORMERS, NO_TRANSFORMERS)
class ChatTemplates(TemporaryTest):
    def conversations(self):
        rng = random.Random(11)
        bodies = make_texts(12, 40) + ["", " x ", "\n\x1c\u3000y\u0085\n", "{{ x }}"]
        for number in range(120):
            turns = [{"role": role, "content": rng.choice(bodies)}
                     for role in ["user", "assistant"] * rng.randint(1, 3)]
            if rng.random() < 0.5:
                turns.insert(0, {"role": "system", "content": rng.choice(bodies)})
            yield {"messages": turns[:rng.randint(1, len(turns))],
                   "add_generation_prompt": number % 2 == 0}

    def compare(self, template):
        config = {"chat_template": template, "bos_token": "<|begin_of_text|>", "eos_token": "</s>"}
        (self.folder / "tokenizer_config.json").write_text(json.dumps(config))
        theirs = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **config)
        chats = list(self.conversations())
        for chat, ours in zip(chats, run_tool("render", self.folder, chats), strict=True):
            expected = theirs.apply_chat_template(
                chat["messages"], tokenize=False,
                add_generation_prompt=chat["add_generation_prompt"])
            self.assertEqual(ours["text"], expected)
            own = theirs.apply_chat_template(  # what we would write into a model directory
                chat["messages"], chat_template=ours["jinja"], tokenize=False,
                add_generation_prompt=chat["add_generation_prompt"])
            self.assertEqual(own, expected)
            answers = [turn for turn in chat["messages"] if turn["role"] == "assistant"]
            cut = [ours["text"].encode()[b:e].decode() for b, e in ours["assistant"]]
            self.assertEqual(len(cut), len(answers))
            for answer, part in zip(answers, cut):
                self.assertTrue(part.startswith(answer["content"].strip())
                                or part.startswith(answer["content"]))

    def test_smollm2(self):
        self.compare(smollm2()[1])

    def test_chatml(self):
        self.compare(CHATML)

    def test_qwen2(self):
        self.compare(QWEN2_CHAT)

    def test_chatml_written_on_lines(self):
        self.compare(CHATML_LINES)

    def test_llama3(self):
        self.compare(LLAMA3_CHAT)

    def test_own_built_ins(self):
        for name in ["chatml", "llama3", "alpaca", "plain"]:
            with self.subTest(name=name):
                jinja = subprocess.run([TOOL, "jinja", name], stdout=subprocess.PIPE, check=True)
                self.compare(jinja.stdout.decode())


if __name__ == "__main__":
    TOOL = sys.argv.pop(1)
    outcome = unittest.main(exit=False, verbosity=2).result
    failed = len(outcome.failures) + len(outcome.errors)
    skipped = len(outcome.skipped)
    print(f"{outcome.testsRun - failed - skipped} passed, {failed} failed, {skipped} skipped")
    sys.exit(1 if failed or outcome.testsRun == 0 else 0)
