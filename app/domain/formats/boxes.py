"""AVIF, HEIC and JPEG XL in boxes with a length each (ISO/IEC 14496-12, 23008-12, 18181-2)."""

from collections.abc import Iterator
from dataclasses import dataclass

from app.domain.formats.source import (
    BLOCK_BYTES,
    MAX_STEPS,
    ByteSource,
    FormatInfo,
    StepBudget,
    has_blank_tail,
    read_uint_be,
)

AVIF = frozenset({b"avif", b"avis"})
HEIC = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
PADDING = frozenset({b"free", b"skip", b"\0\0\0\0"})
JXL = frozenset({b"jxlc", b"jxlp"})
STILL = frozenset({b"meta", b"moov"})
KNOWN = PADDING | JXL | STILL | {b"ftyp", b"mdat", b"moof", b"uuid", b"jbrd", b"Exif", b"brob"}
"""Another kind that reaches beyond the file's end is no box, but data appended to the image."""
MAX_BRANDS_BYTES = 1024


@dataclass(frozen=True, slots=True)
class _Box:
    kind: bytes
    at: int
    """Where its content begins."""
    end: int
    open_end: bool
    """It reaches to the end of the file, so its end proves nothing."""


def read_brands(source: ByteSource) -> frozenset[bytes]:
    """The brands of a `ftyp` box, including the major one."""
    listed = source.read(8, max(min(read_uint_be(source, 0, 4), MAX_BRANDS_BYTES) - 8, 0))
    return frozenset(listed[at : at + 4] for at in range(0, len(listed), 4) if at != 4)


def read_avif(source: ByteSource, steps: StepBudget) -> FormatInfo | None:
    return _still(source, steps) if AVIF & read_brands(source) else None


def read_heic(source: ByteSource, steps: StepBudget) -> FormatInfo | None:
    return _still(source, steps) if HEIC & read_brands(source) else None


def read_jxl(source: ByteSource, steps: StepBudget) -> FormatInfo:
    return FormatInfo(None, None, _whole(source, steps, needed=JXL))


def _still(source: ByteSource, steps: StepBudget) -> FormatInfo:
    width, height = _extent(source) or (None, None)
    return FormatInfo(width, height, _whole(source, steps, needed=STILL))


def _whole(source: ByteSource, steps: StepBudget, needed: frozenset[bytes]) -> bool | None:
    """Whether all boxes are in the file, one of `needed` is among them, and the last data is not
    all zeros."""
    met, last = set(), None
    for box in _boxes(source, steps):
        if box.end > source.size:
            if box.kind in KNOWN:
                return False
            break
        met.add(box.kind)
        if box.kind not in PADDING:
            last = box
    if last is None or not met & needed or has_blank_tail(source, last.at, last.end):
        return False
    return None if last.open_end else True


def _boxes(source: ByteSource, steps: StepBudget) -> Iterator[_Box]:
    at = 0
    for _ in range(MAX_STEPS):
        if at + 8 > source.size or not steps.take():
            return
        length, kind, head = read_uint_be(source, at, 4), source.read(at + 4, 4), 8
        if length == 1:
            length, head = read_uint_be(source, at + 8, 8), 16
        open_end = length == 0
        end = source.size if open_end else at + length
        if end < at + head:
            return
        yield _Box(kind, at + head, end, open_end)
        at = end


def _extent(source: ByteSource) -> tuple[int, int] | None:
    """The largest size in `ispe` boxes; the others are of tiles and thumbnails."""
    head = source.read(0, BLOCK_BYTES)
    sizes, at = [], head.find(b"ispe")
    while at >= 0 and len(head) >= at + 16:
        extent = head[at + 8 : at + 16]
        sizes.append((int.from_bytes(extent[:4], "big"), int.from_bytes(extent[4:], "big")))
        at = head.find(b"ispe", at + 4)
    return max(sizes, key=lambda size: size[0] * size[1], default=None)
