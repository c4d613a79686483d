"""Watches one idle connection for as long as a probe lasts: when does the provider close it?"""

import asyncio
import ssl
import time
from contextlib import suppress
from urllib.parse import urlsplit

from app.adapters.http.tls import public_tls_context
from app.probe.calls import ProviderAccess

HEAD_BYTES = 64 * 1024
ANSWER_TIMEOUT_S = 10.0


class IdleConnection:
    """One connection that carries one request for the list of models, and is then left alone."""

    def __init__(self, access: ProviderAccess) -> None:
        self._access = access
        self._closed_after_s: float | None = None
        self._idle_since: float | None = None
        self._watch = asyncio.create_task(self._keep())

    async def end(self) -> dict[str, float | bool] | None:
        """How long it stayed open, and whether it still is; None when that is not known."""
        self._watch.cancel()
        with suppress(asyncio.CancelledError):
            await self._watch
        if self._idle_since is None:
            return None
        closed = self._closed_after_s
        open_s = time.monotonic() - self._idle_since if closed is None else closed
        return {"open_s": round(open_s, 1), "closed": closed is not None}

    async def _keep(self) -> None:
        with suppress(OSError, TimeoutError, ssl.SSLError, ValueError):
            parts = urlsplit(self._access.base_url.rstrip("/") + "/models")
            secure = parts.scheme == "https"
            reader, writer = await asyncio.open_connection(
                parts.hostname,
                parts.port or (443 if secure else 80),
                ssl=public_tls_context() if secure else None,
            )
            try:
                await self._use(reader, writer, parts.path, parts.netloc)
            finally:
                writer.close()

    async def _use(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, host: str
    ) -> None:
        head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n"
        writer.write(f"{head}Authorization: Bearer {self._access.key}\r\n\r\n".encode())
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            if not await reader.read(HEAD_BYTES):
                return
        self._idle_since = time.monotonic()
        while await reader.read(HEAD_BYTES):
            self._idle_since = time.monotonic()
        self._closed_after_s = time.monotonic() - self._idle_since
