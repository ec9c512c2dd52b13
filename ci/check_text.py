#!/usr/bin/env python3
"""Lengths, forbidden marks and folder READMEs.

Usage: check_text.py [ROOT]

Files at most 400 lines, lines at most 100 characters, C++ functions at most 50 lines; no mark of
unfinished work without an owner, as in MARK(name); `rank` means LoRA rank only, a process is a
process; no path of one machine; every top-level folder opens with a README.md of at most 25 lines.
"""

import pathlib
import re
import sys

MAX_FILE, MAX_LINE, MAX_FUNCTION, MAX_README = 400, 100, 50, 25
FOLDERS = ("src", "kernels", "distributed", "checkpoints", "launch", "configs", "tests", "ci",
           "docs")
CPP = (".h", ".cpp", ".cu", ".cuh")
TEXT = CPP + (".py", ".sh", ".cmake", ".ini", ".txt", ".sbatch")
MARK = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b(?!\([\w#-]+\))")
PLACE = re.compile(r"(?<![\w.])/(work|root|home)/\w")
PROCESS_RANK = re.compile(
    r"\b(world_rank|my_rank|mpi_rank|local_rank|process_rank|num_ranks|nranks|this rank|"
    r"root rank|rank zero|rank 0 (?:writes|reads|prints|sends|saves)|other ranks|MPI ranks?)\b")
COMM_RANK = re.compile(r"(?<![A-Za-z])(?:rank|ranks)(?![A-Za-z])")
COMM_API = re.compile(r"\b(MPI_\w+|nccl\w+|[A-Z][A-Z_]*RANK[A-Z_]*)\b")


def blank(match):
    """Spaces of the same shape, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", match.group(0))


def without_literals(text):
    """C++ with comments, strings, characters and preprocessor lines blanked out."""
    text = re.sub(r'R"(\w*)\(.*?\)\1"', blank, text, flags=re.DOTALL)
    token = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\''
    text = re.sub(token, blank, text, flags=re.DOTALL)
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, text, flags=re.MULTILINE)


def kind_of(header):
    """What a `{` opens at namespace or class scope, told from the text before it."""
    header = header.strip()
    if re.search(r"\b(namespace|extern)\b", header):
        return "scope"
    if "(" not in header:
        return "scope" if re.search(r"\b(class|struct|union|enum)\b", header) else "value"
    if header.count("(") != header.count(")"):
        return "value"  # braces inside an argument list
    after = header[header.rindex(")") + 1:]
    if re.search(r"\b(class|struct|union)\b[^()]*$", header):
        return "scope"
    if header.endswith("=") or re.fullmatch(r"\s*[:,]\s*[\w:<>]+\s*", after):
        return "value"  # a default value, or a member initialiser with braces
    return "function"


def functions(text):
    """(first line, number of lines) of every function body with its signature."""
    code = without_literals(text)
    stack, header_begin = [], 0
    for index, char in enumerate(code):
        inside = any(kind in ("function", "value") for kind, _ in stack)
        if char == "{":
            kind = "value" if inside else kind_of(code[header_begin:index])
            stack.append((kind, header_begin))
            if kind == "scope":
                header_begin = index + 1
        elif char == "}" and stack:
            kind, begin = stack.pop()
            if kind == "function":
                begin += len(code[begin:index]) - len(code[begin:index].lstrip())
                first, last = (code.count("\n", 0, at) + 1 for at in (begin, index))
                yield first, last - first + 1
            if kind != "value":
                header_begin = index + 1
        elif char == ";" and not inside:
            header_begin = index + 1


def check_lines(name, lines):
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            yield f"{name}:{number}: the line has {len(line)} characters, expected <= {MAX_LINE}"
        if MARK.search(line):
            yield f"{name}:{number}: a mark of unfinished work has no owner"
        if PLACE.search(line):
            yield f"{name}:{number}: names a path of one machine"
        in_comm = name.startswith("distributed/comm/")
        said = PROCESS_RANK.search(line) and not name.startswith("ci/")  # this file names them
        if said or in_comm and COMM_RANK.search(COMM_API.sub("", line)):
            yield f"{name}:{number}: `rank` means LoRA rank, a process is a process"


def check_file(root, path):
    name = path.relative_to(root).as_posix()
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if len(lines) > MAX_FILE:
        yield f"{name}: the file has {len(lines)} lines, expected <= {MAX_FILE}"
    yield from check_lines(name, lines)
    if path.suffix in CPP:
        for first, count in functions(text):
            if count > MAX_FUNCTION:
                yield f"{name}:{first}: the function has {count} lines, expected <= {MAX_FUNCTION}"


def check_readmes(root):
    for folder in FOLDERS:
        readme = root / folder / "README.md"
        if not (root / folder).is_dir():
            continue
        if not readme.is_file():
            yield f"{folder}: the folder has no README.md"
        elif len(readme.read_text(encoding="utf-8").splitlines()) > MAX_README:
            yield f"{folder}/README.md: longer than {MAX_README} lines"


def check(root):
    problems = list(check_readmes(root))
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and (path.suffix in TEXT) and "golden" not in path.parts:
                problems += check_file(root, path)
    return problems


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    problems = check(root.resolve())
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        print(f"check_text: {len(problems)} violations", file=sys.stderr)
        return 1
    print("check_text: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
