"""One connection to a server: a request is written, its answer is read as fast as it is taken."""

import asyncio
import select
import time
from collections.abc import Callable
from contextlib import aclosing
from typing import cast

from app.adapters.http.errors import (
    BodyTruncated,
    HttpError,
    MalformedResponse,
    ReadError,
    ReadTimeout,
    WriteError,
)
from app.adapters.http.messages import ResponseHead, StreamedBody
from app.adapters.http.response_parser import ResponseParser

READ_BUFFER_BYTES = 128 << 10
"""When so much of an answer waits to be taken, no more is read from the socket."""


class HttpConnection(asyncio.Protocol):
    """Carries one exchange at a time. `on_close` is called once, when it is closed."""

    __slots__ = (
        "_failure", "_fileno", "_is_busy", "_is_cut", "_is_full", "_is_paused", "_loop",
        "_on_close", "_parser", "_transport", "_waiter", "idle_since",
    )  # fmt: skip

    def __init__(self, on_close: Callable[["HttpConnection"], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_close = on_close
        self._parser = ResponseParser()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._failure: HttpError | None = None
        self._is_busy = False
        self._is_paused = False
        self._is_full = False
        self._is_cut = False
        self.idle_since = 0.0
        """When the latest answer ended, in monotonic seconds."""

    # For whoever has the connection

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_silent(self) -> bool:
        """Whether a kept connection is open and the server sent nothing since its latest answer.

        What it sent (a late 408, a second answer) would be taken for the answer to the next
        request: another caller's image, or a refusal of a POST that the server then accepts. Data
        that the event loop has not read yet is still in the socket.
        """
        if not self.is_open:
            return False
        # Made here each time: a waiting connection needs none, and each would keep 0.4 KB.
        unread_data = select.poll()
        unread_data.register(self._fileno, select.POLLIN)
        return not unread_data.poll(0)

    def begin(self, request: bytes, *, bodiless: bool = False) -> None:
        """Write a request; `bodiless` as for `ResponseParser.expect`."""
        if bodiless:
            self._parser.expect(bodiless=True)
        self._is_busy, self._is_cut = True, False
        if self._transport is not None:
            self._transport.write(request)

    async def send_body(self, body: StreamedBody) -> None:
        """Write a body as fast as the server takes it; no more of it once the server has answered.
        Raises `HttpError`, and what the body raises."""
        self._is_cut = True
        async with aclosing(body.pieces()) as pieces:
            async for piece in pieces:
                if self._parser.head is not None:
                    return
                if self._failure is not None:
                    raise self._failure
                if self._transport is not None:
                    self._transport.write(piece)
                while self._is_full and self._parser.head is None:
                    await self._wait(None)
        self._is_cut = False

    async def read_head(self, within_s: float | None) -> ResponseHead:
        """The final head. Raises `HttpError`; `ReadTimeout` when nothing came for `within_s`."""
        while self._parser.head is None:
            await self._wait(within_s)
        return self._parser.head

    async def read_piece(self, within_s: float | None) -> bytes:
        """The next bytes of the body, empty at its end. Raises as `read_head` does."""
        parser = self._parser
        while not parser.pieces:
            if parser.is_complete:
                return b""
            await self._wait(within_s)
        piece = b"".join(parser.pieces)
        parser.pieces.clear()
        parser.buffered = 0
        if self._is_paused:
            self._is_paused = False
            if self.is_open and self._transport is not None:
                self._transport.resume_reading()
        return piece

    def end(self) -> bool:
        """End the exchange. Whether the connection may be kept; if not, it is closed."""
        self._is_busy = False
        transport = self._transport
        if transport is None or not self._parser.is_reusable or transport.is_closing():
            self.abort()
            return False
        if self._is_paused or self._is_cut or transport.get_write_buffer_size():
            # The server answered before it had read the whole request.
            self.abort()
            return False
        self._parser.expect()
        self.idle_since = time.monotonic()
        return True

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._fileno: int = transport.get_extra_info("socket").fileno()

    def data_received(self, data: bytes) -> None:
        if not self._is_busy:
            self.abort()  # nobody asked
            return
        try:
            self._parser.feed(data)
        except MalformedResponse as error:
            self._fail(error)
            self.abort()
            return
        if self._parser.buffered > READ_BUFFER_BYTES and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._wake()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._is_busy:
            self._end_answer(error)
        self._parser.close()
        self._on_close(self)

    def _end_answer(self, error: Exception | None) -> None:
        try:
            self._parser.feed_eof()
        except BodyTruncated as truncated:
            self._fail(truncated if error is None else ReadError(type(error).__name__))
        except ReadError as closed:
            kind = type(error).__name__
            if isinstance(error, BrokenPipeError):
                self._fail(WriteError(kind))
            else:
                self._fail(closed if error is None else ReadError(kind))
        else:
            self._wake()

    def _fail(self, failure: HttpError) -> None:
        if self._failure is None:
            self._failure = failure
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self, within_s: float | None) -> None:
        """Until something has come. What came before a failure is read before it is raised."""
        if self._failure is not None:
            raise self._failure
        waiter = self._waiter = self._loop.create_future()
        timer = None if within_s is None else self._loop.call_later(within_s, _time_out, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()


def _time_out(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_exception(ReadTimeout("the server sent nothing for too long"))
