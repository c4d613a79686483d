"""The connections to the provider: what they are for, and how long they are kept."""

import ssl
from typing import Protocol

from app.adapters.http.client import HttpClient, HttpResponse
from app.adapters.http.connecting import CachingResolver
from app.adapters.http.messages import HttpRequest
from app.adapters.http.send_state import SendState
from app.adapters.http.tls import public_tls_context

MAX_IDLE_S = 4.0


class UpstreamTransport(Protocol):
    """How requests get to the provider; `HttpClient` is one."""

    async def send(self, request: HttpRequest, send_state: SendState, /) -> HttpResponse:
        """Send it once; `send_state` tells how far it got. Raises `HttpError`."""

    async def close(self) -> None:
        """Close every connection; running requests fail."""


def open_transport(
    connections: int = 100, *, keepalive_s: float = MAX_IDLE_S, tls: ssl.SSLContext | None = None
) -> HttpClient:
    """Connections to the provider, opened when they are needed. `tls` replaces
    `public_tls_context`. Time limits are the exchange's, which knows when its process stood still
    (`Deadline`)."""
    return HttpClient(
        connections,
        keepalive_s=keepalive_s,
        resolve=CachingResolver(),
        tls=public_tls_context if tls is None else lambda: tls,
    )
