"""PNG (W3C): chunks with a length and a checksum each, from IHDR to IEND."""

import zlib

from app.domain.formats.source import MOST_STEPS, Found, Source, big, blocks

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LONGEST_CHUNK = 2**31 - 1


def read(source: Source) -> Found:
    if source.read(12, 4) != b"IHDR" or source.size < 33:
        return Found(None, None, whole=False)
    return Found(big(source, 16, 4), big(source, 20, 4), _whole(source))


def _whole(source: Source) -> bool:
    """Every critical chunk as its checksum says, some of them image data, IEND the last; what
    follows IEND is not the picture's."""
    at, drawn = len(SIGNATURE), False
    for _ in range(MOST_STEPS):
        length, kind = big(source, at, 4), source.read(at + 4, 4)
        end = at + 12 + length
        if not 0 <= length <= LONGEST_CHUNK or end > source.size:
            return False
        if not kind[0] & 0x20 and _checksum(source, at + 4, end - 4) != big(source, end - 4, 4):
            return False
        if kind == b"IEND":
            return drawn
        drawn = drawn or kind == b"IDAT"
        at = end
    return False


def _checksum(source: Source, at: int, end: int) -> int:
    value = 0
    for block in blocks(source, at, end):
        value = zlib.crc32(block, value)
    return value
