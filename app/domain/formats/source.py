"""Random access to a body in memory or in a file, and what a format reader finds in it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK_BYTES = 64 << 10
MAX_STEPS = 200_000
"""A genuine image of any size has fewer parts; one with more is an attack on our CPU."""
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
