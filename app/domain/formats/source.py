"""Random access to a body in memory or in a file, and what a format reader finds in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK_BYTES = 64 << 10
MAX_STEPS = 200_000
"""A genuine image of any size has fewer parts; one with more is an attack on our CPU."""
MAX_TOTAL_STEPS = 1_000_000
"""A sub-block of a GIF has at most 255 bytes, so a large one has many."""
WINDOW_BYTES = 4 << 10
FIRST_ZEROS = 64
TAIL_BYTES = 64
MIN_PAYLOAD_BYTES = 16


class ByteSource(Protocol):
    """Random access to a body. A read beyond the end returns fewer bytes."""

    @property
    def size(self) -> int: ...

    def read(self, at: int, most: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class MemorySource:
    """A body as a `ByteSource`."""

    body: bytes

    @property
    def size(self) -> int:
        return len(self.body)

    def read(self, at: int, most: int) -> bytes:
        return self.body[at : at + most]


class BufferedSource:
    """A `ByteSource` whose small reads are taken from one larger read of another."""

    def __init__(self, source: ByteSource) -> None:
        self._source, self.size = source, source.size
        self._begin, self._window = 0, b""

    def read(self, at: int, most: int) -> bytes:
        most = max(min(most, self.size - at), 0)
        if most >= WINDOW_BYTES:
            return self._source.read(at, most)
        if not self._begin <= at <= at + most <= self._begin + len(self._window):
            self._begin, self._window = at, self._source.read(at, WINDOW_BYTES)
        return self._window[at - self._begin : at - self._begin + most]


class StepBudget:
    """How many parts of pictures may be looked at; one for several bounds all of them together."""

    __slots__ = ("left",)

    def __init__(self, steps: int = MAX_TOTAL_STEPS) -> None:
        self.left = steps

    def take(self, steps: int = 1) -> bool:
        """Whether so many were left."""
        enough = steps <= self.left
        self.left = self.left - steps if enough else 0
        return enough


@dataclass(frozen=True, slots=True)
class FormatInfo:
    """What a format reader found. `is_complete` is None when the format does not mark its end."""

    width: int | None
    height: int | None
    is_complete: bool | None


def read_uint_be(source: ByteSource, at: int, length: int) -> int:
    """A big-endian number; -1 beyond the end."""
    given = source.read(at, length)
    return int.from_bytes(given, "big") if len(given) >= length else -1


def read_uint_le(source: ByteSource, at: int, length: int) -> int:
    """A little-endian number; -1 beyond the end."""
    given = source.read(at, length)
    return int.from_bytes(given, "little") if len(given) >= length else -1


def iter_blocks(source: ByteSource, at: int, end: int) -> Iterator[bytes]:
    """The bytes from `at` to `end`, block by block."""
    while at < end:
        block = source.read(at, min(BLOCK_BYTES, end - at))
        if not block:
            return
        yield block
        at += len(block)


def past_zeros(source: ByteSource, at: int) -> int:
    """The position of the next byte that is not zero, or the end."""
    length = FIRST_ZEROS
    while block := source.read(at, length):
        if rest := block.lstrip(b"\0"):
            return at + len(block) - len(rest)
        at, length = at + len(block), min(2 * length, BLOCK_BYTES)
    return at


def has_blank_tail(source: ByteSource, at: int, end: int) -> bool:
    """Whether compressed data ends in zeros, which means that its end was never written.

    Arithmetic and prefix coders do not write dozens of zero bytes in a row.
    """
    tail = source.read(max(at, end - TAIL_BYTES), min(TAIL_BYTES, end - at))
    return len(tail) >= MIN_PAYLOAD_BYTES and not any(tail)


def is_blank(source: ByteSource, at: int, end: int) -> bool:
    """Whether the bytes from `at` to `end` are all zero; False for a very short range."""
    return end - at >= MIN_PAYLOAD_BYTES and not any(
        block.strip(b"\0") for block in iter_blocks(source, at, end)
    )
