"""The program as people use it: what it prints, what it leaves behind, what it refuses.

Usage: cli_test.py PROGRAM MPIEXEC [CASE ...]
"""

import json
import math
import pathlib
import re
import shutil
import signal
import struct
import sys
import unittest.mock

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cli_fixture import (  # noqa: E402
    UNDISTURBED, CliTest, main, read_safetensors, rows, write_lines, write_safetensors)

SUBCOMMANDS = "convert init-model train eval generate inspect bench configs".split()


class Usage(CliTest):
    def test_version_names_the_libraries(self):
        said = self.world.done("--version")
        for name in ("dfmoa ", "torch ", "CUDA ", "MPI ", "HDF5 ", "build ", "CPU level "):
            self.assertIn("\n" + name, "\n" + said)

    def test_every_subcommand_has_help_and_the_program_lists_them(self):
        overview = self.world.done("--help")
        for name in SUBCOMMANDS:
            self.assertIn(f"\n  {name} ", overview)
            said = self.world.done(name, "--help")
            self.assertTrue(said.startswith(f"dfmoa {name}"), said)
            self.assertIn("--help", said)
        self.assertIn("\n[router.NAME]\n  kind = softmax ", self.world.done("train", "--help"))

    def test_nothing_typed_prints_the_subcommands_and_is_an_error(self):
        result = self.world.run()
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn("usage: dfmoa", result.stderr)

    def test_a_wrong_word_is_refused_with_the_nearest_right_one(self):
        self.refused(2, "trian", says=["trian", "train"])
        self.refused(2, "train", "-c", "a.ini", "--stpes", 3, says=["--stpes", "--steps"])
        self.refused(2, "generate", "base", "--gredy", says=["--gredy", "--greedy"])
        self.refused(2, "configs", "show", "dfmoa_smollm", says=["dfmoa_smollm2.ini"])
        for setting, words in (("train.stpes=3", ["train.stpes", "train.steps"]),
                               ("trian.steps=3", ["trian", "[train]"]),
                               ("router.main.kind=softmux", ["softmux", "softmax"]),
                               ("train.steps=abc", ["train.steps", "abc", "whole number"]),
                               ("train.steps", ["train.steps", "section.key=value"])):
            self.refused_training(2, "--set", setting, says=words)
        (self.world.root / "wrong.ini").write_text("[train]\nlearning_rat = 1\n")
        self.refused(2, "train", "-c", "wrong.ini", says=["wrong.ini", "learning_rate"])

    def test_what_is_missing_or_too_much_is_named(self):
        self.refused(2, "train", says=["-c FILE"])
        self.refused(2, "inspect", says=["PATH"])
        self.refused(2, "generate", "base", "--input", "5", says=["-p TEXT"])
        self.refused(2, "eval", "base", says=["--data"])
        self.refused(2, "inspect", "a", "b", says=["'b'", "too many"])
        self.refused_training(2, "--set", "train.steps=5", "train.tokens=64",
                              says=["'train.tokens=64'", "too many", "every --set"])
        self.refused(2, "configs", "lst", says=["list"])
        self.refused(2, "train", "-c", "a.ini", "--steps", "x", says=["--steps", "x"])
        self.refused(2, "train", "--run", "", says=["--run is empty"])
        self.refused(2, "eval", "base", "--data", "train.jsonl", "--batch", 0, says=["--batch 0"])
        self.refused(2, "train", "-c", "a.ini", "--steps=-5", says=["--steps -5", "0 or more"])

    def test_a_path_that_does_not_exist_is_named(self):
        for arguments in (("train", "-c", "nowhere"), ("train", "--run", "nowhere"),
                          ("eval", "nowhere", "--data", "train.jsonl"), ("inspect", "nowhere"),
                          ("eval", "base", "--data", "nowhere"),
                          ("generate", "nowhere", "-p", "x"), ("convert", "nowhere", "out"),
                          ("train", "-c", "a.ini", "--set", "model.path=nowhere"),
                          ("train", "-c", "a.ini", "--set", "data.train=nowhere")):
            self.refused(2, *arguments, says=["nowhere"])
        self.assertFalse((self.world.root / "out").exists())

    def test_layouts_that_cannot_be_are_refused(self):
        topk = ["--set", "router.main.kind=topk", "--set", "router.main.top_k=5"]
        for settings, words in (
                (["--set", "adapter.main.experts=0"], ["adapter.main.experts", "0", "from 1"]),
                (topk, ["top_k", "5", "3 experts"]),
                (["--set", "adapter.main.sites=qq"], ["adapter.main.sites", "qq", "gate"]),
                (["--set", "adapter.main.layers=7"], ["adapter.main.layers", "7", "0 to 1"])):
            self.refused_training(2, *settings, says=words)


