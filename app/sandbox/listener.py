"""The HTTP servers: uvicorn's protocol on our own sockets, quick to start and stop."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any, TypeAlias, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from app.sandbox.exchange import TRANSPORT, Receive, Scope, Send

App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Wire(HttpToolsProtocol):
    """Uvicorn's HTTP protocol with the transport in the scope, for faults on the connection."""

    def on_message_begin(self) -> None:
        """Starts a request's scope."""
        super().on_message_begin()
        self.access_log = False
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}


class Listener:
    """One application on one socket."""

    def __init__(self, app: App, listening: socket.socket) -> None:
        self._app = app
        self._socket = listening
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._dating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts to serve."""
        # Without lifespan and logging, since the process may have its own.
        config = Config(
            cast("Any", self._guarded),
            log_config=None,
            lifespan="off",
            ws="none",
            interface="asgi3",
            proxy_headers=False,
            timeout_keep_alive=75,
        )
        config.load()
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Wire(config, self._state, {}), sock=self._socket, backlog=2048
        )
        self._dating = asyncio.create_task(self._date())

    async def stop(self) -> None:
        """Closes every connection and cancels every request at once."""
        if self._server is None or self._dating is None:
            return
        self._dating.cancel()
        self._server.close()
        for connection in list(self._state.connections):
            cast("Wire", connection).transport.abort()
        # Let the requests notice their lost connections before they are cancelled.
        await asyncio.sleep(0.01)
        pending = [self._dating, *self._state.tasks]
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            # Only stop() cancels requests, after it has closed their connections.
            return

    async def _date(self) -> None:
        while True:
            date = formatdate(usegmt=True).encode()
            self._state.default_headers = [(b"date", date), (b"server", b"sandbox")]
            await asyncio.sleep(1)
