"""`dfmoa inspect --html`: the page as a file, and as a browser draws it.

Usage: inspect_html_test.py PROGRAM MPIEXEC [CASE ...]

The case Browser needs chromium and is skipped (exit 77) where there is none.
"""

import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from cli_fixture import UNDISTURBED, CliTest, main, write_lines  # noqa: E402

SKIPPED = 77
TEXT = "say </script><script>document.body.dataset.state = 'broken'</script> <!-- & naïve 🦊"
FULL = "r/full <i>&amp;"
TASK = "</script><b>\u2028add"
DFA = ["--set", "dfa.router=heads", "--set", "router.heads.kind=softmax", "--set",
       "dfa.rank_gate=masks", "--set", "rank.masks.kind=hard_concrete", "--set",
       "rank.masks.learning_rate=2", "--set", "data.eval=train.jsonl", "--set",
       "train.evaluate_every=3"]
# Told to whoever shows the page in a frame: texts that lie on each other, what sticks out.
PROBE = """<script>
const boxes = [...document.querySelectorAll('svg')].map(svg => [svg.getBoundingClientRect(),
  [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()])]);
const apart = (a, b) => a.right < b.left + 1 || b.right < a.left + 1 || a.bottom < b.top + 1 ||
  b.bottom < a.top + 1;
const clashes = [];
for (const [frame, texts] of boxes) texts.forEach(([name, box], i) => {
  if (box.left < frame.left - 1 || box.right > frame.right + 1) clashes.push(`out: ${name}`);
  for (const [other, at] of texts.slice(0, i)) {
    if (!apart(box, at)) clashes.push(name + '/' + other);
  }
});
parent.postMessage(JSON.stringify({clashes, drawings: boxes.length, width: window.innerWidth,
  wide: document.documentElement.scrollWidth, state: document.body.dataset.state}), '*');
</script>"""
FRAME = """<!doctype html><body><iframe src="probed.html" width="WIDTH" height="900"></iframe>
<script>onmessage = event => { document.body.dataset.told = event.data; };</script></body>"""


class Parts(html.parser.HTMLParser):
    """Scripts, attributes, and the text of elements by their class."""

    def __init__(self, page):
        super().__init__()
        self.scripts, self.elements, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])
        self.open.append(self.elements[-1])
        if tag in ("meta", "link", "br"):
            self.open.pop()

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, text):
        for element in self.open:
            element[2] += text

    def of(self, tag, **wanted):
        return [element for element in self.elements if element[0] == tag and
                all(element[1].get(key) == value for key, value in wanted.items())]


class Pages(CliTest):
    def page(self, path, *options):
        """The page about a checkpoint or run, as text."""
        self.world.done("inspect", path, "--html", "page.html", *options)
        return (self.world.root / "page.html").read_text(encoding="utf-8")

    def data(self, path, *options):
        (found,) = Parts(self.page(path, *options)).of("script", id="data")
        return json.loads(found[2])

    def full(self):
        """Everything there is: a run with heads, held-out data and a text."""
        if not (self.world.root / FULL).exists():
            self.world.train(FULL, *DFA)
            (self.world.root / "text.txt").write_text(TEXT, encoding="utf-8")
            write_lines(self.world.root / "held.jsonl",
                        [{"prompt": "a", "completion": "b", "task": task} for task in (TASK, "c")])
        return [FULL, "--data", "held.jsonl", "--tokens", "text.txt"]