class Train(CliTest):
    def test_json_has_the_keys_that_scripts_read(self):
        said = self.world.undisturbed
        self.assertEqual(set(said), {"run", "steps", "tokens_seen", "ce", "tokens_per_s",
                                     "peak_bytes", "parameters_hash", "checkpoint"})
        self.assertEqual((said["run"], said["steps"]), (UNDISTURBED, 6))
        self.assertTrue((self.world.root / said["checkpoint"]).is_dir())
        self.assertEqual(said["ce"], self.world.metrics(UNDISTURBED, "train/ce")[6])
        self.assertRegex(said["parameters_hash"], "^[0-9a-f]{32}$")

    def test_a_run_folder_holds_what_is_promised(self):
        folder = self.world.root / UNDISTURBED
        self.assertEqual(json.loads((folder / "environment.json").read_text())["processes"], 1)
        self.assertEqual(len(list(folder.glob("events.out.tfevents.*"))), 1)
        self.assertIn("step 6/6", (folder / "log.txt").read_text())
        self.assertEqual(sorted(self.world.metrics(UNDISTURBED, "train/ce")), [1, 2, 3, 4, 5, 6])
        steps = [f"step_{step:08}" for step in (2, 4, 6)]
        self.assertEqual(sorted(p.name for p in (folder / "checkpoints").iterdir()),
                         ["latest", *steps])
        self.assertEqual((folder / "checkpoints/latest").read_text(), steps[-1] + "\n")

    def test_the_resolved_configuration_repeats_the_run(self):
        again = json.loads(self.world.done("train", "-c", f"{UNDISTURBED}/config.ini", "--run",
                                           "r/again", "--json"))
        self.assertEqual(again["parameters_hash"], self.world.undisturbed["parameters_hash"])

    def test_set_goes_before_the_file(self):
        said = self.world.train("r/set", "--set", "train.steps=2", "--set", "train.seed = 9")
        self.assertEqual(said["steps"], 2)
        self.assertIn("\nseed = 9\n", (self.world.root / "r/set/config.ini").read_text())

    def test_dry_run_counts_samples_and_shows_three_rows_with_their_loss_mask(self):
        said = self.world.done("train", "-c", "a.ini", "--run", "r/dry", "--dry-run")
        self.assertIn("24 samples, ", said)
        digits = sum(len(str(i + 1)) for i in range(24))
        self.assertIn(f"({digits + 24} bear loss)", said)  # every answer and its end
        self.assertEqual(re.findall(r"^row (\d): ", said, re.MULTILINE), ["1", "2", "3"])
        shown = re.findall(r"^  \S*train\.jsonl:(\d+): (.*?)\[(.*?)\]$", said,
                           re.MULTILINE | re.DOTALL)
        self.assertGreaterEqual(len(shown), 3)
        for line, prompt, answer in shown:
            self.assertIn(f"{int(line) - 1} + 1 =", prompt)
            self.assertEqual(answer, f"{line}<|im_end|>")
        self.assertIn("\n[train]\nsteps = 6\n", said)
        self.assertFalse((self.world.root / "r/dry").exists())

    def test_a_device_that_cannot_be_had_is_refused_and_auto_says_what_it_took(self):
        self.refused_training(2, "--set", "train.device=cuda", says=["train.device", "no GPU"])
        said = (self.world.root / UNDISTURBED / "log.txt").read_text()
        self.assertIn("on the CPU (auto: no GPU", said)

    def test_two_processes_train_as_one(self):
        launcher = [self.world.mpiexec, "-n", "2", "--oversubscribe", "--bind-to", "none",
                    "--mca", "btl", "self,vader", "--mca", "mpi_yield_when_idle", "1"]
        self.world.train("r/two", launcher=launcher)
        one, two = (self.world.metrics(run, "train/ce") for run in (UNDISTURBED, "r/two"))
        self.assertEqual(sorted(two), sorted(one))
        for step in (1, 2, 3):
            self.assertAlmostEqual(one[step], two[step], delta=1e-5)

    def test_a_folder_that_cannot_be_made_is_refused(self):
        self.refused(1, "train", "-c", "a.ini", "--run", "a.ini/run", says=["a.ini/run"])


