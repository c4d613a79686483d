"""Reference images in a request, checked as the provider's page for seedream says: one text or a
list of texts, each a URL or a data URI with the true type of its picture."""

import base64
import binascii
import hashlib
import io
import re
from collections.abc import Mapping
from typing import Any

from PIL import Image

from app.sandbox.contract import Problem, Refused

MAX_LONG_BODY_BYTES = 72_000_000
MAX_PICTURE_BYTES = 30_000_000
LEAST_SIDE = 15
MOST_STRETCHED = 16
IMAGES_TOGETHER = 15
"""Reference images and images to be made."""
FIELD = "image"
_DATA_URI = re.compile(r"data:image/([a-z]+);base64,")
_FORMATS = frozenset({"jpeg", "png", "webp", "gif", "bmp", "tiff"})


def read_references(fields: Mapping[str, Any], most: int, n: int) -> tuple[str, ...]:
    """The SHA-256 of each picture, or its URL. Raises Refused."""
    given = fields.get(FIELD)
    if given is None:
        return ()
    items = [given] if isinstance(given, str) else given
    if not isinstance(items, list) or not items:
        raise _bad("image is a text or a list of texts")
    if len(items) > most or len(items) + n > IMAGES_TOGETHER:
        raise _bad(f"at most {most} images, and {IMAGES_TOGETHER} with those to be made")
    return tuple(_read(item) for item in items)


def _read(item: object) -> str:
    if not isinstance(item, str):
        raise _bad("each image is a text")
    if re.match(r"https?://[^\s/]+", item):
        return item
    match = _DATA_URI.match(item)
    if match is None or match[1] not in _FORMATS:
        raise _bad("an image is neither a URL nor a data URI of a known type")
    try:
        body = base64.b64decode(item[match.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise _bad("an image is not base64") from None
    if len(body) > MAX_PICTURE_BYTES:
        raise _bad("an image is over 30 MB")
    _check(body, match[1])
    return hashlib.sha256(body).hexdigest()


def _check(body: bytes, said: str) -> None:
    try:
        with Image.open(io.BytesIO(body)) as picture:
            true, (width, height) = (picture.format or "").lower(), picture.size
            picture.verify()
    except (OSError, SyntaxError, ValueError):
        raise _bad("an image cannot be decoded") from None
    if true != said:
        raise _bad(f"an image is {true}, not {said}")
    if min(width, height) < LEAST_SIDE or max(width, height) > MOST_STRETCHED * min(width, height):
        raise _bad(f"an image of {width}x{height} pixels is not taken")


def _bad(message: str) -> Refused:
    return Refused(Problem(400, "invalid_value", message, param=FIELD))
