"""Who calls: users, teams, API keys and the principal they make together; the port to them.

What a principal may use, may see and is limited by is decided here and nowhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol, TypeVar

from app.domain.administration import Actor, ActorKind, AuditNote
from app.domain.catalog import Catalog, Model
from app.domain.errors import ModelNotFound
from app.domain.images import ResponseFormat
from app.domain.limits import LimitRaise, Limits, Scope, ScopeKind, SpendingStop

HOUSE = "house"
"""The name of the scope that is the whole deployment."""
LEFT = "left:"
"""What the owner of a shared picture is called whose user has deleted it: it is for others only."""
TEAM_POOL = "team:"
"""What the names of shared cache pools begin with."""


class CachePolicy(StrEnum):
    """Whose earlier pictures may answer a request: nobody's, the user's own, or the team's."""

    OFF = "off"
    PRIVATE = "private"
    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class Team:
    """Users that share limits. None of their keys works since `disabled_ms`; a deleted team keeps
    its record, so that the ledger's entries can still be explained. `archived_ms` says that it was
    put away, with all its users, until it is restored.

    `title` is what people call it, empty when it is its name. `models` None allows every enabled
    model, `denied_models` takes some away.
    """

    name: str
    limits: Limits
    created_ms: int
    disabled_ms: int | None = None
    deleted_ms: int | None = None
    archived_ms: int | None = None
    title: str = ""
    models: frozenset[str] | None = None
    denied_models: frozenset[str] = frozenset()
    raised: LimitRaise | None = None

    @property
    def is_limited(self) -> bool:
        """Whether its users may do less than they could without it."""
        unlimited = self.limits == Limits() and self.models is None
        return not unlimited or bool(self.denied_models)


@dataclass(frozen=True, slots=True)
class User:
    """A person or an app. `cache` None follows the deployment's default policy;
    `response_format` None leaves it to the name of the model that is called; `disabled_ms`,
    `deleted_ms` and `title` as for a team. A `service_account` is an app, made by its team.
    `webhook` is told of all tasks whose request or key names none; deliveries are signed with
    `webhook_secret`, made at `webhook_secret_ms`, and for a day with the one before. `reused_ms` is
    when the name of a deleted user was given to this one."""

    name: str
    limits: Limits
    created_ms: int
    team: str | None = None
    cache: CachePolicy | None = None
    response_format: ResponseFormat | None = None
    disabled_ms: int | None = None
    deleted_ms: int | None = None
    title: str = ""
    service_account: bool = False
    raised: LimitRaise | None = None
    webhook: str | None = None
    webhook_secret: str = field(default="", repr=False)
    webhook_secret_ms: int | None = None
    webhook_secret_before: str = field(default="", repr=False)
    reused_ms: int | None = None


def is_enabled(holder: User | Team) -> bool:
    """Whether its keys work."""
    return holder.disabled_ms is None and holder.deleted_ms is None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key's record; the secret itself is never stored, only its SHA-256.

    `models` None allows every enabled model; `response_format` None follows the user's; `ending`
    holds the secret's last characters (a checksum), by which a key found somewhere can be
    recognised; it is empty for keys of earlier versions. `forwards_users` says that it belongs to a
    front end that is believed when it says for whom it asks. Times are Unix milliseconds of the
    store's clock.
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
    raised: LimitRaise | None = None
    webhook: str | None = None
    forwards_users: bool = False

    def is_usable(self, now_ms: int) -> bool:
        ends = [t for t in (self.expires_ms, self.revoked_ms) if t is not None]
        return all(now_ms < end for end in ends)


Holder = TypeVar("Holder", bound=User | Team | ApiKey)


def at(now_ms: int, holder: Holder) -> Holder:
    """The record as it counts at this time: without a raise that has ended."""
    ended = holder.raised is not None and holder.raised.until_ms <= now_ms
    return replace(holder, raised=None) if ended else holder