class Resume(CliTest):
    def copy(self, name):
        shutil.copytree(self.world.root / UNDISTURBED, self.world.root / name)
        return name

    def resumed(self, folder, step):
        """A run that began anew would end at the same parameters."""
        log = (self.world.root / folder / "log.txt").read_text()
        self.assertIn(f"resumed at step {step},", log)

    def test_stopping_before_and_after_the_rank_cut_changes_no_bit(self):
        for stop in (0, 3, 5):
            folder = f"r/stopped{stop}"
            self.assertEqual(self.world.train(folder, "--steps", stop)["steps"], stop)
            said = json.loads(self.world.done("train", "--run", folder, "--resume=auto", "--json"))
            for key in ("steps", "tokens_seen", "ce", "parameters_hash"):
                self.assertEqual(said[key], self.world.undisturbed[key], (stop, key))
            self.resumed(folder, stop)

    def test_a_named_checkpoint_goes_into_another_folder(self):
        checkpoint = f"{UNDISTURBED}/checkpoints/step_00000002"
        said = self.world.train("r/branch", "--resume", checkpoint)
        self.resumed("r/branch", 2)
        self.assertEqual(said["parameters_hash"], self.world.undisturbed["parameters_hash"])

    def test_a_changed_key_is_refused_by_name_unless_it_is_allowed(self):
        folder = "r/changed"
        change = ["--resume", f"{UNDISTURBED}/checkpoints/step_00000004",
                  "--set", "train.learning_rate=1e-3"]
        self.refused(3, "train", "-c", "a.ini", "--run", folder, *change, after_start=True,
                     says=["train.learning_rate: 0.005 -> 0.001", "--allow-change"])
        self.refused(3, "train", "-c", "a.ini", "--run", folder, *change, "--allow-change",
                     "train.seed", after_start=True, says=["train.learning_rate"])
        said = self.world.train(folder, *change, "--allow-change", "train.learning_rate")
        self.assertNotEqual(said["parameters_hash"], self.world.undisturbed["parameters_hash"])

    def test_other_instructions_of_the_processor_are_refused_where_bits_are_asked_for(self):
        strict = ["--set", "checkpoint.require_bitwise=true"]
        self.world.train("r/strict", "--steps", 2, *strict)
        with unittest.mock.patch.dict(self.world.environment, DFMOA_CPU="reference"):
            self.refused(3, "train", "--run", "r/strict", "--resume", "auto", *strict,
                         after_start=True, says=["instructions reference", "require_bitwise"])

    def test_another_base_model_is_refused(self):
        self.world.init_model("other_base", 2)
        self.refused(3, "train", "-c", "a.ini", "--run", self.copy("r/other"), "--resume", "auto",
                     "--set", "model.path=other_base", after_start=True, says=["base model"])
        self.refused(3, "generate", UNDISTURBED, "-p", "x", "--base", "other_base",
                     says=["other_base"])

    def test_usr1_saves_and_exits_85_and_a_folder_has_one_run(self):
        process = self.world.start("r/usr1", "--set", "checkpoint.every=0")
        try:
            self.refused(1, "train", "-c", "a.ini", "--run", "r/usr1",
                         says=["r/usr1", str(process.pid)])
        finally:
            code = self.stop(process, signal.SIGUSR1)
        self.assertEqual(code, 85)
        said = json.loads(self.world.done("inspect", "r/usr1", "--json"))
        self.assertEqual(said["step"], max(self.world.metrics("r/usr1", "train/ce")))

    def test_a_killed_run_goes_on_as_if_nothing_had_happened(self):
        steps = self.world.root / "r/killed/checkpoints"
        process = self.world.start("r/killed", "--set", "checkpoint.every=5")
        self.world.wait(process, lambda: (steps / "step_00000005").exists())
        self.assertEqual(self.stop(process), -signal.SIGKILL)
        step = json.loads(self.world.done("inspect", "r/killed", "--json"))["step"]
        self.assertGreaterEqual(step, 5)
        long = ["--set", "train.steps=100000", "--steps", step + 3]
        self.assertEqual(self.world.train("r/killed", "--resume", "auto", *long)["parameters_hash"],
                         self.world.train("r/whole", *long)["parameters_hash"])
        self.resumed("r/killed", step)


