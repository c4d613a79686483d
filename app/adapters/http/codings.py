"""The content codings Koi knows: how a stream of each is told, opened and read."""

import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DAMAGE: tuple[type[Exception], ...] = (
    zlib.error,
    brotli.error,
    zstd.ZstdError,
    EOFError,
    ValueError,
)
"""What an engine raises when its bytes make no sense."""


class Engine(Protocol):
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


class Coding:
    """How a stream of this coding is told by its first bytes and opened."""

    needs = 4
    many = True
    """Whether another stream may follow the end of one."""

    def open(self, head: bytes) -> Engine | None:
        """None: these bytes are not in this coding."""
        raise NotImplementedError


class _GzipCoding(Coding):
    needs = 2

    def open(self, head: bytes) -> Engine | None:
        return _Zlib(zlib.MAX_WBITS | 16) if head[:2] == b"\x1f\x8b" else None


class _DeflateCoding(Coding):
    """Meant with a zlib header (RFC 9110, section 8.4.1.2); some leave it out."""

    needs = 2
    many = False

    def open(self, head: bytes) -> Engine | None:
        wrapped = len(head) > 1 and head[0] & 15 == 8 and (head[0] << 8 | head[1]) % 31 == 0
        return _Zlib(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)


class _BrotliCoding(Coding):
    needs = 1
    many = False

    def open(self, head: bytes) -> Engine | None:  # noqa: ARG002 - brotli has no magic number
        return _Brotli()


class _ZstdCoding(Coding):
    def open(self, head: bytes) -> Engine | None:
        skippable = head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
        return _Zstd() if skippable or head[:4] == b"\x28\xb5\x2f\xfd" else None


CODINGS: Mapping[str, Callable[[], Coding]] = {
    "gzip": _GzipCoding,
    "x-gzip": _GzipCoding,
    "deflate": _DeflateCoding,
    "br": _BrotliCoding,
    "zstd": _ZstdCoding,
}
