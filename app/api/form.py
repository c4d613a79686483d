"""multipart/form-data (RFC 7578) as SDKs and browsers send it: texts are fields, files pictures.

The name of a file is never used, nor the type that its sender gives it.
"""

import re
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from app.api.image_inputs import is_reference_field, unsupported_image_error
from app.api.image_uploads import ImageIntake
from app.api.parameters import PRINTABLE_NAME
from app.api.request import MAX_FIELDS
from app.api.request_body import too_large_error
from app.api.request_fields import (
    ACCEPTED,
    SIDES,
    SUPPORTED,
    BooleanField,
    IntegerField,
    SideField,
    WordsField,
)
from app.domain.errors import InvalidRequest

FORM = "multipart/form-data"
MAX_PARTS = 2 * MAX_FIELDS
MAX_DELIMITERS = 2 * MAX_PARTS
MAX_PADDING = 64
PLAIN_ENCODINGS = frozenset({"", "7bit", "8bit", "binary"})
INDEX = re.compile(r"\[[0-9]{0,4}\]\Z", re.ASCII)
DIGITS = re.compile(r"[0-9]{1,9}", re.ASCII)
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
NUMBERS = frozenset(
    field.name
    for field in (*SUPPORTED, *ACCEPTED, *SIDES)
    if isinstance(field, IntegerField | SideField)
)
FLAGS = frozenset(field.name for field in SUPPORTED if isinstance(field, BooleanField))
LISTS = frozenset(field.name for field in SUPPORTED if isinstance(field, WordsField))


def is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM


NOT_APART = "its parts cannot be told apart"


class _DelimiterCheck:
    """The parser goes on byte by byte after a delimiter that ends no part, and in what pads one:
    200 times the cost of other bytes. Senders choose a boundary that is in no part."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._tail, self._seen = b"", 0

    def allow(self, piece: bytes) -> bool:
        window, size = self._tail + piece, len(self._delimiter)
        end = window.find(self._delimiter) + size
        while end >= size:
            self._seen += end > len(self._tail)  # others were seen with the piece before
            padding = window[end : end + MAX_PADDING]
            is_padded = len(padding) == MAX_PADDING and not padding.strip(b" \t")
            if is_padded or self._seen > MAX_DELIMITERS:
                return False
            end = window.find(self._delimiter, end) + size
        self._tail = window[1 - size - MAX_PADDING :]
        return True


class FormReader:
    """Reads a form piece by piece. All texts together may have `max_text_bytes`."""

    def __init__(self, request: Request, intake: ImageIntake, max_text_bytes: int) -> None:
        """Raises `InvalidRequest` for a form without a boundary."""
        self._intake, self._max_text_bytes = intake, max_text_bytes
        self._header, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._name, self._file_name = "", b""
        self._is_file = self._is_begun = self._is_ended = False
        self._text = bytearray()
        self._text_bytes = self._parts = 0
        self._fields: dict[str, Any] = {}
        content_type = request.headers.get("content-type", "")
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        self._parser = self._open_parser(boundary)
        self._delimiters = _DelimiterCheck(boundary)

    def _open_parser(self, boundary: bytes) -> MultipartParser:
        callbacks = {
            "on_part_begin": self._begin_part,
            "on_header_field": self._take_header,
            "on_header_value": self._take_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_headers,
            "on_part_data": self._take_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        try:
            if boundary:
                return MultipartParser(boundary, callbacks)  # type: ignore[arg-type]
        except FormParserError:
            pass
        raise _malformed_error("its Content-Type names no boundary")

    def feed(self, piece: bytes) -> None:
        """Takes short pieces: only after each is it looked at what it cost. Raises
        `InvalidRequest`."""
        try:
            self._parser.write(piece)
        except FormParserError:
            raise _malformed_error(NOT_APART) from None
        if not self._delimiters.allow(piece):
            raise _malformed_error(NOT_APART)

    def finish(self) -> dict[str, Any]:
        """The form as a JSON body would have it. Raises `InvalidRequest`."""
        if not self._is_ended:
            raise _malformed_error("it ends before its last boundary")
        return self._fields

    # What the parser calls

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise InvalidRequest("too_complex", f"The form has more than {MAX_PARTS} parts.")
        self._headers = {}
        self._text.clear()
        self._is_begun = False

    def _take_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _end_headers(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"").decode("latin-1")
        kind, options = parse_options_header(disposition)
        if kind != b"form-data" or b"name" not in options:
            raise _malformed_error("one of its parts has no name")
        encoding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        if encoding.decode("latin-1") not in PLAIN_ENCODINGS:
            raise _malformed_error("one of its parts is encoded")
        self._name = _decode(options[b"name"])
        self._is_file = b"filename" in options
        self._file_name = options.get(b"filename", b"")

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self._text_bytes += end - start
            if self._text_bytes > self._max_text_bytes:
                raise too_large_error()
            self._text += data[start:end]
            return
        self._begin_file()
        self._intake.add(data[start:end])

    def _begin_file(self) -> None:
        if self._is_begun:
            return
        if not is_reference_field(self._name):
            raise unsupported_image_error(self._name)
        self._is_begun = True
        self._intake.begin()

    def _end_part(self) -> None:
        if not self._is_file:
            self._add_text(self._name, _decode(bytes(self._text)))
        elif self._is_begun or self._file_name:
            # Without a name and without bytes it is a file field that nobody filled in.
            self._begin_file()
            self._add_image(self._name, self._intake.end())

    def _end(self) -> None:
        self._is_ended = True

    # Fields

    def _add_image(self, name: str, text: str) -> None:
        self._fields.setdefault(INDEX.sub("", name), []).append(text)

    def _add_text(self, written: str, text: str) -> None:
        name = INDEX.sub("", written)
        if not text:
            return
        if is_reference_field(name):
            self._add_image(name, text)
        elif name in LISTS:
            self._fields.setdefault(name, []).append(text)
        elif name in self._fields:
            shown = name if PRINTABLE_NAME.fullmatch(name) else None
            raise InvalidRequest("duplicate_key", "A field is given more than once.", param=shown)
        else:
            self._fields[name] = _read_value(name, text)


def _read_value(name: str, text: str) -> Any:
    """A text as the type that its field has in JSON; what is none stays a text, to be refused."""
    if name in NUMBERS and DIGITS.fullmatch(text):
        return int(text)
    if name in FLAGS:
        return BOOLEANS.get(text.lower(), text)
    return text


def _decode(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("invalid_encoding", "The form must be UTF-8.") from None


def _malformed_error(why: str) -> InvalidRequest:
    return InvalidRequest(
        "invalid_body", f"The body is no form that can be read: {why}. Nothing was charged."
    )
