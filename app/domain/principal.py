"""Who calls: users, teams, API keys and the principal they make together.

The port to users, teams and keys.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.domain.images import ResponseFormat
from app.domain.limits import Limits, Scope, SpendingStop


class CachePolicy(StrEnum):
    """Whose earlier pictures may answer a request (design, section 5)."""

    OFF = "off"
    PRIVATE = "private"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Team:
    """Users that share limits. `disabled_ms` is since when none of their keys works; a deleted
    team keeps its record, so that the ledger's entries can still be explained."""

    name: str
    limits: Limits
    created_ms: int
    disabled_ms: int | None = None
    deleted_ms: int | None = None


@dataclass(frozen=True, slots=True)
class User:
    """A person or an app. `cache` None follows the deployment's default policy;
    `response_format` None leaves it to the name of the model that is called; `disabled_ms` and
    `deleted_ms` as for a team."""

    name: str
    limits: Limits
    created_ms: int
    team: str | None = None
    cache: CachePolicy | None = None
    response_format: ResponseFormat | None = None
    disabled_ms: int | None = None
    deleted_ms: int | None = None


def is_enabled(holder: User | Team) -> bool:
    """Whether its keys work."""
    return holder.disabled_ms is None and holder.deleted_ms is None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key's record; the secret itself is never stored, only its SHA-256.

    `models` None allows every enabled model; `response_format` None follows the user's; `ending` is
    the secret's last characters (a checksum), by which a key found somewhere can be told, "" for
    keys of before. Times are Unix milliseconds of the store's clock.
    """

    id: str
    user: str
    digest: str
    name: str
    limits: Limits
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    models: frozenset[str] | None = None
    response_format: ResponseFormat | None = None
    ending: str = ""

    def is_usable(self, now_ms: int) -> bool:
        ends = [t for t in (self.expires_ms, self.revoked_ms) if t is not None]
        return all(now_ms < end for end in ends)


@dataclass(frozen=True, slots=True)
class Principal:
    """The identity behind one API key, with every limit that binds it.

    `pool` names whose cached pictures it may get and who may see its jobs: the user's own, or
    the team's when the policy is shared. `response_format` is how it gets its pictures when a
    request does not say.
    """

    key_id: str
    user: str
    team: str | None
    scopes: tuple[Scope, ...]
    cache: CachePolicy
    models: frozenset[str] | None = None
    response_format: ResponseFormat | None = None

    @property
    def pool(self) -> str:
        if self.cache is CachePolicy.SHARED and self.team is not None:
            return f"team:{self.team}"
        return f"user:{self.user}"

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models


class KeyRing(Protocol):
    """Users, teams and keys. Known keys stay known for a while when the store is away."""

    async def authenticate(self, digest: str) -> tuple[ApiKey, User, Team | None] | None:
        """The records behind a key's SHA-256 (hex); None when unknown, expired or revoked."""

    def refusal_reason(self, digest: str) -> tuple[str, str | None]:
        """Of a key just refused: unknown, expired or revoked, and its id where there is one."""

    async def save_user(self, user: User, *, create: bool) -> bool: ...
    async def user(self, name: str) -> User | None: ...
    async def users(self) -> Sequence[User]: ...
    async def save_team(self, team: Team, *, create: bool) -> bool: ...
    async def team(self, name: str) -> Team | None: ...
    async def teams(self) -> Sequence[Team]: ...
    async def save_key(self, key: ApiKey) -> None: ...
    async def key(self, key_id: str) -> ApiKey | None: ...
    async def keys(self, user: str | None = None) -> Sequence[ApiKey]: ...
    async def save_stop(self, stop: SpendingStop, *, stopped: bool) -> None: ...
    async def stops(self) -> Sequence[SpendingStop]: ...
    async def last_used(self) -> Mapping[str, int]: ...
    async def now_ms(self) -> int:
        """The store's clock."""
