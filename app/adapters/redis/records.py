"""Users, teams, keys and journals as JSON, written and read back."""

from typing import Any

import orjson

from app.domain.journal import JournalRecord
from app.domain.limits import Limits
from app.domain.principal import ApiKey, CachePolicy, Team, User


def write(record: ApiKey | User | Team) -> bytes:
    return orjson.dumps(record, default=sorted)


def read_user(text: str) -> User:
    row = _row(text)
    cache = row.pop("cache")
    return User(cache=None if cache is None else CachePolicy(cache), **row)


def read_team(text: str) -> Team:
    return Team(**_row(text))


def read_key(text: str) -> ApiKey:
    row = _row(text)
    models = row.pop("models")
    return ApiKey(models=None if models is None else frozenset(models), **row)


def read_journal(text: str) -> JournalRecord:
    row = orjson.loads(text)
    place = row.get("host", ""), row.get("path", "")
    return JournalRecord(row["id"], *place, row.get("last", 0), row.get("copied", ""))


def _row(text: str) -> dict[str, Any]:
    row: dict[str, Any] = orjson.loads(text)
    row["limits"] = Limits(**row["limits"])
    return row