@dataclass(frozen=True, slots=True)
class Principal:
    """The identity behind one API key, with every limit that binds it; or a `person` who signed in
    without a key, whose `key_id` is that of no key.

    `pool` names whose cached pictures it may get and who may see its jobs: the user's own, or
    the team's when the policy is shared. `response_format` and `webhook` apply when a request does
    not say how it wants its pictures and who is told. `forwards_users` is the key's. Tasks of its
    name from before `since_ms` were another user's.
    """

    key_id: str
    user: str
    team: str | None
    scopes: tuple[Scope, ...]
    cache: CachePolicy
    models: frozenset[str] | None = None
    response_format: ResponseFormat | None = None
    denied_models: frozenset[str] = frozenset()
    webhook: str | None = None
    person: str | None = None
    forwards_users: bool = False
    since_ms: int = 0
    pool: str = field(init=False, compare=False, repr=False)
    all_scopes: tuple[Scope, ...] = field(init=False, compare=False, repr=False)
    """Key, user, team and house in this order; one without limits where none are given. Every job
    is counted in all of them, so that a limit set later finds the counters right."""

    def __post_init__(self) -> None:
        # A principal is kept and asked many times.
        object.__setattr__(self, "pool", self._name_pool())
        object.__setattr__(self, "all_scopes", self._list_scopes())

    def _name_pool(self) -> str:
        if self.cache is CachePolicy.SHARED and self.team is not None:
            return f"{TEAM_POOL}{self.team}"
        return f"user:{self.user}"

    def _list_scopes(self) -> tuple[Scope, ...]:
        given = {scope.kind: scope for scope in self.scopes}
        names = {
            ScopeKind.KEY: self.key_id,
            ScopeKind.USER: self.user,
            ScopeKind.TEAM: self.team,
            ScopeKind.HOUSE: HOUSE,
        }
        return tuple(
            given.get(kind) or Scope(kind, name, Limits()) for kind, name in names.items() if name
        )

    @property
    def actor(self) -> Actor:
        """As what the audit log names it."""
        if self.person is not None:
            return Actor(ActorKind.OIDC, self.person)
        return Actor(ActorKind.KEY, self.key_id)

    def may_use(self, model: str) -> bool:
        """Whether the key may use the model of this catalog name."""
        allowed = self.models is None or model in self.models
        return allowed and model not in self.denied_models

    def resolve_model(self, catalog: Catalog, name: str) -> Model:
        """The model that a caller means by a name, alias or pattern.

        Raises `ModelNotFound`, in the same words for a model that does not exist and for one that
        this key may not use: the answer tells nobody what others are offered.
        """
        model = catalog.resolve(name)
        if model is None or not self.may_use(model.name):
            raise ModelNotFound
        return model

    def may_see(self, user: str, pool: str) -> bool:
        """Whether a task or picture that was made for this user and pool is shown: to that user,
        and to members of the same shared team pool (decision 11), but not to who deleted it."""
        if user == f"{LEFT}{self.user}":
            return False
        return user == self.user or (pool == self.pool and pool.startswith(TEAM_POOL))


def build_scopes(
    house: Limits, *, key: ApiKey | None = None, user: User | None = None, team: Team | None = None
) -> tuple[Scope, ...]:
    """The scopes that limit whoever is given, the narrowest first, and the house last. Their raises
    count, so a record is given as it is `at` this time."""
    found = [scope_of(holder) for holder in (key, user, team) if holder is not None]
    return (*found, Scope(ScopeKind.HOUSE, HOUSE, house))


def scope_of(holder: User | Team | ApiKey) -> Scope:
    """What limits a holder. Its raise counts, so it is given as it is `at` this time."""
    raised = holder.raised
    limits = holder.limits if raised is None else raised.apply_to(holder.limits)
    if isinstance(holder, ApiKey):
        return Scope(ScopeKind.KEY, holder.id, limits, raised)
    kind = ScopeKind.USER if isinstance(holder, User) else ScopeKind.TEAM
    return Scope(kind, holder.name, limits, raised)


class KeyRing(Protocol):
    """Users, teams and keys. Known keys stay known for a while when the store is away.

    Each change adds its record to the audit log (`AuditLog`) in the same write.
    """

    async def authenticate(self, digest: str) -> tuple[ApiKey, User, Team | None] | None:
        """The records behind a key's SHA-256 (hex); None when unknown, expired or revoked."""

    def refusal_reason(self, digest: str) -> tuple[str, str | None]:
        """Why a key was just refused (unknown, expired, revoked), and its id where it has one."""

    async def save_user(
        self, user: User, note: AuditNote, *, create: bool, before: User | None = None
    ) -> bool:
        """Write a record; false when it exists already (`create`) or does not yet (otherwise).
        Raises `Conflict` when it is not what it was `before` any more."""

    async def user(self, name: str) -> User | None: ...
    async def users(self) -> Sequence[User]: ...
    async def save_team(
        self, team: Team, note: AuditNote, *, create: bool, before: Team | None = None
    ) -> bool:
        """Like `save_user`."""

    async def team(self, name: str) -> Team | None: ...
    async def teams(self) -> Sequence[Team]: ...
    async def save_key(self, key: ApiKey, note: AuditNote, *, before: ApiKey | None = None) -> None:
        """Write a key's record, new or changed; an earlier digest of the key stops working. Raises
        `Conflict` as `save_user`, and when the digest is that of another key."""

    async def key(self, key_id: str) -> ApiKey | None: ...
    async def keys(self, user: str | None = None) -> Sequence[ApiKey]: ...
    async def save_stop(self, stop: SpendingStop, note: AuditNote, *, stopped: bool) -> None: ...
    async def stops(self) -> Sequence[SpendingStop]: ...
    async def last_used(self) -> Mapping[str, int]: ...
    async def now_ms(self) -> int:
        """The store's clock."""
