"""`dfmoa generate` without a prompt: a conversation over pipes, and an interrupted one.

usage: chat_test.py DFMOA MPIEXEC
"""

import json
import shutil
import signal
import subprocess
import sys

from cli_fixture import SECONDS, UNDISTURBED, CliTest, main


class Chat(CliTest):
    def chat(self, said, *options, model=UNDISTURBED):
        """The objects that were printed for the answers."""
        printed = self.world.done("generate", model, "--json", *options, said=said)
        return [json.loads(line) for line in printed.splitlines()]

    def without_template(self):
        path = self.world.root / "bare"
        if not path.exists():
            shutil.copytree(self.world.root / "base", path)
            config = json.loads((path / "tokenizer_config.json").read_text())
            del config["chat_template"]
            (path / "tokenizer_config.json").write_text(json.dumps(config))
        return "bare"

    def start(self, model, *options):
        return subprocess.Popen([self.world.program, "generate", model, *options],
                                cwd=self.world.root, env=self.world.environment,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def test_what_was_said_stays_in_the_prompt(self):
        one, two = self.chat("3 + 1 =\n4 + 1 =\n", "--greedy", "--tokens", 3)
        asked = json.loads(self.world.done("generate", UNDISTURBED, "-p", "3 + 1 =", "--greedy",
                                           "--tokens", 3, "--json"))
        self.assertEqual(one, asked)
        self.assertEqual(two["prompt"], "4 + 1 =")
        self.assertEqual(two["prompt_tokens"][:len(one["prompt_tokens"])], one["prompt_tokens"])
        said = bytes(token for token in two["prompt_tokens"] if token < 256).decode()
        self.assertEqual(said, "user\n3 + 1 =\nassistant\n" + one["text"] +
                         "\nuser\n4 + 1 =\nassistant\n")

    def test_reset_forgets_blank_lines_say_nothing_and_the_end_leaves(self):
        first, again = self.chat("3 + 1 =\n\n  \n /reset\n3 + 1 =", "--greedy", "--tokens", 3)
        self.assertEqual(first, again)
        self.assertEqual(self.chat("/reset\n"), [])
        self.assertEqual(self.chat(""), [])

    def test_the_system_message_opens_every_conversation(self):
        plain, = self.chat("x\n", "--tokens", 1)
        for said in self.chat("x\n/reset\nx\n", "--tokens", 1, "--system", "be brief"):
            text = bytes(token for token in said["prompt_tokens"] if token < 256).decode()
            self.assertTrue(text.startswith("system\nbe brief"), text)
            self.assertGreater(len(said["prompt_tokens"]), len(plain["prompt_tokens"]))
        self.refused(2, "generate", self.without_template(), "--system", "x",
                     says=["--system", "chat template"])

    def test_a_model_without_a_template_goes_on_with_the_text(self):
        for model, options in ((self.without_template(), ()), ("base", ("--plain",))):
            one, two = self.chat("ab\ncd\n", "--greedy", "--tokens", 4, *options, model=model)
            self.assertEqual(bytes(one["prompt_tokens"]), b"ab")
            self.assertEqual(bytes(two["prompt_tokens"]), f"ab{one['text']}\ncd".encode())

    def test_answers_of_one_conversation_are_drawn_apart_and_repeat(self):
        options = ("--tokens", 12, "--seed", 3, "--temperature", 5)
        a, b = (self.chat("x\n/reset\nx\n", *options) for _ in range(2))
        self.assertEqual(a, b)
        self.assertNotEqual(a[0]["tokens"], a[1]["tokens"])

    def test_a_printed_answer_is_its_text_in_whole_characters(self):
        options = ("--tokens", 60, "--temperature", 9, "--seed", 2)
        (one,) = self.chat("x\n", *options)
        self.assertIn("\ufffd", one["text"])  # bytes at random
        done = subprocess.run([self.world.program, "generate", UNDISTURBED, *map(str, options)],
                              cwd=self.world.root, env=self.world.environment, input=b"x\n",
                              capture_output=True, timeout=SECONDS, check=True)
        self.assertEqual(done.stdout.decode(), one["text"] + "\n")

    def test_gates_are_shown_while_it_speaks(self):
        options = ("--greedy", "--tokens", 6, "--show-gates")
        (said,) = self.chat("x\n", *options)
        self.assertEqual(len(said["gates"]), 6)
        text = self.world.done("generate", UNDISTURBED, *options, said="x\n")
        marks = [f"{{{gates.index(max(gates))}}}" for gates in said["gates"]]
        at = 0
        for mark in marks:
            at = text.index(mark, at) + len(mark)
        (alone,) = self.chat("x\n", *options, "--gates", "expert:1")
        for gates in alone["gates"]:
            self.assertAlmostEqual(gates[1], 1, places=5)

    def test_a_line_without_room_is_told_and_forgotten(self):
        long = "x" * 2100
        result = self.world.run("generate", UNDISTURBED, "--tokens", 2, "--json", "--greedy",
                                said=f"{long}\n3 + 1 =\n")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("2048 positions", result.stderr)
        (said,) = map(json.loads, result.stdout.splitlines())
        self.assertEqual(said, self.chat("3 + 1 =\n", "--tokens", 2, "--greedy")[0])
        near = "x" * 2020  # the answer ends where the positions end
        (said,) = self.chat(f"{near}\n", "--tokens", 100, "--temperature", 9)
        self.assertLessEqual(len(said["prompt_tokens"]) + len(said["tokens"]), 2048)

    def test_a_line_that_is_no_text_is_refused(self):
        done = subprocess.run([self.world.program, "generate", UNDISTURBED], cwd=self.world.root,
                              env=self.world.environment, input=b"x\xff\n", capture_output=True,
                              timeout=SECONDS, check=False)
        self.assertEqual(done.returncode, 3)
        self.assertIn(b"UTF-8", done.stderr)

    def test_an_interrupt_ends_the_answer_and_the_next_line_is_answered(self):
        # The likeliest token of this model is a line end, for ever. A whole answer of 2020 of them
        # would leave no position of 2048 for the next line.
        process = self.start("base", "--tokens", "2020", "--greedy")
        process.stdin.write(b"x\n")
        process.stdin.flush()
        process.stdout.read(1)  # it speaks
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(b"y\n", timeout=SECONDS)
        self.assertEqual((process.returncode, error), (0, b""))
        self.assertGreaterEqual(out.count(b"\n"), 1000)

    def test_an_interrupt_while_it_waits_leaves(self):
        process = self.start(UNDISTURBED, "--tokens", "2", "--greedy", "--json")
        process.stdin.write(b"x\n")
        process.stdin.flush()
        process.stdout.readline()  # the answer is over
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=SECONDS), 0, process.stderr.read())
        process.stdin.close()
        process.stdout.close()
        process.stderr.close()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], [Chat]))
