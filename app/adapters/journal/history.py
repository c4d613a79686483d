"""Reading journals back: the latest mark for a fresh process, everything for a rebuild."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from app.adapters.files import is_plain, no_links
from app.adapters.journal.line import read_step
from app.adapters.journal.marker import read_id
from app.domain.journal import Mark, Step

COPIES = ".changes.jsonl"
"""Files of what others changed, copied from the store: not in the order of their marks."""
NEWEST_FILES = 64
TAIL_BYTES = 256 * 1024


class History:
    """All steps of all files in `directories`, in no particular order of files.

    What cannot be used is skipped and counted: `bad_lines` by file (a machine that lost power
    leaves half a line), `strangers` are named like a journal file and cannot be read as one.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = directories
        self.bad_lines: Counter[Path] = Counter()
        self.strangers: list[Path] = []

    @property
    def ids(self) -> frozenset[str]:
        """The names of the journals that were given."""
        return frozenset(id for place in self.directories if (id := read_id(place)) is not None)

    @property
    def unreadable(self) -> int:
        """Lines, and files as a whole, that say nothing."""
        return self.bad_lines.total() + len(self.strangers)

    @property
    def unreadable_names(self) -> list[str]:
        lines = [f"{file}: {count} unreadable" for file, count in sorted(self.bad_lines.items())]
        return lines + [f"{file}: no journal file" for file in sorted(self.strangers)]

    def __iter__(self) -> Iterator[Step]:
        self.bad_lines, self.strangers = Counter(), []
        for directory in self.directories:
            for file in sorted(directory.glob("*.jsonl")):
                try:
                    yield from self._steps(file)
                except OSError:
                    self.strangers.append(file)

    def _steps(self, file: Path) -> Iterator[Step]:
        if not is_plain(file):  # opening a pipe would wait for ever
            self.strangers.append(file)
            return
        with open(file, "rb", opener=no_links) as lines:
            for line in lines:
                step = read_step(line)
                if step is None:
                    self.bad_lines[file] += 1
                else:
                    yield step


@dataclass(frozen=True, slots=True)
class Ending:
    """Where a journal ends: its latest mark, None when there is none; what is no journal file; how
    many of the lines looked at cannot be read."""

    mark: Mark | None
    strangers: tuple[str, ...]
    bad_lines: int


def ending(directory: Path) -> Ending:
    """Look at the ends of the newest files. Never raises."""
    files, strangers = _files(directory)
    marks, bad_lines = [], 0
    for file in islice(files, NEWEST_FILES):
        try:
            mark, bad = _last(file)
        except OSError:
            strangers.append(file.name)
            continue
        bad_lines += bad
        if mark is not None:
            marks.append(mark)
    latest = max(marks, key=lambda mark: mark.seq, default=None)
    return Ending(latest, tuple(sorted(strangers)), bad_lines)


def _files(directory: Path) -> tuple[list[Path], list[str]]:
    """Journal files, the newest first, and the names of what only looks like one."""
    found, strangers = [], []
    for file in directory.glob("*.jsonl"):
        try:
            if is_plain(file):
                found.append((file.stat().st_mtime, file))
            else:
                strangers.append(file.name)
        except OSError:
            strangers.append(file.name)
    own = [file for _, file in sorted(found, reverse=True) if not file.name.endswith(COPIES)]
    return own, strangers


def _last(file: Path) -> tuple[Mark | None, int]:
    """The mark of a file's last readable line, and how many after it are not."""
    with open(file, "rb", opener=no_links) as tail:
        tail.seek(max(file.stat().st_size - TAIL_BYTES, 0))
        bad = 0
        for line in reversed(tail.read().splitlines()):
            step = read_step(line)
            if step is not None:
                return step.mark, bad
            bad += 1
    return None, bad