class Page(Pages):
    def test_it_needs_nothing_but_itself(self):
        page = self.page(*self.full())
        parts = Parts(page)
        self.assertEqual(len(parts.of("script")), 2)  # a text cannot end one of them
        self.assertEqual((page.count("</script"), page.count("<!--")), (2, 0))
        (title,) = parts.of("title")
        self.assertEqual(title[2], f"{FULL}/checkpoints/step_00000006")
        for _, attributes, _ in parts.elements:
            self.assertFalse({"src", "href"} & set(attributes), attributes)
        addresses = set(re.findall(r"\w+://[^\s'\"]*", page))
        self.assertEqual(addresses, {"http://www.w3.org/2000/svg"})  # a name, not a place
        self.assertNotIn("url(", page)
        self.assertIn("default-src 'none'", page)

    def test_its_data_is_what_the_run_told(self):
        data = self.data(*self.full())
        self.assertEqual("".join(data["tokens"]["texts"][0]["pieces"]), TEXT)
        self.assertEqual(data["ranks"]["steps"], [2, 4, 6])
        self.assertEqual([row["name"] for row in data["ranks"]["rows"]],
                         [f"{layer}/{site}" for layer in range(2) for site in ("q", "v", "up")])
        for row in data["ranks"]["rows"]:
            for key in ("active", "spectral"):
                metric = self.world.metrics(FULL, f"rank/{row['name']}/{key}")
                for step, value in zip(data["ranks"]["steps"], row[key]):
                    self.assertAlmostEqual(value, metric[step], delta=1e-4 * metric[step])
        self.assertEqual([one["name"] for one in data["loss"]], ["eval/loss", "train/ce"])
        self.assertEqual([step for step, _ in data["loss"][0]["points"]], [3, 6])
        self.assertEqual([step for step, _ in data["loss"][1]["points"]], list(range(1, 7)))
        self.assertEqual([one["name"] for one in data["entropy_weights"]],
                         ["0/heads", "0/main", "1/heads", "1/main"])
        for one in data["loss"] + data["entropy_weights"]:
            key = one["name"] if one in data["loss"] else "entropy_weight/" + one["name"]
            metric = self.world.metrics(FULL, key)
            for step, value in one["points"]:
                self.assertAlmostEqual(value, metric[step], delta=1e-4 * metric[step])
        for key in ("routers", "dimensions"):
            self.assertEqual(len(data["checkpoint"][key]), 4)

    def test_tables_are_printed_only_where_they_were_asked_for(self):
        said = self.world.done("inspect", *self.full(), "--html", "page.html")
        for table in ("spectral", "load_cv", "head dimensions", "piece", "router on"):
            self.assertNotIn(table, said)
        page = ["inspect", FULL, "--html", "x.html"]
        self.assertIn("load_cv", self.world.done(*page, "--gates"))
        self.assertIn("sites", json.loads(self.world.done(*page, "--json")))

    def test_a_checkpoint_alone_is_one_column(self):
        self.full()
        folder = f"{FULL}/checkpoints/step_00000004"
        self.assertEqual(self.data(folder)["ranks"]["steps"], [2, 4, 6])  # it lies in its run
        shutil.copytree(self.world.root / folder, self.world.root / "alone")
        data = self.data("alone")
        self.assertEqual((data["ranks"]["steps"], data["loss"]), ([4], []))
        metric = self.world.metrics(FULL, "rank/1/up/active")
        self.assertEqual(data["ranks"]["rows"][-1]["active"], [metric[4]])

    def test_a_long_run_is_thinned_and_repeated_steps_count_once(self):
        self.world.train("r/long")
        with open(self.world.root / "r/long/metrics.jsonl", "a", encoding="utf-8") as file:
            for step in [*range(1, 2001), 3]:
                file.write(json.dumps({"step": step, "time": 1, "key": "train/ce",
                                       "value": step + 0.5}) + "\n")
            file.write('{"step": 9, "time": 1, "key": "train/ce", "value": null}\n{"step": 9, "ti')
        data = self.data("r/long")
        (curve,) = data["loss"]
        self.assertEqual(data["thinned"]["loss"], 4)
        self.assertEqual(len(curve["points"]), 501)
        self.assertEqual(curve["points"][0], [1, 1.5])
        self.assertEqual(curve["points"][-1], [2000, 2000.5])
        with open(self.world.root / "r/long/metrics.jsonl", "a", encoding="utf-8") as file:
            file.write('"train/ce" broken\n')
        self.refused(3, "inspect", "r/long", "--html", "page.html", says=["metrics.jsonl:"])

    def test_what_makes_no_page_is_refused(self):
        for other in (["--verify"], ["--collectives"], ["--diff", UNDISTURBED]):
            self.refused(2, "inspect", UNDISTURBED, "--html", "x", *other,
                         says=["--html", other[0]])
        self.refused(2, "inspect", "base", "--html", "x", says=["--html", "base"])
        self.refused(1, "inspect", UNDISTURBED, "--html", "nowhere/x", says=["nowhere/x"])


