"""The file of `koi apply`: TOML, strict, and errors name the place."""

import hashlib
import re
import tomllib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, TypeVar

from app.domain.images import ResponseFormat
from app.domain.limits import MAX_COUNT, Limits
from app.domain.money import parse_micros
from app.domain.principal import ApiKey, CachePolicy, Team, User
from app.service.admin_errors import AdminError
from app.service.configuration import Configuration

COUNTS = (
    "images_per_day", "images_per_month", "requests_per_minute", "concurrency",
    "images_per_minute", "requests_per_day",
)  # fmt: skip
BUDGETS = {"budget_per_day": "micros_per_day", "budget_per_month": "micros_per_month"}
DIGEST = re.compile(r"[0-9a-f]{64}")
SAMPLE_SECRETS = (b"", b"test", b"secret", b"password", b"changeme", b"sk-test")
SAMPLE_DIGESTS = {hashlib.sha256(secret).hexdigest() for secret in SAMPLE_SECRETS}
UNLIMITED = "unlimited"
STRING_OR_COMMENT = re.compile(
    r'''"""(?:[^"\\]++|\\[\s\S]|"(?!""))*+"{0,5}|"(?:[^"\\\n]++|\\.)*+"?|'''
    r"""'''(?:[^']++|'(?!''))*+'{0,5}|'[^'\n]*+'?|#[^\n]*+"""
)
"""In the order of the text, as a reader of TOML meets them. One without an end reaches as far as a
reader would look for it; it reads nothing behind."""
NAME_END = re.compile(r"[=,{}\[\]]")
MAX_DOTS = 32
"""In one name, outside of its quotes."""
AMOUNT = f'decimal text such as "12.50", or "{UNLIMITED}"'
T = TypeVar("T")


class ConfigurationInvalid(AdminError):
    """The file is not as it must be; the message names the place."""


def parse_configuration(text: str, place: str, defaults: Limits) -> Configuration:
    """`place` is what the file is called. Raises `ConfigurationInvalid`."""
    _check_names(text, place)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationInvalid(f"{place} is no TOML: {error}") from None
    whole = _Table(document, place)
    teams = whole.take("teams", dict, {})
    users = whole.take("users", dict, {})
    keys = whole.take("keys", list, [])
    whole.end()
    return Configuration(
        teams=[_read_team(name, _Table(row, f"teams.{name}")) for name, row in teams.items()],
        users=[_read_user(n, _Table(row, f"users.{n}"), defaults) for n, row in users.items()],
        keys=[_read_key(_Table(row, f"keys[{index}]")) for index, row in enumerate(keys)],
    )


def _check_names(text: str, place: str) -> None:
    """Reading TOML takes the square of the number of parts of a name, so a file of a few kilobytes
    could hold up its reader for minutes. Raises `ConfigurationInvalid`."""
    bare = STRING_OR_COMMENT.sub(lambda found: "\n" * found[0].count("\n"), text)
    for number, line in enumerate(bare.split("\n"), start=1):
        if any(name.count(".") > MAX_DOTS for name in NAME_END.split(line)):
            raise ConfigurationInvalid(f"{place}, line {number}: a name has too many parts.")


class _Table:
    """One table: each field is taken once, and what is left in the end is unknown."""

    def __init__(self, row: Any, place: str) -> None:
        if not isinstance(row, dict):
            raise ConfigurationInvalid(f"{place} must be a table.")
        self._row, self._place = dict(row), place

    def take(self, name: str, kind: type[T], default: T) -> T:
        value = self._row.pop(name, None)
        if value is None:
            return default
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(name, f"must be a {kind.__name__}")
        return value

    def take_names(self, name: str) -> frozenset[str] | None:
        if name not in self._row:
            return None
        words = self.take(name, list, [])
        if any(not isinstance(word, str) for word in words):
            raise self.error(name, "must be a list of texts")
        return frozenset(words)

    def take_word(self, name: str, parse: Callable[[str], T], known: str) -> T | None:
        text = self.take(name, str, "")
        if not text:
            return None
        try:
            return parse(text)
        except ValueError:
            raise self.error(name, f"takes {known}") from None

    def take_limits(self, defaults: Limits) -> Limits:
        """The defaults, with those of the table replaced."""
        found: dict[str, int | None] = {}
        for name in COUNTS:
            if name in self._row:
                found[name] = self._take_count(name)
        for name, field in BUDGETS.items():
            if name in self._row:
                found[field] = self.take_word(name, _parse_budget, AMOUNT)
        return replace(defaults, **found)

    def _take_count(self, name: str) -> int | None:
        value = self._row.pop(name)
        if value == UNLIMITED:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
            raise self.error(
                name, f'must be a whole number from 0 to {MAX_COUNT:,}, or "{UNLIMITED}"'
            )
        return value

    def take_time_ms(self, name: str) -> int | None:
        moment = self._row.pop(name, None)
        if moment is None:
            return None
        if isinstance(moment, date) and not isinstance(moment, datetime):
            moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
        if not isinstance(moment, datetime):
            raise self.error(name, "must be a day or time such as 2027-01-31T00:00:00Z")
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)

    def end(self) -> None:
        if self._row:
            raise ConfigurationInvalid(
                f"{self._place} has unknown fields: {', '.join(sorted(self._row))}."
            )

    def error(self, name: str, text: str) -> ConfigurationInvalid:
        return ConfigurationInvalid(f"{self._place}: {name} {text}.")


def _parse_budget(text: str) -> int | None:
    return None if text == UNLIMITED else parse_micros(text)


def _read_team(name: str, table: _Table) -> Team:
    team = Team(
        name=name,
        limits=table.take_limits(Limits()),
        created_ms=0,
        disabled_ms=0 if table.take("disabled", bool, False) else None,
        title=table.take("title", str, ""),
        models=table.take_names("models"),
        denied_models=table.take_names("denied_models") or frozenset(),
    )
    table.end()
    return team


def _read_user(name: str, table: _Table, defaults: Limits) -> User:
    user = User(
        name=name,
        limits=table.take_limits(defaults),
        created_ms=0,
        team=table.take("team", str, "") or None,
        cache=table.take_word("cache", CachePolicy, "off, private or shared"),
        response_format=table.take_word("response_format", ResponseFormat, "url, b64_json or both"),
        disabled_ms=0 if table.take("disabled", bool, False) else None,
        title=table.take("title", str, ""),
        service_account=table.take("service_account", bool, False),
    )
    table.end()
    return user


def _read_key(table: _Table) -> ApiKey:
    user, name = table.take("user", str, ""), table.take("name", str, "")
    if not user or not name:
        raise table.error("user", "and name are required")
    digest = table.take("digest", str, "").removeprefix("sha256:")
    if digest and DIGEST.fullmatch(digest) is None:
        raise table.error("digest", "must be the SHA-256 of a key, 64 hexadecimal digits")
    if digest in SAMPLE_DIGESTS:
        raise table.error("digest", "is that of a sample secret, which everybody knows")
    key = ApiKey(
        id="",
        user=user,
        digest=digest,
        name=name,
        limits=table.take_limits(Limits()),
        created_ms=0,
        expires_ms=table.take_time_ms("expires_at"),
        models=table.take_names("models"),
        response_format=table.take_word("response_format", ResponseFormat, "url, b64_json or both"),
        forwards_users=table.take("forwards_users", bool, False),
    )
    table.end()
    return key
