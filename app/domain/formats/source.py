"""Bytes that are looked at here and there, wherever they lie, and what was found in them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK = 64 << 10
MOST_STEPS = 200_000
"""A genuine picture of any size has fewer parts; one with more is made to keep us busy."""
TAIL = 64
SHORTEST_PAYLOAD = 16


class Source(Protocol):
    """Random access to a body. Reads near each other are cheap; a read beyond the end is short."""

    @property
    def size(self) -> int: ...

    def read(self, at: int, most: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class InMemory:
    """A body as a `Source`."""

    body: bytes

    @property
    def size(self) -> int:
        return len(self.body)

    def read(self, at: int, most: int) -> bytes:
        return self.body[at : at + most]


@dataclass(frozen=True, slots=True)
class Found:
    """What a format says of itself. `whole` None: it cannot tell its own end."""

    width: int | None
    height: int | None
    whole: bool | None


def big(source: Source, at: int, length: int) -> int:
    """A big-endian number; -1 beyond the end."""
    return _number(source.read(at, length), length, "big")


def little(source: Source, at: int, length: int) -> int:
    """A little-endian number; -1 beyond the end."""
    return _number(source.read(at, length), length, "little")


def blocks(source: Source, at: int, end: int) -> Iterator[bytes]:
    """The bytes of a stretch, block by block."""
    while at < end:
        block = source.read(at, min(BLOCK, end - at))
        if not block:
            return
        yield block
        at += len(block)


def blank_tail(source: Source, at: int, end: int) -> bool:
    """Whether compressed data ends in nothing but zeros: its end was never written.

    Arithmetic and prefix coders do not write dozens of zero bytes in a row.
    """
    tail = source.read(max(at, end - TAIL), min(TAIL, end - at))
    return len(tail) >= SHORTEST_PAYLOAD and not any(tail)


def blank(source: Source, at: int, end: int) -> bool:
    """Whether a stretch of some length is nothing but zeros."""
    return end - at >= SHORTEST_PAYLOAD and not any(
        block.strip(b"\0") for block in blocks(source, at, end)
    )


def _number(given: bytes, length: int, order: str) -> int:
    if len(given) < length:
        return -1
    return int.from_bytes(given, "big" if order == "big" else "little")
