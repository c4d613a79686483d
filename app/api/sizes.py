"""The size of a request, by whichever of its fields it says it: size, aspect_ratio, resolution."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, TypeVar

from app.api import fields
from app.domain.catalog import Model
from app.domain.errors import InvalidRequest
from app.domain.sizes import MOST_SIDE, Wish, nearest, pixels, plain, ratio, resolution

AUTO = "auto"
RATIO_FIELDS = ("aspect_ratio", "aspectRatio")
SHAPE_FIELDS = frozenset({*RATIO_FIELDS, "resolution"})
"""Fields that say nothing beyond the size they lead to."""

T = TypeVar("T")


def exact_size(body: Mapping[str, Any], model: Model) -> str:
    """The size a strict gateway takes: an offered one, or `auto`, which leaves it to us."""
    return fields.word(body, "size", model.sizes, _auto(model)) or model.default_size


def nearest_size(body: Mapping[str, Any], model: Model) -> str:
    """The offered size that is meant, or the nearest to it.

    A size wins over aspect_ratio and resolution, these over width and height. Raises
    `InvalidRequest` for a wrong type and for what is no size at all.
    """
    wishes = _wish(body)
    written = fields.text(body, "size", fields.LONGEST_WORD)
    if written is None or plain(written) in ("", AUTO):
        if wishes is not None:
            return nearest(model.sizes, wishes, model.default_size)
        return _auto(model)[AUTO] if written else model.default_size
    named = _named(written, model)
    if named is not None:
        return named
    size = _shape_by_name(written) or pixels(written)
    if size is None:
        raise InvalidRequest(
            "invalid_value",
            f"size must be a supported value ({', '.join(model.sizes)}), auto, or another "
            "WIDTHxHEIGHT in pixels, which is taken to the nearest of them.",
            param="size",
        )
    return nearest(model.sizes, size, model.default_size)


def _wish(body: Mapping[str, Any]) -> Wish | None:
    """What the fields beside `size` ask for, or None."""
    shape = next((found for name in RATIO_FIELDS if (found := _ratio(body, name))), None)
    room = _read(body, "resolution", resolution, "1k, 2k, 720p or 1024x1024")
    if shape is None and room is None:
        return _sides(body)
    if shape is None:
        return room
    return Wish(shape, None if room is None else room.area)


def _ratio(body: Mapping[str, Any], name: str) -> Fraction | None:
    return _read(body, name, ratio, "16:9, 1:1 or 3:4")


def _read(
    body: Mapping[str, Any], name: str, reads: Callable[[str], T | None], such_as: str
) -> T | None:
    written = fields.text(body, name, fields.LONGEST_WORD)
    if written is None or plain(written) in ("", AUTO):
        return None
    found = reads(written)
    if found is None:
        raise InvalidRequest(
            "invalid_value", f"{name} must be auto or such as {such_as}.", param=name
        )
    return found


def _sides(body: Mapping[str, Any]) -> Wish | None:
    """Width and height, together and in pixels; anything else of these names is ignored."""
    sides = [body.get(name) for name in ("width", "height")]
    if not all(isinstance(side, int) and 0 < side <= MOST_SIDE for side in sides):
        return None
    return pixels(f"{sides[0]}x{sides[1]}")


def _named(written: str, model: Model) -> str | None:
    """An offered size or one of its aliases, however it is spelt."""
    if written in model.sizes:
        return written
    known = {plain(alias): size for alias, size in model.size_aliases.items()}
    known |= {plain(size): size for size in model.sizes}
    return known.get(plain(written))


def _shape_by_name(written: str) -> Wish | None:
    """Ratios and resolutions that clients put into `size`: `16:9`, `2k`."""
    shape = ratio(written) if ":" in written else None
    return Wish(shape) if shape is not None else resolution(written)


def _auto(model: Model) -> Mapping[str, str]:
    return {AUTO: AUTO if AUTO in model.sizes else model.size_aliases.get(AUTO, model.default_size)}
