"""GIF (89a): a screen header, then images and extensions in sub-blocks, then the trailer."""

from app.domain.formats.source import (
    ByteSource,
    FormatInfo,
    StepBudget,
    past_zeros,
    read_uint_be,
    read_uint_le,
)

IMAGE, EXTENSION, TRAILER, STRAY = 0x2C, 0x21, 0x3B, 0x00
TABLE = 0x80


def read(source: ByteSource, steps: StepBudget) -> FormatInfo | None:
    if source.read(4, 2) not in (b"7a", b"9a"):
        return None
    width, height = read_uint_le(source, 6, 2), read_uint_le(source, 8, 2)
    if min(width, height) < 0:
        return FormatInfo(None, None, is_complete=False)
    return FormatInfo(width, height, _GifBlocks(source, steps).to_the_trailer())


class _GifBlocks:
    """One pass over the blocks, with one budget for all steps."""

    def __init__(self, source: ByteSource, steps: StepBudget) -> None:
        self._source, self._steps = source, steps

    def to_the_trailer(self) -> bool:
        at, drawn = 13 + self._table(10), False
        while at < self._source.size and self._steps.take():
            kind = read_uint_be(self._source, at, 1)
            if kind == TRAILER:
                return drawn
            if kind == IMAGE:
                at, drawn = self._past(at + 11 + self._table(at + 9)), True
            elif kind == EXTENSION:
                at = self._past(at + 2)
            elif kind == STRAY:
                at = past_zeros(self._source, at)
            else:
                return False
        return False

    def _table(self, flags_at: int) -> int:
        """The length of the colour table that these flags announce."""
        flags = max(read_uint_be(self._source, flags_at, 1), 0)
        return 3 << (flags & 7) + 1 if flags & TABLE else 0

    def _past(self, at: int) -> int:
        """The position after a chain of sub-blocks."""
        while self._steps.take():
            length = read_uint_be(self._source, at, 1)
            if length < 1:
                return at + 1
            at += 1 + length
        return self._source.size
