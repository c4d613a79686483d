"""Sessions of the page: a cookie that stands for an API key until the key or the session ends."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.domain.errors import GatewayError

SESSION_LIFE_MS = 12 * 3_600_000
MAX_SESSIONS_PER_KEY = 20
"""One more ends the oldest: a key that signs in again and again fills no store."""


class SessionRole(StrEnum):
    """Whose page a session opens: that of a user's key, or that of an administrator."""

    HOLDER = "holder"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Session:
    """`id` is the SHA-256 (hex) of the cookie's token, `key_digest` that of the API key it stands
    for. Times are Unix milliseconds of the store's clock."""

    id: str
    key_digest: str
    role: SessionRole
    expires_ms: int = 0


class CrossOriginRefused(GatewayError):
    """A page of another origin sent a request with the cookie of somebody who is signed in, or one
    that only programs and known pages may send."""

    code = "cross_origin_refused"

    def __init__(
        self,
        message: str = "A request with a session cookie must come from this gateway's own page; "
        "nothing was done. Programs send an API key instead.",
    ) -> None:
        super().__init__(message)


class SessionStore(Protocol):
    """Known sessions stay known for a while when the store is away. Every method raises
    `LedgerUnavailable`."""

    async def save(self, session: Session, life_ms: int, most: int) -> int:
        """Write a session of at most `most` of its key; returns when it expires, Unix ms."""

    async def find(self, session_id: str) -> Session | None:
        """None when it was ended, has expired, or never was."""

    async def end(self, session: Session) -> None: ...
