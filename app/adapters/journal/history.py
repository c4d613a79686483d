"""Reading journals back: the latest mark for a fresh process, everything for a rebuild."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import orjson

from app.domain.journal import Change, Kind, Mark, Step

NEWEST_FILES = 64
TAIL_BYTES = 256 * 1024


class History:
    """All steps of all files in `directories`, in no particular order of files.

    `unreadable` counts the lines that are no steps: at most the last one of a file whose machine
    lost power.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        self.directories = directories
        self.unreadable = 0

    def __iter__(self) -> Iterator[Step]:
        self.unreadable = 0
        for directory in self.directories:
            for file in sorted(directory.glob("*.jsonl")):
                with file.open("rb") as lines:
                    for line in lines:
                        step = _read(line)
                        if step is None:
                            self.unreadable += 1
                        else:
                            yield step


def latest_mark(directory: Path) -> Mark | None:
    """The highest mark in the newest files; None when there is none."""
    files = sorted(directory.glob("*.jsonl"), key=lambda f: f.stat().st_mtime, reverse=True)
    marks = [mark for file in islice(files, NEWEST_FILES) if (mark := _last(file)) is not None]
    return max(marks, key=lambda mark: mark.seq, default=None)


def _last(file: Path) -> Mark | None:
    """The mark of a file's last whole line."""
    with file.open("rb") as tail:
        tail.seek(max(file.stat().st_size - TAIL_BYTES, 0))
        steps = (step for line in reversed(tail.read().splitlines()) if (step := _read(line)))
        return next((step.mark for step in steps), None)


def _read(line: bytes) -> Step | None:
    try:
        row = orjson.loads(line)
        changes = [Change(Kind(c["kind"]), c["id"], _texts(c["fields"])) for c in row["changes"]]
        return Step(Mark(**row["mark"]), changes, row["at_ms"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _texts(fields: Sequence[object]) -> list[str]:
    """A script's numbers are written as numbers."""
    return [str(field) for field in fields]
