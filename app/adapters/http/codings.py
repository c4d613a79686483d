"""The content codings Koi knows: how each is recognised, opened and decoded."""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DECODE_ERRORS: tuple[type[Exception], ...] = (
    zlib.error,
    brotli.error,
    zstd.ZstdError,
    EOFError,
    ValueError,
)
"""What the libraries raise for bytes that are not in their coding."""


class StreamDecoder(Protocol):
    """One stream in one coding. `needs_input`: it gives no more output without more input."""

    def process(self, data: bytes, max_bytes: int) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def is_finished(self) -> bool: ...

    @property
    def unused_data(self) -> bytes:
        """The bytes after the stream's end."""


class _ZlibDecoder:
    def __init__(self, window: int) -> None:
        self._decompressor = zlib.decompressobj(window)

    def process(self, data: bytes, max_bytes: int) -> bytes:
        return self._decompressor.decompress(self._decompressor.unconsumed_tail + data, max_bytes)

    @property
    def needs_input(self) -> bool:
        return not self._decompressor.unconsumed_tail

    @property
    def is_finished(self) -> bool:
        return self._decompressor.eof

    @property
    def unused_data(self) -> bytes:
        return self._decompressor.unused_data


class _BrotliDecoder:
    unused_data = b""

    def __init__(self) -> None:
        self._decompressor: Any = brotli.Decompressor()

    def process(self, data: bytes, max_bytes: int) -> bytes:
        out: bytes = self._decompressor.process(data, output_buffer_limit=max_bytes)
        return out

    @property
    def needs_input(self) -> bool:
        return bool(self._decompressor.can_accept_more_data())

    @property
    def is_finished(self) -> bool:
        return bool(self._decompressor.is_finished())


class _ZstdDecoder:
    def __init__(self) -> None:
        # RFC 9659: a decoder of web content need not support windows beyond 8 MB.
        options = {int(zstd.DecompressionParameter.window_log_max): 23}
        self._decompressor = zstd.ZstdDecompressor(options=options)

    def process(self, data: bytes, max_bytes: int) -> bytes:
        return self._decompressor.decompress(data, max_bytes)

    @property
    def needs_input(self) -> bool:
        return self._decompressor.needs_input

    @property
    def is_finished(self) -> bool:
        return self._decompressor.eof

    @property
    def unused_data(self) -> bytes:
        return self._decompressor.unused_data


class ContentCoding:
    """How a stream in this coding is recognised by its first bytes and opened."""

    min_head_bytes = 4
    allows_concatenation = True
    """Whether another stream may follow after the end of one."""

    def open(self, head: bytes) -> StreamDecoder | None:
        """None: these bytes are not in this coding."""
        raise NotImplementedError


class _GzipCoding(ContentCoding):
    min_head_bytes = 2

    def open(self, head: bytes) -> StreamDecoder | None:
        return _ZlibDecoder(zlib.MAX_WBITS | 16) if head[:2] == b"\x1f\x8b" else None


class _DeflateCoding(ContentCoding):
    """RFC 9110, section 8.4.1.2 asks for a zlib header; some servers leave it out."""

    min_head_bytes = 2
    allows_concatenation = False

    def open(self, head: bytes) -> StreamDecoder | None:
        wrapped = len(head) > 1 and head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0
        return _ZlibDecoder(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


class _BrotliCoding(ContentCoding):
    min_head_bytes = 1
    allows_concatenation = False

    def open(self, head: bytes) -> StreamDecoder | None:  # noqa: ARG002 - brotli has no magic number
        return _BrotliDecoder()


class _ZstdCoding(ContentCoding):
    def open(self, head: bytes) -> StreamDecoder | None:
        skippable = head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
        return _ZstdDecoder() if skippable or head[:4] == b"\x28\xb5\x2f\xfd" else None


CODINGS: Mapping[str, Callable[[], ContentCoding]] = {
    "gzip": _GzipCoding,
    "x-gzip": _GzipCoding,
    "deflate": _DeflateCoding,
    "br": _BrotliCoding,
    "zstd": _ZstdCoding,
}
