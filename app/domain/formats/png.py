"""PNG (W3C): chunks from IHDR to IEND, each with a length and a checksum."""

import zlib

from app.domain.formats.source import (
    MAX_STEPS,
    ByteSource,
    FormatInfo,
    StepBudget,
    iter_blocks,
    read_uint_be,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNK_BYTES = 2**31 - 1


def read(source: ByteSource, steps: StepBudget) -> FormatInfo:
    if source.read(12, 4) != b"IHDR" or source.size < 33:
        return FormatInfo(None, None, is_complete=False)
    width, height = read_uint_be(source, 16, 4), read_uint_be(source, 20, 4)
    return FormatInfo(width, height, _whole(source, steps))


def _whole(source: ByteSource, steps: StepBudget) -> bool:
    """Whether the checksum of every critical chunk is right, some are image data, and IEND is
    reached. What follows IEND does not belong to the image."""
    at, size, drawn = len(SIGNATURE), source.size, False
    for _ in range(MAX_STEPS):
        head = source.read(at, 8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        end = at + 12 + length
        if not steps.take() or len(head) < 8 or length > MAX_CHUNK_BYTES or end > size:
            return False
        if not kind[0] & 0x20 and _checksum(source, at + 4, end - 4) != read_uint_be(
            source, end - 4, 4
        ):
            return False
        if kind == b"IEND":
            return drawn
        drawn = drawn or kind == b"IDAT"
        at = end
    return False


def _checksum(source: ByteSource, at: int, end: int) -> int:
    value = 0
    for block in iter_blocks(source, at, end):
        value = zlib.crc32(block, value)
    return value
