"""Answers read from a stream of bytes, one after the other: heads, body pieces, and their ends.

No input or output: whoever reads the connection feeds it. Any division of the same bytes into
pieces gives the same answer.
"""

import httptools

from app.adapters.http.errors import BodyTruncated, MalformedResponse, ReadError
from app.adapters.http.messages import ResponseHead

MAX_HEADERS = 128
MAX_HEADER_BYTES = 8190
"""Name and value of one field."""
MAX_HEAD_BYTES = 128 << 10
"""All fields of an answer together, those of informational answers and trailers included."""
MESSAGE_BYTES = 20
"""What a head without fields counts, so that informational answers come to an end."""


class ResponseParser:
    """Reads one answer at a time; `expect` begins the next one.

    `head` is None until the final head has come; informational ones (1xx) are skipped. Body
    `pieces` are taken by the reader, all at once; `buffered` counts their bytes. `is_complete`: the
    answer has come whole. `is_reusable`: and the server keeps the connection, and sent no more.
    """

    __slots__ = (
        "_bodiless", "_field_count", "_fields", "_head_bytes", "_parser", "_unread_bytes",
        "buffered", "head", "is_complete", "is_reusable", "pieces",
    )  # fmt: skip

    def __init__(self) -> None:
        self.expect()

    def expect(self, *, bodiless: bool = False) -> None:
        """Begin to read an answer. `bodiless`: to a HEAD request, whose answer has no body."""
        self._parser: httptools.HttpResponseParser | None = None
        self.head: ResponseHead | None = None
        self.pieces: list[bytes] = []
        self.buffered = 0
        self.is_complete = False
        self.is_reusable = False
        self._bodiless = bodiless
        self._fields: dict[str, str] = {}
        self._field_count = 0
        self._head_bytes = 0
        self._unread_bytes = 0

    def feed(self, data: bytes) -> None:
        """Read more bytes. Raises `MalformedResponse`, never after the answer is complete."""
        if self.is_complete:
            self.is_reusable = False
            return
        head, buffered = self.head, self.buffered
        try:
            (self._parser or self._make_parser()).feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.is_reusable = False
            if not self.is_complete:
                raise MalformedResponse("the reply is no HTTP within our limits") from None
        if self.head is not head or self.buffered != buffered:
            self._unread_bytes = 0
            return
        # The parser keeps all of a field (a trailer's too) until it ends, and calls nobody before.
        self._unread_bytes += len(data)
        if self._unread_bytes > 2 * MAX_HEAD_BYTES:
            raise MalformedResponse("the reply's head, or a field behind its body, does not end")

    def feed_eof(self) -> None:
        """The connection has ended. Raises `ReadError` before a head, and `BodyTruncated` in a body
        that should have gone on."""
        self.is_reusable = False
        if self.is_complete:
            return
        if self.head is None:
            raise ReadError("the server closed the connection without an answer")
        if not self.head.is_open_ended:
            raise BodyTruncated("the body ended before its end")
        self.is_complete = True

    def _make_parser(self) -> httptools.HttpResponseParser:
        """Once an answer begins to come: while it is awaited, a parser would take 0.8 KB."""
        self._parser = parser = httptools.HttpResponseParser(self)
        # As lenient as browsers: an odd answer may name a paid picture. After each answer, what
        # else came on the connection only closes it.
        parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_keep_alive=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        return parser

    def close(self) -> None:
        """Let go of the parser, which holds this object too."""
        self._parser = None

    # What httptools calls

    def on_message_begin(self) -> None:
        if self.is_complete:
            self.is_reusable = False
            return
        self._fields, self._field_count = {}, 0
        self._head_bytes += MESSAGE_BYTES
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("too large a head")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.is_complete:
            return
        size = len(name) + len(value)
        self._field_count += 1
        self._head_bytes += size
        if (
            size > MAX_HEADER_BYTES
            or self._field_count > MAX_HEADERS
            or self._head_bytes > MAX_HEAD_BYTES
        ):
            raise ValueError("too large a head")
        if self.head is not None:
            return  # a trailer comes after everything was decided
        key = name.decode("latin-1").lower()
        text = value.decode(errors="surrogateescape").strip(" \t")
        before = self._fields.get(key)
        self._fields[key] = text if before is None else f"{before}, {text}"

    def on_headers_complete(self) -> None:
        if self.is_complete or self._parser is None:
            return
        status = self._parser.get_status_code()
        if status < 100 or status == 101:
            raise ValueError("no final status")
        if status >= 200:
            self.head = ResponseHead(status, self._fields)
            # The parser does not know about HEAD, so it cannot go on after such an answer.
            self.is_complete = self._bodiless

    def on_body(self, piece: bytes) -> None:
        if not self.is_complete:
            self.pieces.append(piece)
            self.buffered += len(piece)

    def on_message_complete(self) -> None:
        if self.is_complete or self.head is None or self._parser is None:
            return
        self.is_complete = True
        self.is_reusable = self._parser.should_keep_alive()
