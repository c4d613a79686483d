"""Who administers this deployment, and the log of what they changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from app.domain.errors import GatewayError

ROOT = "root"
"""The id of the admin key in the settings."""


class ActorKind(StrEnum):
    """By what an actor was let in: a shell on the machine, an admin key, an invitation, a user's
    own key, or an OpenID provider; or the gateway itself."""

    CLI = "cli"
    ADMIN_KEY = "admin_key"
    INVITATION = "invitation"
    KEY = "key"
    OIDC = "oidc"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change. `id` is `<login>@<host>`, the id of a key, or the claim of
    who signed in at the provider."""

    kind: ActorKind
    id: str

    @property
    def text(self) -> str:
        return f"{self.kind}:{self.id}"


class AdminScope(StrEnum):
    """What an admin key may do. Every admin key may read; `people` also changes teams, users and
    their keys, `money` limits and the spending stop, `all` also admin keys."""

    READ = "read"
    PEOPLE = "people"
    MONEY = "money"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class AdminKey:
    """A key for the administration API, stored as a digest like a user's key (`ApiKey`). Times are
    Unix milliseconds of the store's clock."""

    id: str
    name: str
    digest: str
    scopes: frozenset[AdminScope]
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    ending: str = ""
    team: str | None = None
    """The one team that it may act on (`app.domain.team_bounds`); None: the whole deployment."""

    def is_usable(self, now_ms: int) -> bool:
        ends = [ms for ms in (self.expires_ms, self.revoked_ms) if ms is not None]
        return all(now_ms < end for end in ends)


def allows(scopes: frozenset[AdminScope], wanted: AdminScope) -> bool:
    return wanted is AdminScope.READ or not scopes.isdisjoint({wanted, AdminScope.ALL})


class InsufficientPermissions(GatewayError):
    """An admin key without the scope that a change needs."""

    code = "insufficient_permissions"


class ProjectArchived(GatewayError):
    """The key's team was put away; its operator can restore it."""

    code = "project_archived"

    def __init__(self, key_id: str) -> None:
        super().__init__("The team of this key is archived; ask the operator of this gateway.")
        self.key_id = key_id


class ObjectNotFound(GatewayError):
    """The administration API has no such team, user or key."""

    code = "object_not_found"


class Conflict(GatewayError):
    """A change that what is there already does not allow."""

    code = "conflict"


@dataclass(frozen=True, slots=True)
class AuditNote:
    """What an audit record says beside the values: who, `<noun>.<verb>`, and why."""

    actor: Actor
    kind: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One change: field -> (old value, new value), None for a value that was not set.

    `target` is `user:…`, `team:…`, `key:…`, `admin_key:…`, `job:…` or `house`; `user` and `team`
    say whom it is about. `at_ms` is the store's clock. No record ever holds a secret or its digest.
    """

    id: str
    at_ms: int
    actor: str
    kind: str
    target: str
    user: str | None = None
    team: str | None = None
    reason: str = ""
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which records: the newest first, after that id in this order (an id of an earlier page of the
    same query). `until_ms` is exclusive; an empty set means all. A `kind` without a verb (`user`)
    means all of that noun."""

    since_ms: int = 0
    until_ms: int | None = None
    users: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    actors: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()
    after: str | None = None
    limit: int = 20

    def wants(self, record: AuditRecord) -> bool:
        kinds = {record.kind, record.kind.partition(".")[0]}
        asked = (
            (self.users, {record.user}),
            (self.teams, {record.team}),
            (self.actors, {record.actor, record.actor.partition(":")[2]}),
            (self.kinds, kinds),
            (self.targets, {record.target, record.target.partition(":")[2]}),
        )
        return all(not wanted or not wanted.isdisjoint(found) for wanted, found in asked)


@dataclass(frozen=True, slots=True)
class AuditPage:
    records: Sequence[AuditRecord]
    has_more: bool


_ACCOUNT = ("created", "updated", "disabled", "enabled", "deleted", "raised", "raise_ended")
AUDIT_KINDS: Mapping[str, Sequence[str]] = {
    "team": (*_ACCOUNT, "archived", "restored"),
    "user": (*_ACCOUNT, "webhook_secret_renewed"),
    "service_account": _ACCOUNT,
    "key": ("created", "updated", "rotated", "revoked", "raised", "raise_ended"),
    "invitation": ("created", "revoked", "accepted"),
    "admin_key": ("created", "revoked"),
    "spend_alert": ("created", "updated", "deleted"),
    "spending": ("stopped", "resumed"),
    "ledger": ("adjusted", "restored", "downloaded"),
    "job": ("cancelled",),
}
"""The nouns of `AuditRecord.kind` and their verbs."""


class AuditLog(Protocol):
    """What was changed by whom. Records are added with the changes themselves, by the `KeyRing`."""

    async def page(self, query: AuditQuery) -> AuditPage:
        """Raises `LedgerUnavailable`."""


class AdminKeyRing(Protocol):
    """Admin keys. A known one stays known for a while when the store is away."""

    async def authenticate_admin(self, digest: str) -> AdminKey | None:
        """The record of a key's SHA-256 (hex); None when unknown, expired or revoked."""

    async def save_admin_key(self, key: AdminKey, note: AuditNote) -> None: ...
    async def admin_keys(self) -> Sequence[AdminKey]:
        """All of them, ended ones too, oldest first."""
