"""Sizes as callers write them, and the offered size that is nearest.

Nearest means: first in shape (the quotient of the two ratios), then in the number of pixels (the
quotient of the two areas), then the first in the catalog. Fractions give the same result on every
machine.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

MIN_SIDE_PX = 64
MAX_SIDE_PX = 16_384

PIXELS = re.compile(r"([0-9]{1,5})[x*×✕]([0-9]{1,5})", re.ASCII)  # noqa: RUF001 - as people type it
RATIO = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,4})?)[:/x]([0-9]{1,4}(?:\.[0-9]{1,4})?)", re.ASCII)
THOUSANDS = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,2})?)k", re.ASCII)
LINES = re.compile(r"([0-9]{3,4})p", re.ASCII)
SQUARE = re.compile(r"([0-9]{2,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class SizePreference:
    """The shape and size that a caller asks for; None where it does not say.

    `ratio` is width by height, `area` counts pixels.
    """

    ratio: Fraction | None = None
    area: Fraction | None = None


def normalize_size(text: str) -> str:
    """One spelling of a size: no blanks, lower case, `x` between the sides."""
    squeezed = "".join(text.split()).lower()
    match = PIXELS.fullmatch(squeezed)
    return squeezed if match is None else f"{match[1]}x{match[2]}"


def parse_pixels(text: str) -> SizePreference | None:
    """`1280x720`, `1024*1024`, `1024 x 1024`; None for anything else and for impossible sides."""
    match = PIXELS.fullmatch(normalize_size(text))
    if match is None:
        return None
    width, height = int(match[1]), int(match[2])
    if not all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in (width, height)):
        return None
    return SizePreference(Fraction(width, height), Fraction(width * height))


def ratio(text: str) -> Fraction | None:
    """`16:9`, `3/4`, `2.35:1`, or a size; None for anything else."""
    match = RATIO.fullmatch(normalize_size(text))
    if match is None:
        sized = parse_pixels(text)
        return None if sized is None else sized.ratio
    across, down = Fraction(match[1]), Fraction(match[2])
    return across / down if across and down else None


def parse_resolution(text: str) -> SizePreference | None:
    """`1k` and `1024` (a square's side), `720p` (lines of a 16:9 picture), or a size.

    Only a size says something about the shape.
    """
    word = normalize_size(text)
    if match := THOUSANDS.fullmatch(word):
        return _area(Fraction(match[1]) * 1024)
    if match := SQUARE.fullmatch(word):
        return _area(Fraction(match[1]))
    if match := LINES.fullmatch(word):
        lines = Fraction(match[1])
        return SizePreference(area=lines * lines * Fraction(16, 9))
    return parse_pixels(text)


def closest_size(offered: Sequence[str], preference: SizePreference, default: str) -> str:
    """The offered size (`WxH`) that is nearest; names among them are not candidates.

    The default size decides what the preference does not say.
    """
    measured = tuple(_measured(offered))
    if not measured:
        return default
    usual = parse_pixels(default) or measured[0][1]
    shape, area = preference.ratio or usual.ratio, preference.area or usual.area
    return min(
        (_apart(size.ratio, shape), _apart(size.area, area), place, name)
        for place, (name, size) in enumerate(measured)
    )[-1]


def _measured(offered: Sequence[str]) -> Iterator[tuple[str, SizePreference]]:
    for name in offered:
        size = parse_pixels(name)
        if size is not None:
            yield name, size


def _area(side: Fraction) -> SizePreference | None:
    return SizePreference(area=side * side) if MIN_SIDE_PX <= side <= MAX_SIDE_PX else None


def _apart(one: Fraction | None, other: Fraction | None) -> Fraction:
    if not one or not other:
        return Fraction(1)
    return max(one / other, other / one)