class Browser(Pages):
    def draw(self, page):
        """The document after its script, as the browser holds it."""
        path = self.world.root / "drawn.html"
        path.write_text(page, encoding="utf-8")
        with tempfile.TemporaryDirectory() as profile:
            done = subprocess.run(
                [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                 "--disable-dev-shm-usage", f"--user-data-dir={profile}", "--window-size=1300,1000",
                 "--virtual-time-budget=10000", "--dump-dom", path.as_uri()],
                env={**os.environ, "HOME": profile}, capture_output=True, text=True, timeout=120,
                check=True)
        return Parts(done.stdout)

    def state(self, parts):
        return parts.of("body")[0][1].get("data-state")

    def test_every_number_of_a_run_is_drawn(self):
        page = self.page(*self.full())
        parts = self.draw(page)
        data = json.loads(parts.of("script", id="data")[0][2])
        self.assertEqual(self.state(parts), "done")
        cells = {name: [] for name in ("ranks", "load", "tasks", "heads", "dimensions")}
        at = None
        for tag, attributes, text in parts.elements:
            if tag == "section":
                at = attributes["id"]
            if tag == "rect":
                cells[at].append(text)
        self.assertEqual({name: len(found) for name, found in cells.items()},
                         {"ranks": 3 * 6, "load": 2 * 3, "tasks": 2 * 3, "heads": 2 * 2,
                          "dimensions": 2 * 2})
        self.assertEqual(len(parts.of("script")), 2)
        self.assertIn(f"{TASK}, expert 0: ", "".join(cells["tasks"]))
        first = data["ranks"]["rows"][0]
        self.assertIn(f"layer 0, q, step 2: {first['active'][0]:.0f} open directions",
                      cells["ranks"][0])
        self.assertIn("0/main, expert 0: ", cells["load"][0])
        self.assertEqual(len(parts.of("path")), 2 + 4)
        tokens = parts.of("span", **{"class": "token"})
        self.assertEqual("".join(token[2] for token in tokens), TEXT)
        gates = data["tokens"]["texts"][0]["gates"]["mean"]
        for token, row in zip(tokens, gates):
            self.assertEqual(int(token[1]["data-best"]), row.index(max(row)))
            self.assertIn("expert 2: ", token[1]["title"])

    def long_run(self):
        """80 saves of 30 layers, and 31 routers with longer names."""
        shutil.copytree(self.world.root / self.full()[0], self.world.root / "r/deep")
        with open(self.world.root / "r/deep/metrics.jsonl", "a", encoding="utf-8") as file:
            for step in range(1000, 80001, 1000):
                told = {f"rank/{layer}/{site}/active": layer for layer in range(30)
                        for site in ("q", "k", "v", "o", "gate", "up", "down")}
                told |= {f"entropy_weight/{layer}/main": 10 ** (layer / 10 - 4)
                         for layer in range(31)}
                for key, value in {**told, "train/ce": 1 / step}.items():
                    file.write(json.dumps({"step": step, "time": 1, "key": key,
                                           "value": value}) + "\n")
        return ["r/deep", *self.full()[1:]]

    def test_labels_lie_apart_on_wide_and_narrow_screens(self):
        for run in (self.full(), self.long_run()):
            page = self.page(*run).replace("</body>", PROBE + "</body>")
            (self.world.root / "probed.html").write_text(page, encoding="utf-8")
            for width in (1200, 400):
                parts = self.draw(FRAME.replace("WIDTH", str(width)))
                told = json.loads(parts.of("body")[0][1]["data-told"])
                self.assertEqual((told["state"], told["clashes"]), ("done", []), (run, width))
                self.assertEqual((told["width"], told["drawings"]), (width, 7))
                self.assertLessEqual(told["wide"], width)

    def test_what_a_run_lacks_is_said(self):
        self.world.train("r/bare", "--set", "adapter.main.experts=1", "--set", "dfa.layers=0",
                         "--steps", 0)
        parts = self.draw(self.page("r/bare"))
        self.assertEqual(self.state(parts), "done")
        said = {element[1]["id"]: element[2] for element in parts.of("section")}
        self.assertIn("No router gates experts", said["load"])
        self.assertIn("--data FILE", said["tasks"])
        self.assertIn("--tokens FILE", said["tokens"])
        self.assertIn("No dimension is gated", said["dimensions"])

    def test_a_page_that_cannot_be_drawn_says_so(self):
        page = self.page(UNDISTURBED)
        broken = re.sub(r'("ranks"):\{', r'"lost":{', page, count=1)
        self.assertNotEqual(page, broken)
        parts = self.draw(broken)
        self.assertTrue(self.state(parts).startswith("error: "), self.state(parts))
        self.assertIn("could not be drawn", parts.of("p", **{"class": "failure"})[0][2])


def chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser")


CASES = {case.__name__: case for case in (Page, Browser)}

if __name__ == "__main__":
    if len(sys.argv) < 3 or not set(sys.argv[3:]) <= set(CASES):
        sys.exit(__doc__)
    if sys.argv[3:] == ["Browser"] and not chromium():
        print("skipped: there is no chromium, which ci/setup.sh installs")
        sys.exit(SKIPPED)
    sys.exit(main(sys.argv[1], sys.argv[2], [CASES[name] for name in sys.argv[3:] or CASES]))
