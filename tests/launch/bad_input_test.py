"""What people get wrong, through the real command line: one sentence that names it, the exit code
for who is to blame (1 the machine, 2 what was typed, 3 content), and nothing half-written; by one
process, and the same by two.

Usage: bad_input_test.py PROGRAM MPIEXEC [CASE ...]

The case Disk needs to mount a tmpfs and is skipped (exit 77) where that is impossible.
"""

import json
import pathlib
import shutil
import struct
import subprocess
import sys

import gguf
import numpy

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cli_fixture import (  # noqa: E402
    UNDISTURBED, CliTest, main, read_safetensors, rows, write_lines, write_safetensors)

SKIPPED = 77


def small_gguf(path):
    """A LLaMA of one layer that `convert` accepts."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(68)]
    writer.add_token_list([*letters, "ab", "<s>", "</s>"])
    writer.add_token_types([1] * 257 + [3, 3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    for name, shape in (("token_embd", (259, 8)), ("output_norm", (8,)), ("blk.0.attn_norm", (8,)),
                        ("blk.0.ffn_norm", (8,)), ("blk.0.attn_q", (8, 8)),
                        ("blk.0.attn_k", (4, 8)), ("blk.0.attn_v", (4, 8)),
                        ("blk.0.attn_output", (8, 8)), ("blk.0.ffn_gate", (16, 8)),
                        ("blk.0.ffn_up", (16, 8)), ("blk.0.ffn_down", (8, 16))):
        writer.add_tensor(f"{name}.weight", numpy.ones(shape, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Models(CliTest):
    def refused_conversion(self, source, says):
        self.refused(3, "convert", source, "out", says=says)
        left = [path.name for path in self.world.root.glob("out*")]
        self.assertEqual(left, [])

    def refused_model(self, name, says, code=3):
        self.refused_training(code, "--set", f"model.path={name}", says=says)
        self.refused(code, "inspect", name, says=says)
        self.refused(code, "generate", name, "-p", "x", says=says)

    def test_a_truncated_gguf_is_refused_wherever_it_ends(self):
        path = self.world.root / "small.gguf"
        small_gguf(path)
        whole = path.read_bytes()
        self.world.done("convert", path.name, "whole")
        (self.world.root / "cut.gguf").touch()
        for cut in (0, 3, 4, 20, 100, len(whole) // 3, len(whole) // 2, len(whole) - 1):
            (self.world.root / "cut.gguf").write_bytes(whole[:cut])
            self.refused_conversion("cut.gguf", ["cut.gguf"])

    def test_a_gguf_that_claims_two_gigabytes_is_refused_at_once(self):
        head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1)
        for name, tail in (("key", struct.pack("<Q", 1 << 31) + b"general.architecture"),
                           ("text", struct.pack("<Q", 1) + b"k" + struct.pack("<IQ", 8, 1 << 31)),
                           ("list", struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 0,
                                                                              1 << 31))):
            (self.world.root / f"{name}.gguf").write_bytes(head + tail)
            self.refused_conversion(f"{name}.gguf", [f"{name}.gguf"])

    def test_truncated_safetensors_are_refused_wherever_they_end(self):
        folder = self.world.changed_base("cut")
        path = folder / "model.safetensors"
        whole = path.read_bytes()
        for cut in (0, 5, 8, 300, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:cut])
            self.refused_model("cut", ["cut/model.safetensors"])
        self.refused_conversion("cut", ["cut/model.safetensors"])

    def test_a_header_of_two_gigabytes_is_refused_at_once(self):
        path = self.world.changed_base("header") / "model.safetensors"
        with open(path, "wb") as file:
            file.write(struct.pack("<Q", 1 << 31) + b"{")
            file.truncate((1 << 31) + 100)  # without taking the room on disk
        self.refused_model("header", ["header/model.safetensors", str(1 << 31), "100000000"])
        self.refused_conversion("header", ["header/model.safetensors"])

    def test_an_index_that_names_a_missing_shard_is_refused(self):
        folder = self.world.changed_base("shards")
        header, _ = read_safetensors(folder)
        shards = dict.fromkeys(name for name in header if name != "__metadata__")
        for i, name in enumerate(shards):
            shards[name] = f"model-0000{i % 2 + 1}-of-00002.safetensors"
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
        self.refused_model("shards", ["model.safetensors.index.json",
                                      "model-00002-of-00002.safetensors", "missing"])
        self.refused_conversion("shards", ["model-00002-of-00002.safetensors"])

    def test_a_renamed_tensor_is_named_with_the_nearest(self):
        folder = self.world.changed_base("renamed")
        header, data = read_safetensors(folder)
        header["model.layers.0.mlp.upproj.weight"] = header.pop("model.layers.0.mlp.up_proj.weight")
        write_safetensors(folder, header, data)
        self.refused_model("renamed", ["model.layers.0.mlp.up_proj.weight",
                                       "model.layers.0.mlp.upproj.weight"])

    def test_empty_and_missing_files_of_a_model_are_named(self):
        for name, missing in (("config.json", 2), ("model.safetensors", 2), ("tokenizer.json", 3)):
            path = self.world.changed_base(f"empty_{name}") / name
            path.write_bytes(b"")
            model = ("--set", f"model.path=empty_{name}")
            self.refused_training(3, *model, says=[f"empty_{name}/{name}"])
            path.unlink()
            self.refused_training(missing, *model, says=[f"empty_{name}"])


class Data(CliTest):
    def test_held_out_files_are_opened_before_anything_is_trained(self):
        for more in ((), ("--dry-run",)):
            self.refused_training(2, "--set", "train.evaluate_every=1", "--set",
                                  "data.eval=nowhere.jsonl", *more, says=["nowhere.jsonl"])

    def refused_data(self, name, *options, says=(), after_start=False):
        self.refused_training(3, "--set", f"data.train={name}", "--set", "data.order=file",
                              *options, says=says, after_start=after_start)

    def refused_dry(self, name, *options, says=()):
        self.refused(3, "train", "-c", "a.ini", "--run", "r/dry", "--dry-run", "--set",
                     f"data.train={name}", *options, says=says)
        self.assertFalse((self.world.root / "r/dry").exists())

    def test_a_broken_line_is_named_wherever_it_is_met(self):
        for name, line in (("cut", '{"text": "b'), ("number", "7"), ("keys", '{"txt": "b"}'),
                           ("type", '{"text": 3}'), ("utf8", None)):
            path = self.world.root / f"{name}.jsonl"
            write_lines(path, [{"text": "a"}])
            with open(path, "ab") as file:
                file.write(b'{"text": "\xff"}\n' if line is None else line.encode() + b"\n")
            says = [f"{name}.jsonl:2"]
            self.refused_data(path.name, says=says, after_start=True)
            self.refused_dry(path.name, says=says)
            self.refused(3, "eval", "base", "--data", path.name, says=says)

    def test_a_byte_order_mark_and_windows_line_ends_change_no_sample(self):
        text = "\r\n".join(json.dumps(row) for row in rows())
        (self.world.root / "windows.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
        said = [self.world.done("eval", UNDISTURBED, "--json", "--data", name)
                for name in ("train.jsonl", "windows.jsonl")]
        self.assertEqual(said[0], said[1])

    def test_files_without_a_line_are_refused(self):
        (self.world.root / "empty.jsonl").touch()
        (self.world.root / "blank.jsonl").write_bytes(b"\xef\xbb\xbf\r\n\n  \n")
        for name in ("empty.jsonl", "blank.jsonl"):
            self.refused_data(name, says=[name])
            self.refused_dry(name, says=[name])
            self.refused(3, "eval", "base", "--data", name, says=[name])

    def test_an_empty_configuration_asks_for_its_keys(self):
        (self.world.root / "empty.ini").touch()
        self.refused(2, "train", "-c", "empty.ini", says=["model.path"])

    def test_a_document_of_100000_tokens_is_refused_or_cut_as_asked(self):
        text = "".join(chr(97 + i % 26) + " " for i in range(50000))
        write_lines(self.world.root / "long.jsonl", [{"text": "short"}, {"text": text}])
        says = ["long.jsonl:2", "100001 tokens", "96", "data.long"]
        self.refused_data("long.jsonl", says=says, after_start=True)
        self.refused_dry("long.jsonl", says=says)
        for long in ("truncate", "split"):
            self.world.train(f"r/{long}", "--set", "data.train=long.jsonl", "--set",
                             f"data.long={long}", "--set", "train.steps=2")

    def test_a_batch_without_anything_to_learn_is_refused(self):
        write_lines(self.world.root / "mute.jsonl", [{"prompt": "x" * 300, "completion": "y"}] * 4)
        self.refused_data("mute.jsonl", "--set", "data.long=truncate",
                          says=["mute.jsonl:1", "bears loss"], after_start=True)
        self.refused_dry("mute.jsonl", "--set", "data.long=truncate", says=["mute.jsonl:"])


    def test_results_that_cannot_be_printed_are_an_error(self):
        for arguments in (["inspect", "base"], ["inspect", UNDISTURBED, "--gates"],
                          ["inspect", UNDISTURBED, "--json"], ["configs", "list"]):
            with open("/dev/full", "wb") as full:
                result = subprocess.run([self.world.program, *arguments], cwd=self.world.root,
                                        env=self.world.environment, stdout=full, text=True,
                                        stderr=subprocess.PIPE, timeout=60, check=False)
            self.assertEqual(result.returncode, 1, arguments)
            self.assertIn("dfmoa: printing the results: No space left", result.stderr)


class TwoProcesses(CliTest):
    """Both fail: one of them says so, and the launcher returns its code."""

    def refused_by_two(self, code, *options, says=(), run="r/two"):
        result = self.world.run("train", "-c", "a.ini", "--run", run, *options,
                                launcher=self.world.mpi(2))
        said = [line for line in result.stderr.splitlines() if line.startswith("dfmoa: ")]
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(len(said), 1, result.stderr)
        for words in says:
            self.assertIn(words, said[0])

    def test_mistakes_of_the_command_line_and_configuration(self):
        for options, says in ((["--stpes", 3], ["--steps"]),
                              (["--step", 3], ["--step;", "--steps"]),
                              (["--set", "train.stpes=3"], ["train.steps"]),
                              (["--set", "model.path=nowhere"], ["nowhere"]),
                              (["--set", "data.train=nowhere"], ["nowhere"]),
                              (["--set", "adapter.main.experts=0"], ["from 1"]),
                              (["--set", "router.main.kind=topk", "--set", "router.main.top_k=5"],
                               ["3 experts"]),
                              (["--set", "adapter.main.layers=7"], ["0 to 1"])):
            self.refused_by_two(2, *options, says=says, run="r/typed")
        self.assertFalse((self.world.root / "r/typed").exists())

    def test_malformed_content(self):
        path = self.world.changed_base("short2") / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        self.refused_by_two(3, "--set", "model.path=short2", says=["short2/model.safetensors"])
        write_lines(self.world.root / "broken2.jsonl", [7])
        write_lines(self.world.root / "long2.jsonl", [{"text": "x" * 400}])
        write_lines(self.world.root / "mute2.jsonl", [{"prompt": "x" * 300, "completion": "y"}])
        for name in ("broken2", "long2", "mute2"):
            long = "truncate" if name == "mute2" else "error"
            self.refused_by_two(3, "--set", f"data.train={name}.jsonl", "--set",
                                f"data.long={long}", says=[f"{name}.jsonl:1"])
        self.assertFalse((self.world.root / "r/two/checkpoints").exists())

    def test_one_that_fails_alone_speaks_for_itself_and_ends_both(self):
        train = ["train", "-c", "a.ini", "--run", "r/lone", "--set", "model.path=base"]
        elsewhere = ["sh", "-c", 'cd / && exec "$@"', "sh", self.world.program]
        train[2] = self.world.root / "a.ini"
        first = self.world.mpi(1)
        result = self.world.run(*train, ":", "-n", "1", *elsewhere, *train, launcher=first)
        said = [line for line in result.stderr.splitlines() if line.startswith("dfmoa: ")]
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertEqual(len(said), 1, result.stderr)
        self.assertIn("model.path = base: there is no such folder", said[0])

    def test_a_folder_that_is_in_use_or_cannot_be_made(self):
        process = self.world.start("r/used", "--set", "checkpoint.every=0")
        try:
            self.refused_by_two(1, run="r/used", says=["r/used", str(process.pid)])
        finally:
            self.stop(process)
        self.refused_by_two(1, run="a.ini/run", says=["a.ini/run"])


class Disk(CliTest):
    """A run folder that is read-only or on a full disk: a mount that only the started processes
    see. A copy of what lies on it at the end is left in `seen`."""

    def mounted(self, options, *, read_only=False):
        folder = self.world.root / "disk"
        seen = self.world.root / "seen"
        shutil.rmtree(seen, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        script = (f"mount -t tmpfs {options} none {folder} && mkdir {folder}/run && "
                  + (f"mount -o remount,ro {folder} && " if read_only else "")
                  + f'"$@"; code=$?; cp -r {folder} {seen}; exit $code')
        return ["unshare", "-m", "sh", "-c", script, "sh"]

    def refused_on(self, mount, code, *arguments, says, launcher=()):
        result = self.world.run(*arguments, launcher=[*mount, *launcher])
        said = [line for line in result.stderr.splitlines() if line.startswith("dfmoa: ")]
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertEqual(len(said), 1, result.stderr)
        self.assertNotIn("LOG ERROR", result.stderr)
        for words in says:
            self.assertIn(words, said[0])
        return self.world.root / "seen"

    def launchers(self):
        return ([], self.world.mpi(2))

    def test_a_read_only_run_folder_is_refused(self):
        for launcher in self.launchers():
            seen = self.refused_on(self.mounted("", read_only=True), 1, "train", "-c", "a.ini",
                                   "--run", "disk/run", launcher=launcher,
                                   says=["disk/run", "Read-only file system"])
            self.assertEqual(list((seen / "run").iterdir()), [])

    def test_a_disk_that_fills_keeps_the_checkpoints_before(self):
        large = ["--set", "checkpoint.keep_last=100", "--set", "train.steps=200", "--set",
                 "log.tensorboard=false"]
        for launcher in self.launchers():
            seen = self.refused_on(self.mounted("-o size=3m"), 1, "train", "-c", "a.ini", "--run",
                                   "disk/run", *large, launcher=launcher, says=["No space left"])
            checkpoints = seen / "run/checkpoints"
            self.assertEqual(list(checkpoints.glob("*.tmp")), [])
            steps = sorted(checkpoints.glob("step_*"))
            self.assertTrue(steps)
            for step in steps:
                self.world.done("inspect", step)

    def test_a_full_disk_is_said_at_the_start(self):
        for launcher in self.launchers():
            seen = self.refused_on(self.mounted("-o size=4k"), 1, "train", "-c", "a.ini", "--run",
                                   "disk/run", launcher=launcher, says=["No space left"])
            self.assertFalse((seen / "run/checkpoints").exists())

    def test_a_model_that_does_not_fit_leaves_nothing(self):
        for arguments in (["convert", "base", "disk/out"], ["init-model", "disk/out"]):
            seen = self.refused_on(self.mounted("-o size=64k"), 1, *arguments,
                                   says=["No space left"])
            self.assertEqual([path.name for path in seen.iterdir()], ["run"])


CASES = {case.__name__: case for case in (Models, Data, TwoProcesses, Disk)}


def can_mount():
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    if len(sys.argv) < 3 or not set(sys.argv[3:]) <= set(CASES):
        sys.exit(__doc__)
    if sys.argv[3:] == ["Disk"] and not can_mount():
        print("skipped: it needs to mount a tmpfs, which is impossible here")
        sys.exit(SKIPPED)
    sys.exit(main(sys.argv[1], sys.argv[2], [CASES[name] for name in sys.argv[3:] or CASES]))
