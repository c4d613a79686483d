"""TIFF 6.0: directories anywhere in the file point to strips or tiles anywhere else in it."""

import struct
from dataclasses import dataclass

from app.domain.formats.source import (
    MIN_PAYLOAD_BYTES,
    ByteSource,
    FormatInfo,
    StepBudget,
    iter_blocks,
    read_uint_be,
    read_uint_le,
)

WIDTH, HEIGHT = 256, 257
EXTENTS = ((273, 279), (324, 325))
"""The tags of offsets and byte counts: of strips, of tiles."""
WORDS = {3: "H", 4: "I"}
"""SHORT and LONG, the only types of sizes and offsets."""
USED = frozenset({WIDTH, HEIGHT, *(tag for pair in EXTENTS for tag in pair)})
MAX_DIRECTORIES = 64
MAX_VALUES = 200_000
MAX_EXAMINED_BYTES = 256 << 20
"""Bytes examined for zeros, in all directories together."""
BYTES_PER_STEP = 1 << 10
"""That they cost. An entry and a value cost a step each, since directories may overlap."""


@dataclass(frozen=True, slots=True)
class _Field:
    kind: int
    count: int
    at: int
    """Where its value is, or the offset of its values."""


def read(source: ByteSource, steps: StepBudget) -> FormatInfo:
    return _TiffDirectories(source, steps).to_the_last_page()


class _TiffDirectories:
    """One pass over the directories, with limits on what is read of all of them together."""

    def __init__(self, source: ByteSource, steps: StepBudget) -> None:
        self._source, self._steps = source, steps
        self._order, self._number = (
            ("<", read_uint_le) if source.read(0, 2) == b"II" else (">", read_uint_be)
        )
        self._entry = struct.Struct(f"{self._order}HHI4x")
        self._unexamined = MAX_EXAMINED_BYTES

    def to_the_last_page(self) -> FormatInfo:
        width = height = None
        whole, seen = False, set[int]()
        at = self._number(self._source, 4, 4)
        while at > 0 and at not in seen and len(seen) < MAX_DIRECTORIES:
            seen.add(at)
            length = max(self._number(self._source, at, 2), 0)
            fields = self._fields(at, length)
            if not self._within(fields):
                return FormatInfo(width, height, is_complete=False)
            whole = True
            if width is None:
                width, height = (self._first(fields, tag) for tag in (WIDTH, HEIGHT))
            at = self._number(self._source, at + 2 + 12 * length, 4)
        # A next directory beyond the end of the file, or a loop, means an incomplete file.
        return FormatInfo(width, height, whole and at == 0)

    def _fields(self, at: int, length: int) -> dict[int, _Field]:
        """The entries of a directory that are used here, as far as they are in the file."""
        length = min(length, self._steps.left)
        self._steps.take(length)
        listed = self._source.read(at + 2, 12 * length)
        entries = self._entry.iter_unpack(listed[: len(listed) // 12 * 12])
        return {
            tag: _Field(kind, count, at + 10 + 12 * index)
            for index, (tag, kind, count) in enumerate(entries)
            if tag in USED
        }

    def _within(self, fields: dict[int, _Field]) -> bool:
        """Whether this directory has pixels, and all of them are in the file."""
        for places, lengths in EXTENTS:
            if places not in fields or lengths not in fields:
                continue
            starts, counts = self._values(fields[places]), self._values(fields[lengths])
            pieces = list(zip(starts, counts, strict=False))
            if not pieces:
                return False
            inside = all(start + count <= self._source.size for start, count in pieces)
            return inside and any(self._drawn(start, count) for start, count in pieces)
        return False

    def _drawn(self, start: int, count: int) -> bool:
        """Whether pixels were written: unwritten ones are all zero, which few black images are."""
        if count < MIN_PAYLOAD_BYTES:
            return True
        for block in iter_blocks(self._source, start, start + count):
            if self._unexamined <= 0 or not self._steps.take(1 + len(block) // BYTES_PER_STEP):
                return False
            self._unexamined -= len(block)
            if block.strip(b"\0"):
                return True
        return False

    def _first(self, fields: dict[int, _Field], tag: int) -> int | None:
        values = self._values(fields[tag]) if tag in fields else ()
        return values[0] if values else None

    def _values(self, field: _Field) -> tuple[int, ...]:
        word = WORDS.get(field.kind)
        if word is None or not 0 < field.count <= min(MAX_VALUES, self._steps.left):
            return ()
        self._steps.take(field.count)
        layout = struct.Struct(f"{self._order}{field.count}{word}")
        at = field.at if layout.size <= 4 else self._number(self._source, field.at, 4)
        given = self._source.read(max(at, 0), layout.size)
        return layout.unpack(given) if len(given) == layout.size else ()
