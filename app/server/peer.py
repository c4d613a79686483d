"""The client at the other end of a connection."""

import asyncio
import math
from collections.abc import Callable

from app.api.disconnect import PeerState, probe_peer

RESET_CHECKS_S, EOF_GRACE_S = (0.005, 0.05, 0.25, 1.0), 0.25
"""When to check whether a client that closed its side has reset the connection, and after how long
it is taken for one that still reads."""


class ConnectionPeer:
    """What requests may ask and be told about their client; see `app.api.disconnect.Peer`."""

    __slots__ = ("_eof_at_s", "_loop", "_transport", "has_sent_all", "on_disconnect")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._eof_at_s = math.inf
        self.has_sent_all = False
        self.on_disconnect: Callable[[], None] | None = None

    def get_state(self) -> PeerState:
        peer = probe_peer(self._transport)
        if peer is PeerState.HALF_CLOSED and self._loop.time() - self._eof_at_s > EOF_GRACE_S:
            return PeerState.CONNECTED
        return peer

    def disconnected(self) -> None:
        """No answer can reach the client any more."""
        if self.on_disconnect is not None:
            self.on_disconnect()

    def half_closed(self) -> None:
        """The client closed its side of the connection; whether it reads is seen a little later."""
        self._eof_at_s = self._loop.time()
        for pause_s in RESET_CHECKS_S:
            self._loop.call_later(pause_s, self._close_if_reset)

    def _close_if_reset(self) -> None:
        if (
            not self._transport.is_closing()
            and probe_peer(self._transport) is PeerState.DISCONNECTED
        ):
            self._transport.abort()
