"""The size of a picture, from whichever field of a request names it: size, aspect_ratio,
resolution, or width and height."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeVar

from app.api import parameters
from app.api.request_fields import RATIOS, RESOLUTION, SIDES, SIZE, StringField
from app.domain.catalog import Model
from app.domain.errors import InvalidRequest
from app.domain.sizes import (
    MAX_SIDE_PX,
    MIN_SIDE_PX,
    SizePreference,
    closest_size,
    normalize_size,
    parse_pixels,
    parse_resolution,
    ratio,
)

AUTO = "auto"

T = TypeVar("T")


def parse_exact_size(body: Mapping[str, Any], model: Model) -> str:
    """The size a strict gateway takes: one the model offers, or `auto`, which means its default."""
    return (
        parameters.parse_choice(body, SIZE.name, model.sizes, _auto_aliases(model))
        or model.default_size
    )


def resolve_nearest_size(body: Mapping[str, Any], model: Model) -> str:
    """The offered size that the request names, or the nearest to it.

    A size wins over aspect_ratio and resolution, these over width and height. Raises
    `InvalidRequest` for a wrong type and for what is no size at all.
    """
    hint = _parse_size_hint(body)
    written = SIZE.parse(body)
    if written is None or normalize_size(written) in ("", AUTO):
        if hint is not None:
            return closest_size(model.sizes, hint, model.default_size)
        return _auto_aliases(model)[AUTO] if written else model.default_size
    named = _find_offered_size(written, model)
    if named is not None:
        return named
    size = _parse_size_word(written) or parse_pixels(written)
    if size is None:
        raise InvalidRequest(
            "invalid_value",
            f"size must be a supported value ({', '.join(model.sizes)}), auto, or another "
            f"WIDTHxHEIGHT with sides of {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels, which is taken to "
            "the nearest of them.",
            param="size",
        )
    return closest_size(model.sizes, size, model.default_size)


def _parse_size_hint(body: Mapping[str, Any]) -> SizePreference | None:
    """What the fields beside `size` ask for, or None."""
    shape = next((found for field in RATIOS if (found := _parse_ratio(body, field))), None)
    area = _parse_hint(body, RESOLUTION, parse_resolution, "1k, 2k, 720p or 1024x1024")
    if shape is None and area is None:
        return _parse_width_and_height(body)
    if shape is None:
        return area
    return SizePreference(shape, None if area is None else area.area)


def _parse_ratio(body: Mapping[str, Any], field: StringField) -> Fraction | None:
    return _parse_hint(body, field, ratio, "16:9, 1:1 or 3:4")


def _parse_hint(
    body: Mapping[str, Any], field: StringField, parse: Callable[[str], T | None], such_as: str
) -> T | None:
    written = field.parse(body)
    if written is None or normalize_size(written) in ("", AUTO):
        return None
    found = parse(written)
    if found is None:
        raise InvalidRequest(
            "invalid_value", f"{field.name} must be auto or such as {such_as}.", param=field.name
        )
    return found


def _parse_width_and_height(body: Mapping[str, Any]) -> SizePreference | None:
    """Width and height in pixels, which count only together."""
    width, height = (side.parse(body) for side in SIDES)
    return None if width is None or height is None else parse_pixels(f"{width}x{height}")


def _find_offered_size(written: str, model: Model) -> str | None:
    """An offered size or one of its aliases, however it is spelt."""
    if written in model.sizes:
        return written
    known = {normalize_size(alias): size for alias, size in model.size_aliases.items()}
    known |= {normalize_size(size): size for size in model.sizes}
    return known.get(normalize_size(written))


def _parse_size_word(written: str) -> SizePreference | None:
    """A ratio or a resolution that a client put into `size`: `16:9`, `2k`."""
    shape = ratio(written) if ":" in written else None
    return SizePreference(shape) if shape is not None else parse_resolution(written)


def _auto_aliases(model: Model) -> Mapping[str, str]:
    return {AUTO: AUTO if AUTO in model.sizes else model.size_aliases.get(AUTO, model.default_size)}
