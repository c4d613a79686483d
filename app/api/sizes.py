"""The size of a request, by whichever of its fields it says it: size, aspect_ratio, resolution."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeVar

from app.api import parameters
from app.domain.catalog import Model
from app.domain.errors import InvalidRequest
from app.domain.sizes import (
    MAX_SIDE_PX,
    SizePreference,
    closest_size,
    normalize_size,
    parse_pixels,
    parse_resolution,
    ratio,
)

AUTO = "auto"
RATIO_FIELDS = ("aspect_ratio", "aspectRatio")
SIZE_HINT_FIELDS = frozenset({*RATIO_FIELDS, "resolution"})
"""Fields that say nothing beyond the size they lead to."""

T = TypeVar("T")


def parse_exact_size(body: Mapping[str, Any], model: Model) -> str:
    """The size a strict gateway takes: an offered one, or `auto`, which leaves it to us."""
    return (
        parameters.parse_choice(body, "size", model.sizes, _auto_aliases(model))
        or model.default_size
    )


def resolve_nearest_size(body: Mapping[str, Any], model: Model) -> str:
    """The offered size that is meant, or the nearest to it.

    A size wins over aspect_ratio and resolution, these over width and height. Raises
    `InvalidRequest` for a wrong type and for what is no size at all.
    """
    wishes = _parse_size_hint(body)
    written = parameters.parse_string(body, "size", parameters.MAX_WORD_CHARS)
    if written is None or normalize_size(written) in ("", AUTO):
        if wishes is not None:
            return closest_size(model.sizes, wishes, model.default_size)
        return _auto_aliases(model)[AUTO] if written else model.default_size
    named = _find_offered_size(written, model)
    if named is not None:
        return named
    size = _parse_size_word(written) or parse_pixels(written)
    if size is None:
        raise InvalidRequest(
            "invalid_value",
            f"size must be a supported value ({', '.join(model.sizes)}), auto, or another "
            "WIDTHxHEIGHT in pixels, which is taken to the nearest of them.",
            param="size",
        )
    return closest_size(model.sizes, size, model.default_size)


def _parse_size_hint(body: Mapping[str, Any]) -> SizePreference | None:
    """What the fields beside `size` ask for, or None."""
    shape = next((found for name in RATIO_FIELDS if (found := _parse_ratio(body, name))), None)
    room = _parse_hint(body, "resolution", parse_resolution, "1k, 2k, 720p or 1024x1024")
    if shape is None and room is None:
        return _parse_width_and_height(body)
    if shape is None:
        return room
    return SizePreference(shape, None if room is None else room.area)


def _parse_ratio(body: Mapping[str, Any], name: str) -> Fraction | None:
    return _parse_hint(body, name, ratio, "16:9, 1:1 or 3:4")


def _parse_hint(
    body: Mapping[str, Any], name: str, reads: Callable[[str], T | None], such_as: str
) -> T | None:
    written = parameters.parse_string(body, name, parameters.MAX_WORD_CHARS)
    if written is None or normalize_size(written) in ("", AUTO):
        return None
    found = reads(written)
    if found is None:
        raise InvalidRequest(
            "invalid_value", f"{name} must be auto or such as {such_as}.", param=name
        )
    return found


def _parse_width_and_height(body: Mapping[str, Any]) -> SizePreference | None:
    """Width and height, together and in pixels; anything else of these names is ignored."""
    sides = [body.get(name) for name in ("width", "height")]
    if not all(isinstance(side, int) and 0 < side <= MAX_SIDE_PX for side in sides):
        return None
    return parse_pixels(f"{sides[0]}x{sides[1]}")


def _find_offered_size(written: str, model: Model) -> str | None:
    """An offered size or one of its aliases, however it is spelt."""
    if written in model.sizes:
        return written
    known = {normalize_size(alias): size for alias, size in model.size_aliases.items()}
    known |= {normalize_size(size): size for size in model.sizes}
    return known.get(normalize_size(written))


def _parse_size_word(written: str) -> SizePreference | None:
    """Ratios and resolutions that clients put into `size`: `16:9`, `2k`."""
    shape = ratio(written) if ":" in written else None
    return SizePreference(shape) if shape is not None else parse_resolution(written)


def _auto_aliases(model: Model) -> Mapping[str, str]:
    return {AUTO: AUTO if AUTO in model.sizes else model.size_aliases.get(AUTO, model.default_size)}
