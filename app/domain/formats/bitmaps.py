"""BMP, ICO and the bare JPEG XL codestream: small heads in front of everything.

Pixels that are not compressed and all zero are taken for pixels that never came.
"""

from collections.abc import Iterator

from app.domain.formats.source import Found, Source, blank, blank_tail, little

HEADS = frozenset({12, 40, 52, 56, 64, 108, 124})
"""Lengths of the information header, one for each version of BMP."""
CORE = 12
UNCOMPRESSED = frozenset({0, 3, 6})
MOST_ICONS = 64
RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
SIZE_BITS = (9, 13, 18, 30)


def bmp(source: Source) -> Found | None:
    head = little(source, 14, 4)
    if head not in HEADS or source.read(6, 4) != bytes(4):
        return None
    if head == CORE:
        width, height, planes_at = little(source, 18, 2), little(source, 20, 2), 22
    else:
        width, height, planes_at = _signed(source, 18), abs(_signed(source, 22)), 26
    return Found(width, height, _bmp_whole(source, width, height, planes_at))


def _bmp_whole(source: Source, width: int, height: int, planes_at: int) -> bool:
    """As long as its head says, and as its rows need."""
    depth = little(source, planes_at + 2, 2)
    packed = little(source, 14, 4) != CORE and little(source, 30, 4) not in UNCOMPRESSED
    rows = 0 if packed else (width * depth + 31) // 32 * 4 * height
    pixels_at = little(source, 10, 4)
    needed = max(little(source, 2, 4), pixels_at + rows)
    return 26 < needed <= source.size and not blank(source, pixels_at, needed)


def _signed(source: Source, at: int) -> int:
    value = little(source, at, 4)
    return value - (1 << 32) if value >= 1 << 31 else value


def ico(source: Source) -> Found | None:
    """The first of its pictures; whole when all of them lie in the file."""
    count = little(source, 4, 2)
    entries = list(_icons(source, count)) if 0 < count <= MOST_ICONS else []
    if not entries or source.read(9, 1) != b"\0":
        return None
    inside = all(at > 0 and length > 0 and at + length <= source.size for length, at in entries)
    whole = inside and not any(blank(source, at, end) for at, end in _apart(entries))
    return Found(little(source, 6, 1) or 256, little(source, 7, 1) or 256, whole)


def _apart(entries: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Where the pictures begin and end, without those that begin inside another: so that no byte
    is looked at twice."""
    looked = 0
    for at, length in sorted((at, length) for length, at in entries):
        if at >= looked:
            looked = at + length
            yield at, looked


def _icons(source: Source, count: int) -> Iterator[tuple[int, int]]:
    for index in range(count):
        yield little(source, 14 + 16 * index, 4), little(source, 18 + 16 * index, 4)


def jxl(source: Source) -> Found:
    """ISO/IEC 18181-1: its end is known only to a decoder, but its end is never blank."""
    width, height = _jxl_size(little(source, 2, 12))
    cut = blank_tail(source, 2, source.size) or source.size < 16
    return Found(width, height, False if cut else None)


def _jxl_size(bits: int) -> tuple[int | None, int | None]:
    """The size header: height first, then a ratio or the width; least significant bits first."""
    if bits < 0:
        return None, None
    small, bits = bits & 1, bits >> 1
    height, bits = _jxl_number(bits, bool(small))
    ratio, bits = bits & 7, bits >> 3
    if ratio:
        across, down = RATIOS[ratio - 1]
        return height * across // down, height
    width, _ = _jxl_number(bits, bool(small))
    return width, height


def _jxl_number(bits: int, small: bool) -> tuple[int, int]:
    if small:
        return 8 * ((bits & 31) + 1), bits >> 5
    length, bits = SIZE_BITS[bits & 3], bits >> 2
    return (bits & (1 << length) - 1) + 1, bits >> length
