"""One HTTP exchange over ASGI, with access to the socket for faults on the connection."""

import asyncio
import json
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Pairs: TypeAlias = Iterable[tuple[str, str]]

TRANSPORT = "sandbox.transport"


class BodyTooLarge(Exception):
    """The request body is larger than the limit."""


class Exchange:
    """A request and the ways to answer it, from a normal reply to raw bytes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: str = scope["query_string"].decode("latin-1")
        self.peer: str = (scope.get("client") or ("", 0))[0]
        self.headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
        self.request_id = f"req_{secrets.token_hex(12)}"
        self.reply_headers: list[tuple[str, str]] = [("x-request-id", self.request_id)]
        self._gone_before_end = False
        transport: asyncio.Transport = scope["extensions"][TRANSPORT]["transport"]
        self._transport = transport

    def header(self, name: str) -> str | None:
        """The first header with that lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def closing(self) -> bool:
        """Whether the connection is closed, as far as the socket knows."""
        return self._transport.is_closing()

    async def read(self, limit: int) -> bytes:
        """The whole request body. Raises BodyTooLarge."""
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return bytes(body)
            body += message.get("body", b"")
            if len(body) > limit:
                raise BodyTooLarge
            if not message.get("more_body", False):
                return bytes(body)

    async def json(self, status: int, value: object, headers: Pairs = ()) -> bool:
        """Sends a JSON reply; True when the client was still connected."""
        return await self.reply(status, json.dumps(value).encode(), headers=headers)

    async def reply(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Pairs = (),
    ) -> bool:
        """Sends a complete reply; True when the client was still connected."""
        await self.start(status, content_type, len(body), headers)
        await self._send({"type": "http.response.body", "body": body})
        return not self._gone_before_end

    async def start(
        self, status: int, content_type: str, length: int | None, headers: Pairs = ()
    ) -> None:
        """Sends status and headers only; without a length the body is chunked."""
        pairs = [("content-type", content_type), *self.reply_headers, *headers]
        if length is not None:
            pairs.append(("content-length", str(length)))
        self._gone_before_end = self.closing
        raw = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in pairs]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def chunk(self, body: bytes) -> bool:
        """Sends a piece of the body; False when the client has left."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        return not self.closing

    async def end(self) -> bool:
        """Ends the body; True when the client was connected to the end."""
        there = not self.closing
        await self._send({"type": "http.response.body", "body": b""})
        return there

    async def raw(self, wire: bytes) -> None:
        """Writes bytes to the socket, past ASGI, then closes it."""
        self._transport.write(wire)
        await self.close()

    async def close(self) -> None:
        """Closes the connection in order (FIN)."""
        self._transport.close()
        await self.gone(5.0)

    async def reset(self) -> None:
        """Resets the connection (RST), as after the crash of a process."""
        if not self.closing:
            linger = struct.pack("ii", 1, 0)
            wire = self._transport.get_extra_info("socket")
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()
        await self.gone(5.0)

    async def gone(self, timeout_s: float) -> bool:
        """Waits until the client has left; False when it stayed that long."""
        try:
            async with asyncio.timeout(timeout_s):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return False
        return True
