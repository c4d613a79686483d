"""WebP (RFC 9649): a RIFF file with a length, in chunks with a length each."""

from app.domain.formats.source import (
    MAX_STEPS,
    ByteSource,
    FormatInfo,
    StepBudget,
    has_blank_tail,
    read_uint_le,
)

DRAWN = frozenset({b"VP8 ", b"VP8L", b"ANMF"})


def read(source: ByteSource, steps: StepBudget) -> FormatInfo | None:
    if source.read(8, 4) != b"WEBP":
        return None
    width, height = _size(source.read(12, 4), source.read(20, 10)) or (None, None)
    return FormatInfo(width, height, _whole(source, steps))


def _size(chunk: bytes, head: bytes) -> tuple[int, int] | None:
    """RFC 9649, sections 2.5 to 2.7: the lossy, the lossless and the extended layout."""
    if len(head) < 10:
        return None
    if chunk == b"VP8 " and head[3:6] == b"\x9d\x01\x2a":
        width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (6, 8))
        return width, height
    if chunk == b"VP8L" and head[0] == 0x2F:
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (4, 7))
        return width, height
    return None


def _whole(source: ByteSource, steps: StepBudget) -> bool:
    length = read_uint_le(source, 4, 4)
    end = 8 + length
    # Some programs leave out the padding byte of the last chunk.
    if length < 12 or source.size < end - (length & 1):
        return False
    at, drawn = 12, False
    for _ in range(MAX_STEPS):
        if at + 8 > end:
            return drawn
        kind, size = source.read(at, 4), read_uint_le(source, at + 4, 4)
        if not steps.take() or size < 0 or at + 8 + size > source.size:
            return False
        if kind in DRAWN:
            if has_blank_tail(source, at + 8, at + 8 + size):
                return False
            drawn = True
        at += 8 + size + (size & 1)
    return False