class Content(CliTest):
    def refused_data(self, name, *options, says=(), after_start=True):
        self.refused_training(3, "--set", f"data.train={name}", *options, says=says,
                              after_start=after_start)

    def test_data_that_cannot_be_read_is_refused_with_its_line(self):
        root = self.world.root
        (root / "broken.jsonl").write_text('{"text": "a"}\n{"text": "b\n{"text": "c"}\n')
        self.refused_data("broken.jsonl", "--set", "data.order=file", says=["broken.jsonl:2"])
        (root / "empty.jsonl").touch()
        self.refused_data("empty.jsonl", says=["empty.jsonl"], after_start=False)
        write_lines(root / "long.jsonl", [{"text": "ok"}, {"text": "x" * 400}])
        self.refused_data("long.jsonl", "--set", "data.order=file",
                          says=["long.jsonl:2", "401 tokens", "96", "train.tokens"])

    def test_a_batch_without_anything_to_learn_is_refused(self):
        write_lines(self.world.root / "mute.jsonl",
                    [{"prompt": "x" * 300, "completion": "y"}] * 4)
        self.refused_data("mute.jsonl", "--set", "data.long=truncate", says=["mute.jsonl"])

    def test_a_byte_order_mark_and_windows_line_ends_change_nothing(self):
        text = "\r\n".join(json.dumps(row) for row in rows())
        (self.world.root / "windows.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
        said = self.world.train("r/windows", "--set", "data.train=windows.jsonl")
        self.assertEqual(said["parameters_hash"], self.world.undisturbed["parameters_hash"])

    def refused_model(self, name, says):
        self.refused_training(3, "--set", f"model.path={name}", says=says)
        self.refused(3, "generate", name, "-p", "x", says=says)

    def test_damaged_weights_are_refused_by_tensor(self):
        name = "model.layers.1.mlp.up_proj.weight"
        folder = self.world.changed_base("short")
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        self.refused_model("short", ["short/model.safetensors", "bytes"])

        folder = self.world.changed_base("renamed")
        header, data = read_safetensors(folder)
        header["other"] = header.pop(name)
        write_safetensors(folder, header, data)
        self.refused_model("renamed", ["renamed", name])

        folder = self.world.changed_base("nan")
        header, data = read_safetensors(folder)
        begin = header[name]["data_offsets"][0]
        data[begin + 8:begin + 12] = struct.pack("<f", math.nan)
        write_safetensors(folder, header, data)
        self.refused_model("nan", ["nan", name, "NaN"])

    def test_models_of_another_kind_are_refused_by_key_and_value(self):
        for key, value, words in (
                ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}, ["rope_scaling", "yarn"]),
                ("hidden_act", "quick_gelu", ["hidden_act", "quick_gelu", "silu"]),
                ("sliding_window", 128, ["sliding_window", "128"])):
            path = self.world.changed_base(key) / "config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
            self.refused_model(key, words)


