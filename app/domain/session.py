"""Sessions of the page: a cookie that stands for an API key, or for somebody whom an OpenID
provider named, until these or the session end."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.domain.administration import AdminScope
from app.domain.errors import GatewayError

SESSION_LIFE_MS = 12 * 3_600_000
MAX_SESSIONS_PER_KEY = 20
"""One more ends the oldest: a key that signs in again and again fills no store."""


class SessionRole(StrEnum):
    """Whose page a session opens: that of a user's key, or that of an administrator."""

    HOLDER = "holder"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class SignedInPerson:
    """Somebody who signed in without a key. `name` is the claim by which the provider knows them,
    and the Koi user's name. `terms` stands for the settings that let them in; `scopes` are an
    operator's. `user_created_ms` tells a member from a later user of that name. A `team` holds an
    operator to it; empty: to the one that their own Koi user is in."""

    name: str
    terms: str
    scopes: frozenset[AdminScope] = frozenset()
    user_created_ms: int = 0
    team: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """`id` is the SHA-256 (hex) of the cookie's token, `key_digest` that of the API key it stands
    for. With a `person` it stands for no key, and the digest is that of no secret. Times are Unix
    milliseconds of the store's clock."""

    id: str
    key_digest: str
    role: SessionRole
    expires_ms: int = 0
    person: SignedInPerson | None = None


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
