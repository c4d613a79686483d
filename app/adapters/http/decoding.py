"""Content codings (RFC 9110, section 8.4.1) decoded piece by piece, within bounds.

A host may encode a body although nobody asked for it, even several times, and a few hundred bytes
may decode to a gigabyte. Never more than a few pieces are in memory.
"""

from collections.abc import Iterable, Iterator, Sequence

from app.adapters.http.codings import CODINGS, DECODE_ERRORS, ContentCoding, StreamDecoder

MAX_PIECE_BYTES = 64 << 10
"""The longest decoded piece, and about how much memory one coding uses."""
MAX_CODINGS = 3
_INPUT_CHUNK_BYTES = 16 << 10

_IGNORED_CODINGS = frozenset(
    {"", "identity", "none", "binary", "aws-chunked", "utf-8", "utf8", "7bit", "8bit", "chunked"}
)
"""Words that hosts, object stores above all, write into the header although nothing is encoded."""


class ContentCodingError(Exception):
    """The body cannot be decoded. The message quotes nothing of the body."""


class UnsupportedContentCoding(ContentCodingError):
    """A coding Koi does not know, or more of them than anyone uses."""


class DecodedBodyTooLarge(ContentCodingError):
    """The decoded body is larger than the bound."""


class CorruptEncodedBody(ContentCodingError):
    """The body is not in the announced coding, or is cut short."""


class ContentDecoder:
    """Decodes one body.

    `codings` is the value of `Content-Encoding` (several fields joined by commas), in the order
    in which they were applied; empty for none. `max_bytes` bounds the output of each coding. Bytes
    that are announced as gzip or zstd but are not pass unchanged, since some proxies decode a body
    and leave the header.

    Raises `UnsupportedContentCoding`.
    """

    def __init__(self, codings: str, *, max_bytes: int) -> None:
        self._stages = _open_stages(codings, max_bytes) if codings else ()
        self._max_bytes = max_bytes
        self._bytes_out = 0

    @property
    def is_identity(self) -> bool:
        """Whether there is nothing to decode."""
        return not self._stages

    @property
    def marks_end(self) -> bool:
        """Whether the outermost coding was really applied, so that its end is the body's end."""
        return bool(self._stages) and self._stages[0].is_applied

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoded pieces of at most `MAX_PIECE_BYTES` bytes (`data` itself when `is_identity`).
        Exhaust the iterator before the next call. Raises `DecodedBodyTooLarge`,
        `CorruptEncodedBody`."""
        pieces: Iterator[bytes] = iter((data,) if data else ())
        for stage in self._stages:
            pieces = stage.stream(pieces)
        for piece in pieces:
            self._bytes_out += len(piece)
            if self._bytes_out > self._max_bytes:
                raise DecodedBodyTooLarge("the decoded body is too large")
            yield piece

    def finish(self) -> None:
        """Call after the last `feed`. Raises `CorruptEncodedBody` when a coding is cut short."""
        if not all(stage.is_complete for stage in self._stages):
            raise CorruptEncodedBody("the encoded body ends before its end")


def _open_stages(codings: str, max_bytes: int) -> Sequence["_CodingStage"]:
    words = [word.strip().lower() for word in codings.split(",")]
    applied = [word for word in words if word not in _IGNORED_CODINGS]
    if len(applied) > MAX_CODINGS or any(word not in CODINGS for word in applied):
        raise UnsupportedContentCoding("the body came in a content coding Koi does not know")
    return [_CodingStage(CODINGS[word](), max_bytes) for word in reversed(applied)]


class _CodingStage:
    """One coding of a body: decodes all its streams, or passes the bytes if it was not applied."""

    def __init__(self, coding: ContentCoding, max_bytes: int) -> None:
        self._coding = coding
        self._max_bytes = max_bytes
        self._bytes_out = 0
        self._head = b""
        self._decoder: StreamDecoder | None = None
        self._streams = 0
        self._passing = False
        self._is_over = False

    @property
    def is_applied(self) -> bool:
        return self._streams > 0 and not self._passing

    @property
    def is_complete(self) -> bool:
        """Whether the body may end here."""
        if self._decoder is not None:
            return self._decoder.is_finished
        return self._passing or self._is_over or not self._head or self._streams > 0

    def stream(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            for at in range(0, len(piece), _INPUT_CHUNK_BYTES):
                for out in self._take(piece[at : at + _INPUT_CHUNK_BYTES]):
                    self._bytes_out += len(out)
                    if self._bytes_out > self._max_bytes:
                        raise DecodedBodyTooLarge("the decoded body is too large")
                    yield out

    def _take(self, data: bytes) -> Iterator[bytes]:
        while data and not self._is_over:
            if self._passing:
                yield data
                return
            if self._decoder is None:
                data = self._begin(data)
                continue
            yield from self._drain(self._decoder, data)
            data = b""
            if self._decoder.is_finished:
                data, self._decoder = self._decoder.unused_data, None
                self._is_over = not self._coding.allows_concatenation

    def _begin(self, data: bytes) -> bytes:
        """Open the next stream. Bytes after the last stream that begin no other are padding."""
        head = self._head + data
        if len(head) < self._coding.min_head_bytes:
            self._head = head
            return b""
        self._head = b""
        self._decoder = self._coding.open(head)
        self._passing = self._decoder is None and not self._streams
        self._is_over = self._decoder is None and not self._passing
        self._streams += 1
        return head

    def _drain(self, decoder: StreamDecoder, data: bytes) -> Iterator[bytes]:
        try:
            while True:
                out = decoder.process(data, MAX_PIECE_BYTES)
                data = b""
                if out:
                    yield out
                if decoder.is_finished or (decoder.needs_input and len(out) < MAX_PIECE_BYTES):
                    return
        except DECODE_ERRORS:
            raise CorruptEncodedBody("the body is not in the content coding it announces") from None
