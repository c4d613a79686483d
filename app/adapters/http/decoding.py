"""Content codings (RFC 9110, section 8.4.1) undone piece by piece, within bounds.

A host may encode a body that nobody asked it to encode, several times over, and a few hundred
bytes may be a gigabyte. Nothing here holds more than some pieces, whatever comes in.
"""

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE = 64 << 10
"""The longest piece that comes out, and about what one coding holds."""
MOST_CODINGS = 3
_MOUTHFUL = 16 << 10

_NOT_CODINGS = frozenset(
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
        applied = [word for word in words if word not in _NOT_CODINGS]
        if len(applied) > MOST_CODINGS or any(word not in _CODINGS for word in applied):
            raise UnknownCoding("the body came in a content coding Koi does not know")
        self._stages = [_Stage(_CODINGS[word](), max_bytes) for word in reversed(applied)]
        self._max_bytes = max_bytes
        self._given = 0

    @property
    def plain(self) -> bool:
        """Whether there is nothing to undo: what comes out is what goes in."""
        return not self._stages

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


class _Engine(Protocol):
    """One stream of one coding. `hungry`: it gives nothing more without more input."""

    def process(self, data: bytes, most: int) -> bytes: ...

    @property
    def hungry(self) -> bool: ...

    @property
    def ended(self) -> bool: ...

    @property
    def rest(self) -> bytes:
        """What came after the stream's end."""


class _Zlib:
    def __init__(self, window: int) -> None:
        self._engine = zlib.decompressobj(window)

    def process(self, data: bytes, most: int) -> bytes:
        return self._engine.decompress(self._engine.unconsumed_tail + data, most)

    @property
    def hungry(self) -> bool:
        return not self._engine.unconsumed_tail

    @property
    def ended(self) -> bool:
        return self._engine.eof

    @property
    def rest(self) -> bytes:
        return self._engine.unused_data


class _Brotli:
    rest = b""

    def __init__(self) -> None:
        self._engine: Any = brotli.Decompressor()

    def process(self, data: bytes, most: int) -> bytes:
        out: bytes = self._engine.process(data, output_buffer_limit=most)
        return out

    @property
    def hungry(self) -> bool:
        return bool(self._engine.can_accept_more_data())

    @property
    def ended(self) -> bool:
        return bool(self._engine.is_finished())


class _Zstd:
    def __init__(self) -> None:
        # RFC 9659: a decoder of web content need not support windows beyond 8 MB.
        options = {int(zstd.DecompressionParameter.window_log_max): 23}
        self._engine = zstd.ZstdDecompressor(options=options)

    def process(self, data: bytes, most: int) -> bytes:
        return self._engine.decompress(data, most)

    @property
    def hungry(self) -> bool:
        return self._engine.needs_input

    @property
    def ended(self) -> bool:
        return self._engine.eof

    @property
    def rest(self) -> bytes:
        return self._engine.unused_data


class _Coding:
    """How a stream of this coding is told by its first bytes and opened."""

    needs = 4
    many = True
    """Whether another stream may follow the end of one."""

    def open(self, head: bytes) -> _Engine | None:
        """None: these bytes are not in this coding."""
        raise NotImplementedError


class _GzipCoding(_Coding):
    needs = 2

    def open(self, head: bytes) -> _Engine | None:
        return _Zlib(zlib.MAX_WBITS | 16) if head[:2] == b"\x1f\x8b" else None


class _DeflateCoding(_Coding):
    """Meant with a zlib header (RFC 9110, section 8.4.1.2); some leave it out."""

    needs = 2
    many = False

    def open(self, head: bytes) -> _Engine | None:
        wrapped = len(head) > 1 and head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0
        return _Zlib(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


class _BrotliCoding(_Coding):
    needs = 1
    many = False

    def open(self, head: bytes) -> _Engine | None:  # noqa: ARG002 - brotli has no magic number
        return _Brotli()


class _ZstdCoding(_Coding):
    def open(self, head: bytes) -> _Engine | None:
        skippable = head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
        return _Zstd() if skippable or head[:4] == b"\x28\xb5\x2f\xfd" else None


_CODINGS: Mapping[str, Callable[[], _Coding]] = {
    "gzip": _GzipCoding,
    "x-gzip": _GzipCoding,
    "deflate": _DeflateCoding,
    "br": _BrotliCoding,
    "zstd": _ZstdCoding,
}


class _Stage:
    """One coding of a body: all its streams, or the bytes as they are when it was not applied."""

    def __init__(self, coding: _Coding, max_bytes: int) -> None:
        self._coding = coding
        self._max_bytes = max_bytes
        self._given = 0
        self._head = b""
        self._engine: _Engine | None = None
        self._streams = 0
        self._passing = False
        self._over = False

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

    def _drain(self, engine: _Engine, data: bytes) -> Iterator[bytes]:
        try:
            while True:
                out = engine.process(data, PIECE)
                data = b""
                if out:
                    yield out
                if engine.ended or (engine.hungry and len(out) < PIECE):
                    return
        except (zlib.error, brotli.error, zstd.ZstdError, EOFError, ValueError):
            raise BodyDamaged("the body is not in the content coding it announces") from None
