"""No text may stall the process: every pattern of the app against inputs made to make it slow.

A pattern that works in the square of its input needs sixteen times as long for four times as much;
a linear one four times.
"""

import importlib
import pkgutil
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import app
from app.address_settings import STORE_URL
from app.reconcile.csv_cells import CURRENCY_MARKS, amount_pattern

SHORT, LONG = 1_500, 6_000
FLOOR_S = 0.012
"""A pattern this fast for the long input is fast, however its time grows."""
WORD = re.compile(r"[A-Za-z_]{2,}|[^\w\s\\^$.|?*+()\[\]{}-]")
PIECES = (
    " ", "\t", "\n", "a", "A", "_", "-", ".", ",", ":", "/", "\\", "<", ">", "(", ")", "{", "[",
    "0", "1.", "%", "=", '"', "'", ";", "@", "é", "中", "a ", " a", "a_", "0,", "<a", "//", "a.",
    "a:", "(a", "-a", "a=", "; a", "%2",
)  # fmt: skip
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in Path(app.__path__[0]).rglob("*.py"))
AnyPattern = re.Pattern[str] | re.Pattern[bytes]


@dataclass(frozen=True)
class Subject:
    """A pattern, and whether the app only ever asks it about the beginning of a text."""

    pattern: AnyPattern
    anchored: bool

    @property
    def written(self) -> str:
        text = self.pattern.pattern
        return text if isinstance(text, str) else text.decode("latin-1")


def methods_called() -> dict[str, set[str]]:
    """What the app calls on each name, found in one pass over all of it."""
    found: dict[str, set[str]] = {}
    for name, method in re.findall(r"\b([A-Za-z_]\w*)\.(\w+)\(", SOURCE):
        found.setdefault(name, set()).add(method)
    return found


CALLED = methods_called()


def anchored(name: str) -> bool:
    uses = CALLED.get(name, set())
    return bool(uses) and uses <= {"match", "fullmatch"}


def patterns() -> dict[str, Subject]:
    found = {
        f"amount in {c}": Subject(amount_pattern(c), anchored=True)
        for c in (*CURRENCY_MARKS, "EUR")
    }
    for module in pkgutil.walk_packages(app.__path__, "app."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern) and not any(
                s.pattern is value for s in found.values()
            ):
                found[f"{module.name}.{name}"] = Subject(value, anchored(name))
    return found


PATTERNS = patterns()


def attacks(pattern: str) -> Iterator[tuple[str, str]]:
    """(what comes first, what is repeated): the pattern's own words, and what may stand between."""
    words = sorted(set(WORD.findall(pattern)), key=len, reverse=True)[:24]
    for piece in PIECES:
        yield "", piece
    for word in words:
        yield "", word
        yield "", word + " "
        yield "", word + "_"
        yield word, " "
        yield word, "a"
        yield word + " ", "a"
        yield word + "(", " "


def seconds(subject: Subject, text: str, enough_s: float = 0.0) -> float:
    """Of this thread alone, the least of some runs: other programs share the machine."""
    pattern: Any = subject.pattern
    given = text.encode() if isinstance(pattern.pattern, bytes) else text
    least = float("inf")
    for _ in range(5):
        started = time.thread_time()
        pattern.match(given)
        pattern.fullmatch(given)
        if not subject.anchored:
            pattern.sub(given[:0], given)
        least = min(least, time.thread_time() - started)
        if least < enough_s:
            break
    return least


def test_the_walk_finds_the_patterns() -> None:
    assert len(PATTERNS) > 40
    assert any(subject.pattern is STORE_URL for subject in PATTERNS.values())


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_takes_as_long_as_its_input_is(name: str) -> None:
    subject = PATTERNS[name]
    for first, piece in attacks(subject.written):
        long_s = seconds(subject, first + piece * (LONG // len(piece)) + "\0", FLOOR_S)
        if long_s > FLOOR_S:
            part_s = seconds(subject, first + piece * (SHORT // len(piece)) + "\0")
            assert long_s < 8 * part_s, (first, piece, part_s, long_s)


def test_the_test_itself_sees_a_square() -> None:
    square = Subject(re.compile(r"\s*x"), anchored=False)

    long_s, part_s = seconds(square, " " * LONG), seconds(square, " " * SHORT)

    assert long_s > FLOOR_S
    assert long_s > 8 * part_s
