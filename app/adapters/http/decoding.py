"""Content codings (RFC 9110, section 8.4.1) undone piece by piece, within bounds.

A host may encode a body that nobody asked it to encode, several times over, and a few hundred
bytes may be a gigabyte. Nothing here holds more than some pieces, whatever comes in.
"""

from collections.abc import Iterable, Iterator

from app.adapters.http.codings import CODINGS, DAMAGE, Coding, Engine

PIECE = 64 << 10
"""The longest piece that comes out, and about what one coding holds."""
MOSTCODINGS = 3
_MOUTHFUL = 16 << 10

_NOTCODINGS = frozenset(
    {"", "identity", "none", "binary", "aws-chunked", "utf-8", "utf8", "7bit", "8bit", "chunked"}
)
"""Words that hosts put into the header although they encode nothing (object stores above all)."""


class ContentCodingError(Exception):
    """The body cannot be decoded. The message quotes nothing of what came."""


class UnknownCoding(ContentCodingError):
    """A coding Koi does not know, or more of them than anyone uses."""


class DecodedTooLarge(ContentCodingError):
    """What comes out is larger than the bound."""


class BodyDamaged(ContentCodingError):
    """What came is not in the coding that was announced, or ends before its end."""


class Decoder:
    """Undoes the codings of one body.

    `codings` is the value of `Content-Encoding` (several fields joined by commas), in the order
    in which they were applied; empty for none. `max_bytes` bounds what comes out, and what comes
    out of every coding on the way. Bytes that are announced as gzip or zstd and are not pass as
    they are: intermediaries are known to decode a body and leave the header.

    Raises `UnknownCoding`.
    """

    def __init__(self, codings: str, *, max_bytes: int) -> None:
        words = [word.strip().lower() for word in codings.split(",")]
        applied = [word for word in words if word not in _NOTCODINGS]
        if len(applied) > MOSTCODINGS or any(word not in CODINGS for word in applied):
            raise UnknownCoding("the body came in a content coding Koi does not know")
        self._stages = [_Stage(CODINGS[word](), max_bytes) for word in reversed(applied)]
        self._max_bytes = max_bytes
        self._given = 0

    @property
    def plain(self) -> bool:
        """Whether there is nothing to undo: what comes out is what goes in."""
        return not self._stages

    @property
    def tells_end(self) -> bool:
        """Whether the outermost coding really was applied, so that its end is the body's."""
        return bool(self._stages) and self._stages[0].applied

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Pieces of at most `PIECE` bytes (of what came, when `plain`), to be taken to the end
        before more is fed. Raises `DecodedTooLarge`, `BodyDamaged`."""
        pieces: Iterator[bytes] = iter((data,) if data else ())
        for stage in self._stages:
            pieces = stage.stream(pieces)
        for piece in pieces:
            self._given += len(piece)
            if self._given > self._max_bytes:
                raise DecodedTooLarge("the decoded body is too large")
            yield piece

    def finish(self) -> None:
        """No more comes. Raises `BodyDamaged` when some coding has not reached its end."""
        if not all(stage.whole for stage in self._stages):
            raise BodyDamaged("the encoded body ends before its end")


def decoded(body: bytes, codings: str, *, max_bytes: int) -> bytes:
    """A whole body at once; raises `ContentCodingError`."""
    decoder = Decoder(codings, max_bytes=max_bytes)
    whole = b"".join(decoder.feed(body))
    decoder.finish()
    return whole


class _Stage:
    """One coding of a body: all its streams, or the bytes as they are when it was not applied."""

    def __init__(self, coding: Coding, max_bytes: int) -> None:
        self._coding = coding
        self._max_bytes = max_bytes
        self._given = 0
        self._head = b""
        self._engine: Engine | None = None
        self._streams = 0
        self._passing = False
        self._over = False

    @property
    def applied(self) -> bool:
        return self._streams > 0 and not self._passing

    @property
    def whole(self) -> bool:
        """Whether the end may come now."""
        if self._engine is not None:
            return self._engine.ended
        return self._passing or self._over or not self._head or self._streams > 0

    def stream(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            for at in range(0, len(piece), _MOUTHFUL):
                for out in self._take(piece[at : at + _MOUTHFUL]):
                    self._given += len(out)
                    if self._given > self._max_bytes:
                        raise DecodedTooLarge("the decoded body is too large")
                    yield out

    def _take(self, data: bytes) -> Iterator[bytes]:
        while data and not self._over:
            if self._passing:
                yield data
                return
            if self._engine is None:
                data = self._begin(data)
                continue
            yield from self._drain(self._engine, data)
            data = b""
            if self._engine.ended:
                data, self._engine = self._engine.rest, None
                self._over = not self._coding.many

    def _begin(self, data: bytes) -> bytes:
        """Open the next stream; what follows the last one and is none is only padding."""
        head = self._head + data
        if len(head) < self._coding.needs:
            self._head = head
            return b""
        self._head = b""
        self._engine = self._coding.open(head)
        self._passing = self._engine is None and not self._streams
        self._over = self._engine is None and not self._passing
        self._streams += 1
        return head

    def _drain(self, engine: Engine, data: bytes) -> Iterator[bytes]:
        try:
            while True:
                out = engine.process(data, PIECE)
                data = b""
                if out:
                    yield out
                if engine.ended or (engine.hungry and len(out) < PIECE):
                    return
        except DAMAGE:
            raise BodyDamaged("the body is not in the content coding it announces") from None
