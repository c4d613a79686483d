"""Connections to URLs that others chose: only to checked addresses, without cookies."""

import ssl
from collections.abc import Sequence

from app.adapters.egress.guard import EgressGuard
from app.adapters.http.client import HttpClient, HttpTimeouts
from app.adapters.http.connecting import Resolver
from app.adapters.http.messages import SentHeaders
from app.adapters.http.tls import public_tls_context
from app.adapters.http.urls import ip_literal

MAX_CONNECTIONS = 64
MAX_IDLE_S = 15.0
TIMEOUTS = HttpTimeouts(connect_s=10.0, read_s=30.0)
REQUEST_HEADERS = SentHeaders(
    ("Accept", "image/*,*/*;q=0.8"),
    ("Accept-Encoding", "identity"),
    ("User-Agent", "koi"),
)


def open_guarded_client(
    resolver: Resolver, guard: EgressGuard, tls: ssl.SSLContext | None
) -> HttpClient:
    """The addresses are checked inside the client's own lookup: it connects to these very
    addresses, and no second lookup can return others. A name is looked up for each connection."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        literal = ip_literal(host)
        addresses = [literal] if literal is not None else await resolver(host, port)
        if not addresses:
            raise OSError("the name has no address")
        guard.check_addresses(host, addresses)
        return addresses

    return HttpClient(
        MAX_CONNECTIONS,
        keepalive_s=MAX_IDLE_S,
        resolve=resolve,
        tls=public_tls_context if tls is None else lambda: tls,
        timeouts=TIMEOUTS,
    )
