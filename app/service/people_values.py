"""People and keys as the operator looks through them: queries, pages, and what is in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.domain.administration import AdminKey
from app.domain.limits import LimitStatus
from app.domain.principal import ApiKey, Team, User, is_enabled

ALARMING_SHARE = 0.8


class KeyState(StrEnum):
    """Whether a key works."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DISABLED = "disabled"
    """Its user or team is disabled, archived or deleted."""


@dataclass(frozen=True, slots=True)
class PeopleQuery:
    """Which people or keys: `text` is in a name or title; those after `after` in the list's order,
    `limit` at most. Empty: all."""

    limit: int
    after: str | None = None
    text: str = ""
    team: str | None = None
    user: str | None = None
    state: str | None = None
    alarming: bool = False
    """Only people of whom some limit is used up to 80 %."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user or a team with how its limits stand. `keys` counts those that are not revoked,
    `used_ms` is when one of them was used last."""

    holder: User | Team
    team: Team | None
    statuses: Sequence[LimitStatus]
    keys: int
    used_ms: int | None
    members: int = 0

    @property
    def alarming(self) -> LimitStatus | None:
        """The limit of which most is used, when that is 80 % or more."""
        worst = max(self.statuses, key=share_used, default=None)
        return worst if worst is not None and share_used(worst) >= ALARMING_SHARE else None


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key with its owner and whether it works."""

    key: ApiKey
    user: User | None
    team: Team | None
    state: KeyState
    used_ms: int | None


@dataclass(frozen=True, slots=True)
class IdentifiedSecret:
    """What a secret found somewhere is; both None for one that this deployment never issued.
    `admin_alive` says whether an admin key works."""

    known: KnownKey | None = None
    admin: AdminKey | None = None
    admin_alive: bool = False

    @property
    def sentence(self) -> str:
        if self.admin is not None:
            state = "alive: revoke it at once" if self.admin_alive else "ended"
            return f"Admin key {self.admin.id} ({self.admin.name}), {state}."
        if self.known is None:
            return "This deployment issued no such key."
        key, state = self.known.key, self.known.state
        alive = "alive: revoke or rotate it" if state is KeyState.ACTIVE else str(state)
        return f"Key {key.id} ({key.name or 'no name'}) of {key.user}, {alive}."


@dataclass(frozen=True, slots=True)
class PeoplePage:
    people: Sequence[Person]
    has_more: bool


@dataclass(frozen=True, slots=True)
class KeyPage:
    keys: Sequence[KnownKey]
    has_more: bool
    total: int
    """How many fit in all."""


def share_used(status: LimitStatus) -> float:
    """Of images and money in a day or month: what is used or held of the limit. A limit of 0 leaves
    nothing."""
    counted = status.kind in ("images", "money") and status.window != "minute"
    if status.limit is None or not counted:
        return 0.0
    return (status.used + status.held) / status.limit if status.limit else 1.0


def key_state(key: ApiKey, user: User | None, team: Team | None, now_ms: int) -> KeyState:
    if key.revoked_ms is not None:
        return KeyState.REVOKED
    if not key.is_usable(now_ms):
        return KeyState.EXPIRED
    works = user is not None and is_enabled(user) and (team is None or is_enabled(team))
    return KeyState.ACTIVE if works else KeyState.DISABLED
