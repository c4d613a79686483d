"""BMP, ICO and the bare JPEG XL codestream: each has a small header before the pixels.

Uncompressed pixels that are all zero count as missing: a download that broke off leaves zeros.
"""

from collections.abc import Iterator

from app.domain.formats.source import (
    ByteSource,
    FormatInfo,
    StepBudget,
    has_blank_tail,
    is_blank,
    read_uint_le,
)

BMP_HEADER_BYTES = frozenset({12, 40, 52, 56, 64, 108, 124})
"""Lengths of the information header, one for each version of BMP."""
BMP_CORE_HEADER_BYTES = 12
UNCOMPRESSED = frozenset({0, 3, 6})
MAX_ICONS = 64
RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
SIZE_BITS = (9, 13, 18, 30)


def read_bmp(source: ByteSource, _steps: StepBudget) -> FormatInfo | None:
    head = read_uint_le(source, 14, 4)
    if head not in BMP_HEADER_BYTES or source.read(6, 4) != bytes(4):
        return None
    if head == BMP_CORE_HEADER_BYTES:
        width, height, planes_at = read_uint_le(source, 18, 2), read_uint_le(source, 20, 2), 22
    else:
        width, height, planes_at = _signed(source, 18), abs(_signed(source, 22)), 26
    return FormatInfo(width, height, _bmp_whole(source, width, height, planes_at))


def _bmp_whole(source: ByteSource, width: int, height: int, planes_at: int) -> bool:
    """Whether the file is as long as its header says and as its rows need."""
    depth = read_uint_le(source, planes_at + 2, 2)
    packed = (
        read_uint_le(source, 14, 4) != BMP_CORE_HEADER_BYTES
        and read_uint_le(source, 30, 4) not in UNCOMPRESSED
    )
    rows = 0 if packed else (width * depth + 31) // 32 * 4 * height
    pixels_at = read_uint_le(source, 10, 4)
    needed = max(read_uint_le(source, 2, 4), pixels_at + rows)
    return 26 < needed <= source.size and not is_blank(source, pixels_at, needed)


def _signed(source: ByteSource, at: int) -> int:
    value = read_uint_le(source, at, 4)
    return value - (1 << 32) if value >= 1 << 31 else value


def read_ico(source: ByteSource, _steps: StepBudget) -> FormatInfo | None:
    """The size of its first image; complete when all its images are in the file."""
    count = read_uint_le(source, 4, 2)
    entries = list(_icons(source, count)) if 0 < count <= MAX_ICONS else []
    if not entries or source.read(9, 1) != b"\0":
        return None
    inside = all(at > 0 and length > 0 and at + length <= source.size for length, at in entries)
    whole = inside and not any(is_blank(source, at, end) for at, end in _apart(entries))
    return FormatInfo(read_uint_le(source, 6, 1) or 256, read_uint_le(source, 7, 1) or 256, whole)


def _apart(entries: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Where the images begin and end, without those that begin inside another, so that no byte is
    examined twice."""
    looked = 0
    for at, length in sorted((at, length) for length, at in entries):
        if at >= looked:
            looked = at + length
            yield at, looked


def _icons(source: ByteSource, count: int) -> Iterator[tuple[int, int]]:
    for index in range(count):
        yield read_uint_le(source, 14 + 16 * index, 4), read_uint_le(source, 18 + 16 * index, 4)


def read_jxl(source: ByteSource, _steps: StepBudget) -> FormatInfo:
    """ISO/IEC 18181-1. Only a decoder can find its end, but the end is never all zeros."""
    width, height = _jxl_size(read_uint_le(source, 2, 12))
    cut = has_blank_tail(source, 2, source.size) or source.size < 16
    return FormatInfo(width, height, False if cut else None)


def _jxl_size(bits: int) -> tuple[int | None, int | None]:
    """The size header, least significant bits first: the height, then a ratio or the width."""
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