class Results(CliTest):
    def generate(self, *options):
        said = self.world.done("generate", UNDISTURBED, "--tokens", 8, "--json", *options)
        return [json.loads(line) for line in said.splitlines()]

    def test_greedy_text_is_the_same_again_and_in_a_batch(self):
        (one,) = self.generate("-p", "3 + 1 =", "--greedy")
        self.assertEqual(set(one), {"prompt", "prompt_tokens", "tokens", "text"})
        self.assertEqual(one["prompt"], "3 + 1 =")
        self.assertEqual(len(one["tokens"]), 8)
        self.assertEqual(self.generate("-p", "3 + 1 =", "--greedy"), [one])
        (self.world.root / "prompts.txt").write_text("a longer prompt than the other\n3 + 1 =\n")
        batch = self.generate("--prompts", "prompts.txt", "--greedy")
        self.assertEqual(batch[1], one)
        self.assertEqual(len(batch), 2)

    def test_a_seed_repeats_the_draws_and_another_does_not(self):
        a, b, c = (self.generate("-p", "x", "--seed", seed)[0]["tokens"] for seed in (1, 1, 2))
        self.assertEqual(a, b)
        self.assertNotEqual(a, c)

    def test_gates_are_shown_for_every_token(self):
        (said,) = self.generate("-p", "x", "--greedy", "--show-gates")
        self.assertEqual(len(said["gates"]), 8)
        for gates in said["gates"]:
            self.assertEqual(len(gates), 3)
            self.assertAlmostEqual(sum(gates), 1, places=5)
        text = self.world.done("generate", UNDISTURBED, "--tokens", 8, "-p", "x", "--greedy",
                               "--show-gates")
        marks = [f"{{{gates.index(max(gates))}}}" for gates in said["gates"]]
        at = 0
        for mark in marks:
            at = text.index(mark, at) + len(mark)
        self.assertEqual(text.count("{"), 8)

    def test_inspect_tells_the_hash_and_the_ranks_that_training_ended_with(self):
        said = json.loads(self.world.done("inspect", UNDISTURBED, "--ranks", "--json"))
        self.assertEqual((said["kind"], said["step"], said["valid"]), ("checkpoint", 6, True))
        for key in ("tokens_seen", "parameters_hash"):
            self.assertEqual(said[key], self.world.undisturbed[key])
        self.assertEqual(sum(site["rank"] for site in said["sites"]), 48)
        self.assertEqual(len(said["sites"]), 2 * 3 * 3)  # layers, linears, experts
        for site in said["sites"]:
            self.assertEqual(set(site), {"name", "expert", "rank", "active", "expected",
                                         "spectral"})
        table = self.world.done("inspect", UNDISTURBED, "--ranks")
        linears = {site["name"] for site in said["sites"]}  # a line each, beside those of experts
        self.assertEqual(table.count("layer/"), len(said["sites"]) + len(linears))

    def test_one_flipped_byte_is_found_and_a_run_falls_back(self):
        shutil.copytree(self.world.root / UNDISTURBED, self.world.root / "r/flipped")
        newest = "r/flipped/checkpoints/step_00000006"
        path = self.world.root / newest / "checkpoint.h5"
        whole = path.read_bytes()
        for at in (len(whole) // 4, len(whole) // 2, len(whole) - 9):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
            self.refused(3, "inspect", newest, says=[newest])
        said = self.world.done("inspect", "r/flipped", "--json")
        self.assertEqual(json.loads(said)["step"], 4)


class Tools(CliTest):
    def test_shipped_configurations_are_listed_shown_copied_and_accepted(self):
        names = self.world.done("configs", "list").split()
        self.assertEqual(self.world.done("configs").split(), names)
        self.assertIn("dfmoa_smollm2.ini", names)
        for name in names:
            self.world.done("configs", "copy", name, name)
            text = (self.world.root / name).read_text(encoding="utf-8")
            self.assertEqual(self.world.done("configs", "show", name), text)
            self.world.done("train", "-c", name, "--set", "model.path=base", "--set",
                            "data.train=train.jsonl", "--dry-run")
        self.refused(2, "configs", "copy", names[0], names[0], says=["exists"])

    def test_a_seed_decides_every_byte_of_a_base_model(self):
        for name, seed in (("seed1", 1), ("seed3", 3)):
            self.world.init_model(name, seed)
        weights = [(self.world.root / name / "model.safetensors").read_bytes()
                   for name in ("base", "seed1", "seed3")]
        self.assertEqual(weights[0], weights[1])
        self.assertNotEqual(weights[0], weights[2])

    def test_a_converted_model_says_the_same(self):
        self.world.done("convert", "base", "converted", "--dtype", "f32")
        said = [self.world.done("generate", model, "-p", "x", "--greedy", "--tokens", 8, "--json")
                for model in ("base", "converted")]
        self.assertEqual(said[0], said[1])


CASES = {case.__name__: case for case in (Usage, Train, Resume, Content, Results, Tools)}

if __name__ == "__main__":
    if len(sys.argv) < 3 or not set(sys.argv[3:]) <= set(CASES):
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], [CASES[name] for name in sys.argv[3:] or CASES]))
