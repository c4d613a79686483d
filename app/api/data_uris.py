"""Pictures written into JSON as data URIs (RFC 2397): taken out while the body arrives, so that
neither the text of a large one nor its bytes are ever in memory as a whole."""

import binascii
import re

import orjson

from app.api.image_uploads import ImageIntake
from app.api.request_body import MAX_PUNCTUATION, too_large_error
from app.domain.errors import InvalidRequest
from app.domain.media import ODD_BASE64_MARKS, URL_SAFE_ALPHABET

MAX_PREFIX_BYTES = 200
IMAGE_PREFIX = re.compile(
    rb"data:image\\?/[a-z0-9.+-]{1,60}(?:;[a-z0-9=.-]{0,60})?;base64,", re.IGNORECASE
)
PLAIN_TEXT = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
"""Of a JSON text: up to its closing quote, or to a backslash whose other half is still to come."""
ESCAPE = re.compile(rb"\\(?:[^u]|u[0-9a-fA-F]{4})", re.DOTALL)
"""A whole one. JSON writers escape slashes (PHP) and plus signs (.NET) in base64."""
MAX_ESCAPE_BYTES = 6
MAX_STRINGS = 2 * MAX_PUNCTUATION


class Base64Decoder:
    """Base64 that comes in pieces of any length."""

    def __init__(self) -> None:
        self._left, self._padded = b"", False

    def decode(self, digits: bytes) -> bytes:
        """The bytes so far. Raises `InvalidRequest`."""
        if any(mark in digits for mark in ODD_BASE64_MARKS):
            digits = digits.translate(URL_SAFE_ALPHABET, b" \t\r\n")
        content = digits.rstrip(b"=")
        if b"=" in content or (self._padded and content):
            raise _no_base64_error()
        self._padded = self._padded or len(content) < len(digits)
        content = self._left + content
        whole = len(content) - len(content) % 4
        self._left = content[whole:]
        return _decode(content[:whole])

    def finish(self) -> bytes:
        """The last bytes. Raises `InvalidRequest`."""
        return _decode(self._left + b"=" * (-len(self._left) % 4))


def _decode(digits: bytes) -> bytes:
    try:
        return binascii.a2b_base64(digits, strict_mode=True)
    except binascii.Error:
        raise _no_base64_error() from None


def _no_base64_error() -> InvalidRequest:
    return InvalidRequest(
        "invalid_value",
        "An image is a data URI whose base64 cannot be read. Nothing was charged.",
        param="image",
    )


def take_data_uri(text: str, intake: ImageIntake) -> str | None:
    """Put the picture of a data URI into the intake; the text that stands for it, and None for
    anything else than a data URI of an image. Raises `InvalidRequest`."""
    written = text.strip().encode("ascii", "replace")
    prefix = IMAGE_PREFIX.match(written)
    if prefix is None:
        return None
    decoder = Base64Decoder()
    intake.begin()
    intake.add(decoder.decode(written[prefix.end() :]))
    intake.add(decoder.finish())
    return intake.end()


class DataUriExtractor:
    """Reads JSON piece by piece: `rest` is the same JSON with a short text for each picture.

    `rest` may have `max_rest_bytes`. What is no JSON is left for the parser to refuse.
    """

    def __init__(self, intake: ImageIntake, max_rest_bytes: int) -> None:
        self._intake, self._max_rest_bytes = intake, max_rest_bytes
        self._state = self._outside
        self._beginning = b""
        self._strings = 0
        self._is_escaped = False
        self._pending = b""
        self._decoder = Base64Decoder()
        self.rest = bytearray()

    def feed(self, piece: bytes) -> None:
        """Raises `InvalidRequest`."""
        at = 0
        while at < len(piece):
            at = self._state(piece, at)
        if len(self.rest) > self._max_rest_bytes:
            raise too_large_error()

    def _outside(self, piece: bytes, at: int) -> int:
        quote = piece.find(b'"', at)
        end = len(piece) if quote < 0 else quote + 1
        self.rest += piece[at:end]
        if quote >= 0:
            self._strings += 1
            if self._strings > MAX_STRINGS:
                raise InvalidRequest("too_complex", "The body has too many texts.")
            self._beginning, self._state = b"", self._begin
        return end

    def _begin(self, piece: bytes, at: int) -> int:
        """The beginning of a text, until it is known whether this is a picture."""
        end = min(len(piece), at + MAX_PREFIX_BYTES - len(self._beginning))
        quote = piece.find(b'"', at, end)
        end = end if quote < 0 else quote
        before, self._beginning = len(self._beginning), self._beginning + piece[at:end]
        prefix = IMAGE_PREFIX.match(self._beginning)
        if prefix is not None:
            self._pending, self._decoder = b"", Base64Decoder()
            self._intake.begin()
            self._state = self._image
            return at + prefix.end() - before
        is_short = len(self._beginning) < MAX_PREFIX_BYTES
        if quote < 0 and is_short and b"data:image".startswith(self._beginning[:10].lower()):
            return end
        self._state = self._text
        self._text(self._beginning, 0)
        return end

    def _text(self, piece: bytes, at: int) -> int:
        """A text that is no picture."""
        end = at
        if self._is_escaped and piece:
            self._is_escaped, end = False, at + 1
        match = PLAIN_TEXT.match(piece, end)
        end = len(piece) if match is None else match.end()
        if end < len(piece):
            self._is_escaped = piece[end : end + 1] == b"\\"
            if not self._is_escaped:
                self._state = self._outside
            end += 1
        self.rest += piece[at:end]
        return end

    def _image(self, piece: bytes, at: int) -> int:
        quote = piece.find(b'"', at)
        end = len(piece) if quote < 0 else quote
        self._intake.add(self._decoder.decode(self._unescape(piece[at:end], ends=quote >= 0)))
        if quote < 0:
            return end
        self._intake.add(self._decoder.finish())
        self.rest += self._intake.end().encode() + b'"'
        self._state = self._outside
        return end + 1

    def _unescape(self, digits: bytes, *, ends: bool) -> bytes:
        """Without the escapes of JSON; one that is cut waits for its rest."""
        digits, self._pending = self._pending + digits, b""
        if b"\\" not in digits:
            return digits
        cut = digits.rfind(b"\\", max(len(digits) - MAX_ESCAPE_BYTES + 1, 0))
        if not ends and cut >= 0 and ESCAPE.match(digits, cut) is None:
            digits, self._pending = digits[:cut], digits[cut:]
        return _read_escapes(digits)


def _read_escapes(digits: bytes) -> bytes:
    """By a parser in C: a body may be escapes and nothing else. Raises `InvalidRequest`."""
    try:
        text: str = orjson.loads(b'"%b"' % digits)
        return text.encode("ascii")
    except ValueError:  # no JSON, or no ASCII
        raise _no_base64_error() from None
