"""JPEG (ITU-T T.81): segments and scans with their coded data, up to the end marker."""

import re

from app.domain.formats.source import BLOCK_BYTES, ByteSource, FormatInfo, StepBudget, read_uint_be

# Table B.1: SOF0 to SOF15 without DHT, JPG and DAC.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
BARE = frozenset({0x01, *range(0xD0, 0xD9)})
MAX_SEGMENTS = 20_000
FIRST_SCAN_BYTES = 1 << 10
END, SCAN, FILL = 0xD9, 0xDA, 0xFF

MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]", re.DOTALL)
"""Any other byte after FF in coded data is data (00), a restart (D0 to D7) or a filler."""


def read(source: ByteSource, steps: StepBudget) -> FormatInfo:
    width = height = None
    at, drawn = 2, False
    for _ in range(MAX_SEGMENTS):
        lead, marker = read_uint_be(source, at, 1), read_uint_be(source, at + 1, 1)
        if lead != FILL or marker < 1 or not steps.take():
            break
        if marker == END:
            return FormatInfo(width, height, is_complete=drawn)
        if marker in FRAMES:
            height, width = read_uint_be(source, at + 5, 2), read_uint_be(source, at + 7, 2)
        at += _step(source, at, marker)
        if marker == SCAN:
            drawn, at = width is not None, _after_scan(source, at)
    return FormatInfo(width, height, is_complete=False)


def _step(source: ByteSource, at: int, marker: int) -> int:
    if marker == FILL:
        return 1
    if marker in BARE:
        return 2
    return 2 + max(read_uint_be(source, at + 2, 2), 2)


def _after_scan(source: ByteSource, at: int) -> int:
    """The position of the next marker, or the end of the file."""
    length = FIRST_SCAN_BYTES
    while at < source.size:
        found = MARKER.search(source.read(at, length))
        if found is not None:
            return at + found.start()
        # The last byte may be the first half of a marker.
        at, length = at + length - 1, BLOCK_BYTES
    return source.size
