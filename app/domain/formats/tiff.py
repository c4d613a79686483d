"""TIFF 6.0: directories anywhere in the file that point at strips or tiles anywhere else in it."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from app.domain.formats.source import SHORTEST_PAYLOAD, Found, Source, big, blank, little

WIDTH, HEIGHT = 256, 257
EXTENTS = ((273, 279), (324, 325))
"""Offsets and byte counts: of strips, of tiles."""
WORDS = {3: "H", 4: "I"}
"""SHORT and LONG, the only types sizes and places are written in."""
MOST_DIRECTORIES = 64
MOST_VALUES = 200_000
MOST_EXAMINED = 256 << 20

Number = Callable[[Source, int, int], int]


@dataclass(frozen=True, slots=True)
class _Field:
    kind: int
    count: int
    at: int
    """Where its value is, or where the place of its values is written."""


def read(source: Source) -> Found:
    number = little if source.read(0, 2) == b"II" else big
    width = height = None
    whole, seen = False, set[int]()
    at = number(source, 4, 4)
    while at > 0 and at not in seen and len(seen) < MOST_DIRECTORIES:
        seen.add(at)
        fields = dict(_fields(source, number, at))
        if not _within(source, number, fields):
            return Found(width, height, whole=False)
        whole = True
        if width is None:
            width, height = (_first(source, number, fields, tag) for tag in (WIDTH, HEIGHT))
        at = number(source, at + 2 + 12 * number(source, at, 2), 4)
    # A directory beyond the end, or one that comes again, ends nothing.
    return Found(width, height, whole and at == 0)


def _fields(source: Source, number: Number, at: int) -> Iterator[tuple[int, _Field]]:
    for index in range(max(number(source, at, 2), 0)):
        entry = at + 2 + 12 * index
        kind, count = number(source, entry + 2, 2), number(source, entry + 4, 4)
        yield number(source, entry, 2), _Field(kind, count, entry + 8)


def _within(source: Source, number: Number, fields: dict[int, _Field]) -> bool:
    """Whether all the pixels of this directory lie in the file, and there are some."""
    for places, lengths in EXTENTS:
        if places not in fields or lengths not in fields:
            continue
        starts = _values(source, number, fields[places])
        counts = _values(source, number, fields[lengths])
        pieces = list(zip(starts, counts, strict=False))
        if not pieces or min(*starts, *counts) < 0:
            return False
        inside = all(start + count <= source.size for start, count in pieces)
        return inside and not _blank(source, pieces)
    return False


def _blank(source: Source, pieces: list[tuple[int, int]]) -> bool:
    """Whether no pixel was ever written: they are all zero, which black pictures rarely are."""
    drawn, left = False, MOST_EXAMINED
    for start, count in pieces:
        drawn = drawn or count < SHORTEST_PAYLOAD or not blank(source, start, start + count)
        left -= count
        if drawn or left < 0:
            break
    return not drawn


def _first(source: Source, number: Number, fields: dict[int, _Field], tag: int) -> int | None:
    values = _values(source, number, fields[tag]) if tag in fields else []
    return values[0] if values else None


def _values(source: Source, number: Number, field: _Field) -> list[int]:
    word = WORDS.get(field.kind)
    if word is None or not 0 < field.count <= MOST_VALUES:
        return []
    layout = struct.Struct(f"{'<' if number is little else '>'}{field.count}{word}")
    at = field.at if layout.size <= 4 else number(source, field.at, 4)
    given = source.read(max(at, 0), layout.size)
    return list(layout.unpack(given)) if len(given) == layout.size else []
