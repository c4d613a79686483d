"""What an export wants, on top of what is here: it changes only what it speaks of."""

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace

from app.domain.limits import Limits
from app.domain.principal import ApiKey, Team, User
from app.moving.terms import Remarks
from app.service.configuration import Configuration
from app.service.keys import KeyAdmin


async def merge_accounts(wanted: Configuration, known: KeyAdmin, remarks: Remarks) -> Configuration:
    """Complete records, as `ConfigurationPlan` takes them: new ones have the defaults where the
    export says nothing. A key that was revoked here is not made again."""
    teams = {team.name: team for team in await known.teams()}
    users = {user.name: user for user in await known.users()}
    keys = await known.keys()
    return Configuration(
        teams=[_merge_team(team, teams.get(team.name)) for team in wanted.teams],
        users=[_merge_user(user, users.get(user.name), known.defaults) for user in wanted.users],
        keys=_merge_keys(wanted.keys, keys, remarks),
    )


def _merge_team(wanted: Team, before: Team | None) -> Team:
    if before is None:
        return wanted
    return replace(
        before,
        limits=_merge_limits(before.limits, wanted.limits),
        disabled_ms=before.disabled_ms if wanted.disabled_ms is None else wanted.disabled_ms,
        title=before.title or wanted.title,
        models=before.models if wanted.models is None else wanted.models,
    )


def _merge_user(wanted: User, before: User | None, defaults: Limits) -> User:
    if before is None:
        return replace(wanted, limits=_merge_limits(defaults, wanted.limits))
    return replace(
        before,
        limits=_merge_limits(before.limits, wanted.limits),
        team=wanted.team or before.team,
        disabled_ms=before.disabled_ms if wanted.disabled_ms is None else wanted.disabled_ms,
        title=before.title or wanted.title,
    )


def _merge_keys(
    wanted: Iterable[ApiKey], known: Sequence[ApiKey], remarks: Remarks
) -> list[ApiKey]:
    merged = []
    for key in wanted:
        same = [one for one in known if (one.user, one.name) == (key.user, key.name)]
        living = [one for one in same if one.revoked_ms is None]
        if living:
            merged.append(_merge_key(key, living[0]))
        elif same:
            remarks.add("Revoked here, so no new key is made", f"key {key.name} of {key.user}")
        else:
            merged.append(key)
    return merged


def _merge_key(wanted: ApiKey, before: ApiKey) -> ApiKey:
    # Without a digest the plan finds it by its name, and says so when several have it.
    return replace(
        before,
        digest="",
        limits=_merge_limits(before.limits, wanted.limits),
        models=before.models if wanted.models is None else wanted.models,
        expires_ms=before.expires_ms if wanted.expires_ms is None else wanted.expires_ms,
    )


def _merge_limits(before: Limits, wanted: Limits) -> Limits:
    said = {
        field.name: limit
        for field in fields(Limits)
        if (limit := getattr(wanted, field.name)) is not None
    }
    return replace(before, **said)
