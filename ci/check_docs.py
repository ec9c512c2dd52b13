#!/usr/bin/env python3
"""What documents name must be there: files, folders and symbols between backticks.

Usage: check_docs.py [ROOT]

A word with a slash whose first part is a folder of the tree is a path, with or without its ending.
A word with an underscore, a hump or a `::` is a symbol, and so is what stands behind the dot of
`section.key` or `Suite.test`: it must stand somewhere in the sources. `*` is any ending.
"""

import pathlib
import re
import sys

SOURCES = (".h", ".cpp", ".cu", ".cuh", ".c", ".py", ".sh", ".txt", ".cmake", ".ini", ".json")
FOLDERS = ("src", "kernels", "distributed", "checkpoints", "launch", "configs", "tests", "ci")
NAME = re.compile(r"[A-Za-z_]\w*(?:(?:::|\.)[A-Za-z_]\w*)*\*?")
PLACEHOLDER = re.compile(r"(?:^|[/_])(?:NAME|UNIT|FOLDER|LAYER)(?=[/_.]|$)")
EXAMPLES = {"PascalCase", "snake_case", "kName", "step_ms"}  # of the naming rules
HUMP = re.compile(r"[a-z]\w*[A-Z]|[A-Z]\w*[a-z]\w*[A-Z]|::|\w_\w|^k[A-Z]")


def spans(text):
    """(line, words) of everything between single backticks outside of code blocks."""
    text = re.sub(r"^```.*?^```", lambda m: re.sub(r"[^\n]", " ", m.group(0)), text,
                  flags=re.DOTALL | re.MULTILINE)
    for match in re.finditer(r"`([^`]+)`", text):
        yield text.count("\n", 0, match.start()) + 1, " ".join(match.group(1).split())


def path_exists(root, words):
    path = root / words.rstrip("/")
    return path.exists() or any(path.parent.glob(path.name + ".*"))


def symbols(root):
    """Every word of the sources and every file's name."""
    known = set()
    for folder in FOLDERS:
        for path in (root / folder).rglob("*"):
            if path.suffix in SOURCES and path.is_file():
                known.update(re.findall(r"[A-Za-z_]\w*", path.read_text(encoding="utf-8")))
                known.add(path.stem)
    return known


def is_known(name, known):
    last = re.split(r"::|\.", name)[-1]
    if last.endswith("*"):
        return any(word.startswith(last[:-1]) for word in known)
    return last in known


def check(root):
    problems = []
    known = symbols(root)
    documents = [*root.glob("*.md"), *(root / "docs").glob("*.md"),
                 *(path for folder in FOLDERS for path in (root / folder).rglob("*.md"))]
    for document in sorted(documents):
        where = document.relative_to(root)
        for line, words in spans(document.read_text(encoding="utf-8")):
            top = words.split("/")[0]
            if words in EXAMPLES or PLACEHOLDER.search(words):
                continue
            if "/" in words and top in FOLDERS and re.fullmatch(r"[\w./-]+", words):
                if not path_exists(root, words):
                    problems.append(f"{where}:{line}: there is no {words}")
            elif NAME.fullmatch(words) and HUMP.search(words) and not is_known(words, known):
                problems.append(f"{where}:{line}: no source holds the symbol {words}")
    return problems


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    problems = check(root)
    for problem in problems:
        print(problem)
    print(f"check_docs: {f'{len(problems)} violations' if problems else 'ok'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
