"""A new person in one step: team, user, limits and a key; done again it changes nothing."""

from dataclasses import dataclass
from datetime import timedelta

from app.domain.administration import Conflict
from app.domain.limits import Limits
from app.domain.principal import ApiKey, User
from app.service.admin_errors import TeamUnknown, UserUnknown
from app.service.keys import IssuedKey, KeyAdmin
from app.service.people import People
from app.service.teams import checked_label, checked_name

FIRST_KEY_NAME = "first key"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """Whom to welcome. `limits` None are the default ones; `expires_in` is of the key."""

    name: str
    title: str = ""
    team: str | None = None
    limits: Limits | None = None
    key_name: str = FIRST_KEY_NAME
    expires_in: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Welcome:
    """Who is there now. `issued` is the new key; None when the person had a key of that name, whose
    secret nobody can show again: `key` is that one."""

    user: User
    created: bool
    key: ApiKey
    issued: IssuedKey | None


async def welcome(keys: KeyAdmin, people: People, newcomer: Newcomer) -> Welcome:
    """Everything is checked before anything is written. Raises `NameInvalid`, `BudgetUnpriced`, and
    `Conflict` when somebody else of that name is here."""
    checked_label(newcomer.key_name)
    if newcomer.team is not None:
        checked_name(newcomer.team)
    if newcomer.limits is not None:
        keys.checked_limits(newcomer.limits)
    before = await _find(keys, checked_name(newcomer.name))
    if before is not None:
        _require_same(before, newcomer)
        user = before
    else:
        await _ensure_team(keys, newcomer.team)
        user = await keys.create_user(
            newcomer.name, team=newcomer.team, limits=newcomer.limits, title=newcomer.title
        )
    now_ms = await keys.now_ms()
    for key in await people.keys_of(user.name):
        if key.name == newcomer.key_name and key.is_usable(now_ms):
            return Welcome(user, before is None, key, None)
    issued = await keys.issue(user.name, name=newcomer.key_name, expires_in=newcomer.expires_in)
    return Welcome(user, before is None, issued.key, issued)


async def _find(keys: KeyAdmin, name: str) -> User | None:
    try:
        return await keys.user(name)
    except UserUnknown:
        return None


async def _ensure_team(keys: KeyAdmin, name: str | None) -> None:
    if name is None:
        return
    try:
        await keys.team(name)
    except TeamUnknown:
        await keys.create_team(name, Limits())


def _require_same(user: User, newcomer: Newcomer) -> None:
    other_limits = newcomer.limits is not None and newcomer.limits != user.limits
    if user.team != newcomer.team or other_limits:
        raise Conflict(
            "There is a person of this name already, in another team or with other limits; "
            "nothing was changed. Choose another name, or change that person.",
            param="name",
        )
