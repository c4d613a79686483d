"""A request as it is written, and the head of an answer as it was read."""

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Protocol

from app.adapters.http.urls import HttpUrl

METHOD = re.compile(r"[A-Z]+", re.ASCII)
FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
"""RFC 9110, section 5.5: no line breaks, no other control characters."""
TARGET = re.compile(r"[\x21-\x7e]+")


class SentHeaders:
    """The fields of a request but Host and Content-Length. They are checked once, when they are
    first written; what is shown of them is their names, since a value may be a key."""

    __slots__ = ("_lines", "_pairs")

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self._pairs = pairs
        self._lines: str | None = None

    def __repr__(self) -> str:
        return f"SentHeaders({', '.join(name for name, _ in self._pairs)})"

    def with_field(self, name: str, value: str) -> "SentHeaders":
        return SentHeaders(*self._pairs, (name, value))

    @property
    def lines(self) -> str:
        """As they are sent. Raises `ValueError` for a line break or the like: it would make another
        header of the rest, or another request."""
        if self._lines is None:
            for name, value in self._pairs:
                if FIELD_NAME.fullmatch(name) is None or FIELD_VALUE.fullmatch(value) is None:
                    raise ValueError("a header holds what it must not")
            self._lines = "".join(f"{name}: {value}\r\n" for name, value in self._pairs)
        return self._lines


NO_HEADERS = SentHeaders()


class StreamedBody(Protocol):
    """A body that is too long to be in memory as a whole."""

    def __len__(self) -> int:
        """Its exact number of bytes."""

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """The bytes, from the beginning each time this is called."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request; a POST says its length also when it has no body."""

    method: str
    url: HttpUrl
    headers: SentHeaders = NO_HEADERS
    body: bytes | StreamedBody = b""

    def encode(self) -> bytes:
        """The bytes of the whole request; without its body if that is streamed. Raises `ValueError`
        for what would be another request on the wire."""
        if METHOD.fullmatch(self.method) is None or TARGET.fullmatch(self.url.target) is None:
            raise ValueError("the request line holds what it must not")
        length = f"Content-Length: {len(self.body)}\r\n" if self.method != "GET" else ""
        head = (
            f"{self.method} {self.url.target} HTTP/1.1\r\nHost: {self.url.origin.authority}\r\n"
            f"{self.headers.lines}{length}\r\n"
        )
        return head.encode("latin-1") + (self.body if isinstance(self.body, bytes) else b"")


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status and headers of an answer. `headers` have lower-case names; equal ones are joined with
    a comma (RFC 9110, section 5.3)."""

    status: int
    headers: Mapping[str, str]

    @property
    def content_length(self) -> int | None:
        length = self.headers.get("content-length")
        return int(length) if length is not None and length.isdecimal() else None

    @property
    def is_chunked(self) -> bool:
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def is_open_ended(self) -> bool:
        """Whether only the end of the connection ends the body (RFC 9112, section 6.3)."""
        return "content-length" not in self.headers and not self.is_chunked
