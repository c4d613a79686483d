"""Users, teams, keys, admin keys and journals as JSON, written and read back.

Gateways of several versions share a store. A field that this version does not know is ignored, and
a later field that is not set is not written: an older gateway meets it only where it is used.
"""

from dataclasses import fields
from typing import Any

import orjson

from app.domain.administration import AdminKey, AdminScope
from app.domain.images import ResponseFormat
from app.domain.journal import RegisteredJournal
from app.domain.limits import LimitRaise, Limits
from app.domain.principal import ApiKey, CachePolicy, Team, User

OMITTED_WHEN_EMPTY = (
    "response_format", "disabled_ms", "deleted_ms", "ending", "archived_ms", "title",
    "denied_models", "service_account", "webhook", "webhook_secret", "webhook_secret_ms",
    "webhook_secret_before", "forwards_users", "reused_ms",
)  # fmt: skip
"""Later fields, left out while they are empty: an older gateway does not know them."""

OMITTED_LIMITS = ("images_per_minute", "requests_per_day")
"""The same of limits."""


INVITED = "invited"
"""The user of an invitation, which is a key's record that nobody has the secret of."""
RAISE = "raise"
NO_RAISE = {field.name: None for field in fields(Limits)} | {"until_ms": None, "reason": None}
ADMIN, TEAM_ADMIN = "admin", "team_admin"
"""Where a record has the scopes of an admin key, and of one that is held to a team. Gateways of
earlier versions know the first only, and hold nothing to a team."""
NO_USER = "@admin"
"""Stands where a user's key has its user. No user can have this name."""


def write(record: ApiKey | User | Team) -> bytes:
    row = {field.name: getattr(record, field.name) for field in fields(record)}
    for name in OMITTED_WHEN_EMPTY:
        if name in row and not row[name]:
            del row[name]
    if isinstance(record, Team) and record.models is None:
        del row["models"]
    row["limits"] = _write_limits(record.limits)
    if (raised := row.pop("raised")) is not None:
        row[RAISE] = _write_raise(raised)
    return orjson.dumps(row, default=sorted)


def _write_limits(limits: Limits) -> dict[str, int | None]:
    row = {field.name: getattr(limits, field.name) for field in fields(limits)}
    for name in OMITTED_LIMITS:
        if row[name] is None:
            del row[name]
    return row


def _write_raise(raised: LimitRaise) -> dict[str, Any]:
    by = {name: amount for name, amount in raised.amounts.items() if amount is not None}
    return {**by, "until_ms": raised.until_ms, "reason": raised.reason}


def write_seen(record: ApiKey | User | Team) -> bytes:
    """Every value of a record that this version knows, null where it is not set."""
    row = {field.name: getattr(record, field.name) for field in fields(record)}
    row |= {name: None for name in OMITTED_WHEN_EMPTY if name in row and not row[name]}
    raised = row.pop("raised")
    row[RAISE] = NO_RAISE if raised is None else NO_RAISE | _write_raise(raised)
    return orjson.dumps(row, default=sorted)


def write_admin_key(key: AdminKey) -> bytes:
    """In the form of a user's key, of a user that cannot exist: a gateway of an earlier version
    refuses it, and restores it from its journal."""
    row = {field.name: getattr(key, field.name) for field in fields(key) if field.name != "scopes"}
    scopes = ADMIN
    if key.team is None:
        del row["team"]
    else:
        scopes = TEAM_ADMIN
    return orjson.dumps(
        {**row, "user": NO_USER, "limits": {}, "models": None, scopes: sorted(key.scopes)}
    )


def is_admin_key(text: str) -> bool:
    if f'"{ADMIN}":' not in text and f'"{TEAM_ADMIN}":' not in text:
        return False
    row = orjson.loads(text)
    return ADMIN in row or TEAM_ADMIN in row


def is_invitation(text: str) -> bool:
    return f'"{INVITED}":' in text and INVITED in orjson.loads(text)


def is_user_key(text: str) -> bool:
    """Neither an admin key nor an invitation."""
    return not is_admin_key(text) and not is_invitation(text)


def read_admin_key(text: str) -> AdminKey:
    row = orjson.loads(text)
    known = {field.name for field in fields(AdminKey)}
    words = row[TEAM_ADMIN] if TEAM_ADMIN in row else row[ADMIN]
    scopes = frozenset(AdminScope(word) for word in words if word in tuple(AdminScope))
    return AdminKey(scopes=scopes, **{name: row[name] for name in row if name in known})


def read_user(text: str) -> User:
    row = _row(text, User)
    cache = row.pop("cache", None)
    return User(cache=None if cache is None else _policy(cache), **row)


def read_team(text: str) -> Team:
    row = _row(text, Team)
    models, denied = row.pop("models", None), row.pop("denied_models", ())
    return Team(
        models=None if models is None else frozenset(models), denied_models=frozenset(denied), **row
    )


def read_key(text: str) -> ApiKey:
    row = _row(text, ApiKey)
    models = row.pop("models", None)
    return ApiKey(models=None if models is None else frozenset(models), **row)


def read_journal(text: str) -> RegisteredJournal:
    row = orjson.loads(text)
    place = row.get("host", ""), row.get("path", "")
    return RegisteredJournal(row["id"], *place, row.get("last", 0), row.get("copied", ""))


def _row(text: str, kind: type[User | Team | ApiKey]) -> dict[str, Any]:
    stored = orjson.loads(text)
    row = _known(stored, kind)
    row["raised"] = _read_raise(stored.get(RAISE))
    row["limits"] = Limits(**_known(row["limits"], Limits))
    if row.get("response_format") is not None:
        row["response_format"] = _response_format(row["response_format"])
    return row


def _read_raise(row: dict[str, Any] | None) -> LimitRaise | None:
    if row is None:
        return None
    return LimitRaise(Limits(**_known(row, Limits)), row["until_ms"], row.get("reason", ""))


_NAMES = {kind: {field.name for field in fields(kind)} for kind in (User, Team, ApiKey, Limits)}


def _known(row: dict[str, Any], kind: type[User | Team | ApiKey | Limits]) -> dict[str, Any]:
    names = _NAMES[kind]
    return {name: value for name, value in row.items() if name in names}


def _policy(word: str) -> CachePolicy:
    """A policy of a later version, unknown here, must not share more than its operator meant."""
    return CachePolicy(word) if word in tuple(CachePolicy) else CachePolicy.OFF


def _response_format(word: str) -> ResponseFormat | None:
    return ResponseFormat(word) if word in tuple(ResponseFormat) else None
