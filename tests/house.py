"""The house, measured: `python -m tests.house` prints a table per room and what breaks its rules.

Part of `make check`; exits with 1 and a sentence per broken rule. The rules are kept because they
break silently: a class name that means two things, a reference nobody can follow, a spine too
long to be read in one sitting.
"""

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

APP = Path("app")
MAP = APP / "README.md"
GLOSSARY = APP / "GLOSSARY.md"
MAX_FILE_LINES = 300
MAX_SPINE_LINES = 4_000
"""Lua included: what somebody reads in one sitting."""

SPINE = re.compile(r"^## The spine$(.*?)^## ", re.MULTILINE | re.DOTALL)
REFERENCE = re.compile(
    r"(?<![%\w])([Ss]tudy|[Ff]aults? F\d+|F\d{1,3}|B\d{1,3}|M\d{1,2}|I\d{1,2}|[Rr]ace \d+"
    r"|[Ss]tatements? \d+|[Dd]esign,? section \d+|S\d{1,2})\b"
)
"""What points at a page: each must be defined by a row or heading of a page in the repository."""
DEFINED = re.compile(
    r"^(?:\| |\* |- |#+ )\**`?([A-Z]\d{1,3}(?:,? [A-Z]\d{1,3})*)`?\**\b", re.MULTILINE
)
"""One row or heading may define several: `| S6 S7 |`."""
TEXTS = (".py", ".lua", ".md", ".toml", ".yml", ".yaml")


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    return [path for name in listed.stdout.splitlines() if (path := Path(name)).is_file()]


def lines_of(path: Path) -> int:
    return path.read_text().count("\n")


def room_of(path: Path) -> str:
    """`app/adapters/redis/client/x.py` is of `adapters/redis`, `app/settings.py` of the top."""
    folders = path.parts[1:-1]
    return "/".join(folders[: 2 if folders[:1] == ("adapters",) else 1]) or "(top)"


def functions(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def spread(numbers: list[int]) -> str:
    ordered = sorted(numbers) or [0]
    return f"{median(ordered):.0f}/{ordered[int(len(ordered) * 0.9)]}/{ordered[-1]}"


def table(python: list[Path]) -> Iterator[str]:
    rooms = defaultdict(list)
    for path in python:
        rooms[room_of(path)].append(path)
    yield "| Room | files | lines | file median/p90/max | function median/p90/max |"
    yield "|---|---|---|---|---|"
    for room, paths in [*sorted(rooms.items()), ("all", python)]:
        lengths = [lines_of(path) for path in paths]
        inside = [length for path in paths for length in functions(path)]
        yield (
            f"| {room} | {len(paths)} | {sum(lengths):,} | {spread(lengths)} | {spread(inside)} |"
        )


def twice(python: list[Path]) -> Iterator[str]:
    """Class names with two meanings. The sandbox is a stranger with a language of its own."""
    places = defaultdict(list)
    for path in python:
        if "sandbox" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path))
    for name, found in sorted(places.items()):
        if len(found) > 1:
            yield f"class {name} is defined in {' and '.join(found)}: one name, one meaning"


def glossary(python: list[Path]) -> Iterator[str]:
    """Names in it that are no class, and public classes of domain and service that it lacks.

    The other rooms hold implementations of these nouns: they may be listed, and need not be."""
    rows = [line.split("|")[1] for line in GLOSSARY.read_text().splitlines() if line[:2] == "| "]
    listed = set(re.findall(r"`([A-Z]\w+)`", " ".join(rows)))
    defined = {
        node.name: path
        for path in python
        if path.parts[1] != "sandbox"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }
    for name in sorted(listed - defined.keys()):
        yield f"{GLOSSARY} explains {name}, which is no class any more"
    for name, path in sorted(defined.items()):
        if path.parts[1] in ("domain", "service") and name not in listed:
            yield f"{GLOSSARY} does not explain {name} ({path})"


def unresolved(files: list[Path]) -> Iterator[str]:
    texts = {path: path.read_text() for path in files if path.suffix in TEXTS}
    defined = {
        name
        for path, text in texts.items()
        if path.suffix == ".md"
        for names in DEFINED.findall(text)
        for name in re.findall(r"\w+", names)
    }
    for path, text in texts.items():
        for number, line in enumerate(text.splitlines(), 1):
            for found in REFERENCE.findall(line.partition("# noqa")[0]):
                if path != Path(__file__).relative_to(Path.cwd()) and found not in defined:
                    yield f"{path}:{number}: {found!r} is explained nowhere in this repository"


def spine() -> list[Path]:
    """The modules a request passes, in reading order, from the map."""
    section = SPINE.search(MAP.read_text())
    named = re.findall(r"`([\w/]+\.(?:py|lua))`", section.group(1)) if section else []
    return [APP / name for name in named]


def long_or_missing(python: list[Path]) -> Iterator[str]:
    for path in python:
        if (length := lines_of(path)) > MAX_FILE_LINES:
            yield f"{path} has {length} lines, more than {MAX_FILE_LINES}: a noun is missing"
    passed = spine()
    if not passed:
        yield f"{MAP} has no section 'The spine' that lists modules"
    for path in passed:
        if not path.is_file():
            yield f"{MAP} lists {path}, which does not exist"
    if (total := sum(map(lines_of, filter(Path.is_file, passed)))) > MAX_SPINE_LINES:
        yield f"the spine has {total:,} lines, more than {MAX_SPINE_LINES:,}"


def main() -> int:
    files = tracked()
    python = [path for path in files if path.suffix == ".py" and path.parts[0] == "app"]
    lua = [path for path in files if path.suffix == ".lua"]
    broken = [
        *twice(python),
        *glossary(python),
        *unresolved(files),
        *long_or_missing(python),
    ]
    if "--quiet" not in sys.argv[1:]:
        print(*table(python), sep="\n")
        print(f"\nLua: {len(lua)} files, {sum(map(lines_of, lua)):,} lines")
        print(f"Spine: {len(spine())} files, {sum(map(lines_of, spine())):,} lines")
    print(*broken, sep="\n", end="\n" if broken else "")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
