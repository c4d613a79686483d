"""Configuration as code: what a file wants, compared with what there is, and the way from one to
the other. Everything is checked before anything is written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum

from app.domain.calendar import format_time
from app.domain.limits import Limits
from app.domain.money import format_micros
from app.domain.principal import ApiKey, Team, User
from app.service.admin_errors import KeyUnknown, NameTaken, TeamUnknown, UserUnknown
from app.service.keys import IssuedKey, KeyAdmin

UNCOMPARED = frozenset(
    {
        "id", "created_ms", "deleted_ms", "revoked_ms", "archived_ms", "ending", "raised",
        "webhook_secret", "webhook_secret_ms", "webhook_secret_before",
    }
)  # fmt: skip
HIDDEN = "(hidden)"
"""Stands for a digest."""


class PlannedAction(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One step: `record` is what will be, or will be gone; `before` is what an update replaces.
    `changes` are field -> (old, new)."""

    action: PlannedAction
    record: Team | User | ApiKey
    before: Team | User | ApiKey | None = None
    changes: Mapping[str, tuple[object, object]] = field(default_factory=dict)

    @property
    def makes_key(self) -> bool:
        """Whether carrying it out issues a key."""
        return (
            self.before is None
            and self.action is PlannedAction.CREATE
            and isinstance(self.record, ApiKey)
            and not self.record.digest
        )

    @property
    def target(self) -> str:
        match self.record:
            case Team(name=name):
                return f"team {name}"
            case User(name=name):
                return f"user {name}"
            case key:
                return f"key {key.name or key.id} of {key.user}"


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a file wants. Names and limits are complete; times that the store has (`created_ms`,
    `disabled_ms`) only say whether. A key is known by its user and name, and without a `digest` it
    is issued."""

    teams: Sequence[Team] = ()
    users: Sequence[User] = ()
    keys: Sequence[ApiKey] = ()


class ConfigurationPlan:
    """The use cases `keys` say what there is, and carry the plan out."""

    def __init__(self, keys: KeyAdmin) -> None:
        self._keys = keys

    async def compare(self, wanted: Configuration, *, prune: bool) -> list[PlannedChange]:
        """What to do, in an order that works; with `prune` what the file does not name is deleted.

        Raises `NameInvalid`, `TeamUnknown`, `UserUnknown`, `ModelUnknown`, `BudgetUnpriced`,
        `KeyUnknown` for a key that could be several."""
        teams = {team.name: team for team in await self._keys.teams()}
        users = {user.name: user for user in await self._keys.users()}
        all_keys = await self._keys.keys()
        keys = [key for key in all_keys if key.revoked_ms is None]
        now_ms = await self._keys.now_ms()
        plan = [
            *(self._put(teams.get(team.name), team, now_ms) for team in wanted.teams),
            *(self._put(users.get(user.name), user, now_ms) for user in wanted.users),
        ]
        self._check_references(wanted, teams, users, prune=prune)
        found = [_find_key(keys, key) for key in wanted.keys]
        _check_digests(wanted.keys, found, all_keys)
        pairs = zip(found, wanted.keys, strict=True)
        plan += [self._put(before, key, now_ms) for before, key in pairs]
        changes = [change for change in plan if change is not None]
        if prune:
            named = {key.id for key in found if key is not None}
            changes += _prune(wanted, teams, users, [key for key in keys if key.id not in named])
        return changes

    async def find_archived(self, wanted: Configuration) -> list[str]:
        """The teams that a file names, also as a user's, and whose keys are refused because they
        are archived. A file does not restore them."""
        named = {team.name for team in wanted.teams} | {user.team for user in wanted.users}
        teams = await self._keys.teams()
        return [t.name for t in teams if t.archived_ms is not None and t.name in named]

    async def carry_out(self, plan: Sequence[PlannedChange]) -> list[IssuedKey]:
        """Do it; returns the keys that were issued on the way."""
        issued = []
        for change in plan:
            if change.action is PlannedAction.DELETE:
                await self._delete(change.record)
            elif change.before is not None:
                await self._keys.change(change.before, change.record)
            elif isinstance(change.record, ApiKey) and not change.record.digest:
                issued.append(await self._keys.issue_as(change.record))
            else:
                await self._keys.add(change.record)
        return issued

    def _put(
        self, before: Team | User | ApiKey | None, wanted: Team | User | ApiKey, now_ms: int
    ) -> PlannedChange | None:
        record = self._keys.checked(_continue(before, wanted, now_ms))
        changes = compare_records(before, record)
        if before is None:
            return PlannedChange(PlannedAction.CREATE, record, changes=changes)
        return PlannedChange(PlannedAction.UPDATE, record, before, changes) if changes else None

    def _check_references(
        self,
        wanted: Configuration,
        teams: Mapping[str, Team],
        users: Mapping[str, User],
        *,
        prune: bool,
    ) -> None:
        team_names = {team.name for team in wanted.teams} | (set() if prune else teams.keys())
        user_names = {user.name for user in wanted.users} | (set() if prune else users.keys())
        for user in wanted.users:
            if user.team is not None and user.team not in team_names:
                raise TeamUnknown(f"User {user.name!r} wants team {user.team!r}: name it too.")
        for key in wanted.keys:
            if key.user not in user_names:
                raise UserUnknown(f"Key {key.name!r} wants user {key.user!r}: name them too.")
        for noun, names in (
            ("team", [team.name for team in wanted.teams]),
            ("user", [user.name for user in wanted.users]),
            ("key", [f"{key.name} of {key.user}" for key in wanted.keys]),
        ):
            if len(names) != len(set(names)):
                raise NameTaken(f"A {noun} is named twice in the file.")

    async def _delete(self, record: Team | User | ApiKey) -> None:
        if isinstance(record, ApiKey):
            await self._keys.revoke(record.id)
        elif isinstance(record, User):
            await self._keys.delete_user(record.name)
        else:
            await self._keys.delete_team(record.name)


def compare_records(
    before: Team | User | ApiKey | None, after: Team | User | ApiKey
) -> Mapping[str, tuple[object, object]]:
    """Field -> (old, new) of what differs, limits by their own names."""
    old, new = ({} if before is None else _values(before)), _values(after)
    return {
        name: (old.get(name), value)
        for name, value in new.items()
        if old.get(name) != value and not (before is None and _is_unset(name, value))
    }


def show_value(name: str, value: object) -> str:
    """A value of a planned change as people read it; digests are hidden."""
    if value is None or value == "":
        return "none"
    if isinstance(value, int) and name.startswith("micros"):
        return format_micros(value)
    if isinstance(value, int) and name.endswith("_ms"):
        return format_time(value) or "none"
    if isinstance(value, frozenset):
        return ", ".join(sorted(value)) or "none"
    return HIDDEN if str(value).startswith(HIDDEN) else str(value)


def _is_unset(name: str, value: object) -> bool:
    """Whether a new record says nothing by this value. No allowed model at all says something."""
    if value is None or value is False:
        return True
    return value == "" or (name == "denied_models" and not value)


def _values(record: Team | User | ApiKey) -> Mapping[str, object]:
    values = {one.name: getattr(record, one.name) for one in fields(record)}
    del values["limits"]
    values |= {one.name: getattr(record.limits, one.name) for one in fields(Limits)}
    if "disabled_ms" in values:
        values["disabled"] = values.pop("disabled_ms") is not None
    if values.get("digest"):
        values["digest"] = HIDDEN + values["digest"]
    return {name: value for name, value in values.items() if name not in UNCOMPARED}


def _continue(
    before: Team | User | ApiKey | None, wanted: Team | User | ApiKey, now_ms: int
) -> Team | User | ApiKey:
    """What is wanted, with the times and ids that the store has."""
    if before is not None:
        # A raise ends by itself; no file has it.
        wanted = replace(wanted, raised=before.raised)
    if isinstance(wanted, ApiKey):
        if not isinstance(before, ApiKey):
            return replace(wanted, created_ms=now_ms)
        digest = wanted.digest or before.digest
        ending = before.ending if digest == before.digest else ""
        return replace(
            wanted,
            id=before.id,
            created_ms=before.created_ms,
            digest=digest,
            ending=ending,
            webhook=before.webhook,
        )
    disabled = wanted.disabled_ms is not None
    if before is None or isinstance(before, ApiKey):
        return replace(wanted, created_ms=now_ms, disabled_ms=now_ms if disabled else None)
    if isinstance(wanted, Team) and isinstance(before, Team) and before.archived_ms is not None:
        # It stays archived, and with that disabled, until it is restored.
        wanted = replace(wanted, archived_ms=before.archived_ms)
        disabled = True
    if isinstance(wanted, User) and isinstance(before, User):
        wanted = _with_webhook(wanted, before)
    since_ms = before.disabled_ms if before.disabled_ms is not None else now_ms
    return replace(wanted, created_ms=before.created_ms, disabled_ms=since_ms if disabled else None)


def _with_webhook(wanted: User, before: User) -> User:
    """A file says nothing about webhooks and their secrets."""
    return replace(
        wanted,
        webhook=before.webhook,
        webhook_secret=before.webhook_secret,
        webhook_secret_ms=before.webhook_secret_ms,
        webhook_secret_before=before.webhook_secret_before,
    )


def _find_key(keys: Iterable[ApiKey], wanted: ApiKey) -> ApiKey | None:
    same = [key for key in keys if (key.user, key.name) == (wanted.user, wanted.name)]
    exact = [key for key in same if key.digest == wanted.digest]
    if len(same) > 1 and len(exact) != 1:
        raise KeyUnknown(
            f"User {wanted.user!r} has several keys named {wanted.name!r}; rename or revoke some "
            "(koi keys set, koi keys revoke)."
        )
    found = exact or same
    return found[0] if found else None


def _check_digests(
    wanted: Sequence[ApiKey], found: Sequence[ApiKey | None], known: Sequence[ApiKey]
) -> None:
    """A secret is one key's, and one that was revoked stays so."""
    digests = [key.digest for key in wanted if key.digest]
    for before, key in zip(found, wanted, strict=True):
        others = [one for one in known if one.digest == key.digest and one is not before]
        if key.digest and (others or digests.count(key.digest) > 1):
            raise KeyUnknown(
                f"The digest of key {key.name!r} of {key.user!r} is that of another key, or of a "
                "revoked one: make a new secret."
            )


def _prune(
    wanted: Configuration,
    teams: Mapping[str, Team],
    users: Mapping[str, User],
    unnamed: Sequence[ApiKey],
) -> list[PlannedChange]:
    kept_users = {user.name for user in wanted.users}
    kept_teams = {team.name for team in wanted.teams}
    doomed: list[Team | User | ApiKey] = [key for key in unnamed if key.user in kept_users]
    doomed += [user for name, user in sorted(users.items()) if name not in kept_users]
    doomed += [team for name, team in sorted(teams.items()) if name not in kept_teams]
    return [PlannedChange(PlannedAction.DELETE, record) for record in doomed]
