"""new-api's (and one-api's) users, groups and tokens: the answers of `/api/user/`, `/api/token/`,
`/api/group/` and `/api/status`, lists of rows, or the SQLite file."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from app.domain.limits import Limits
from app.domain.principal import ApiKey, Team, User
from app.moving.export import (
    ExportInvalid,
    ExportRow,
    ExportTables,
    is_sqlite,
    read_json,
    read_rows,
    read_sqlite,
)
from app.moving.terms import MovedAccounts, MovingTerms, choose_names, fit_title
from app.service.configuration import Configuration

IDS = {"users": "id", "tokens": "id", "options": "key"}
COLUMNS = {
    "users": ("id", "username", "display_name", "role", "status", "quota", "group", "deleted_at"),
    "tokens": (
        "id", "user_id", "name", "status", "expired_time", "remain_quota", "unlimited_quota",
        "model_limits_enabled", "model_limits", "allow_ips", "group", "deleted_at",
    ),
    "options": ("key", "value"),
}  # fmt: skip
MARKS = {"username": "users", "remain_quota": "tokens", "value": "options"}
"""A field that only rows of one table have."""
QUOTA_PER_DOLLAR = 500_000
ENABLED, DISABLED = 1, 2
ADMINISTRATOR = 10
"""The least role of an administrator."""
DEFAULT_GROUP = "default"
NEVER = -1
RATE_LIMIT = "ModelRequestRateLimitEnabled"


def read_new_api(paths: Sequence[Path], terms: MovingTerms) -> MovedAccounts:
    """Raises `ExportInvalid`, `OSError`."""
    tables = ExportTables(IDS)
    for path in paths:
        if is_sqlite(path):
            _add_rows(tables, read_sqlite(path, COLUMNS))
        else:
            _add_document(tables, read_json(path), str(path))
    tables.check_complete()
    if not any(True for table in ("users", "tokens") for _ in tables.items(table)):
        raise ExportInvalid("There are no users or tokens in these files.")
    return _NewApiAccounts(tables, terms).move()


def _add_rows(tables: ExportTables, found: dict[str, list[ExportRow]]) -> None:
    for table, rows in found.items():
        for row in rows:
            tables.add(table, row)


def _add_document(tables: ExportTables, document: Any, place: str) -> None:
    if isinstance(document, list):
        _add_list(tables, document, place)
        return
    if not isinstance(document, dict):
        raise ExportInvalid(f"{place} has no list of users or tokens.")
    if document.get("success") is False:
        raise ExportInvalid(f"{place} is an answer that refused: {document.get('message')!r}.")
    named = [table for table in IDS if isinstance(document.get(table), list)]
    for table in named:
        _add_rows(tables, {table: read_rows(document[table], f"{place}: {table}")})
    if not _add_data(tables, document.get("data"), f"{place}: data") and not named:
        raise ExportInvalid(f"{place} has no list of users or tokens.")


def _add_data(tables: ExportTables, data: Any, place: str) -> bool:
    """What an answer holds; whether it is anything known."""
    if isinstance(data, list):
        _add_list(tables, data, place)
    elif isinstance(data, dict) and "quota_per_unit" in data:
        unit = {"key": "QuotaPerUnit", "value": str(data["quota_per_unit"])}
        tables.add("options", ExportRow(unit, place))
    elif isinstance(data, dict) and isinstance(data.get("items"), list):
        _add_list(tables, data["items"], f"{place}.items", data.get("total"))
    else:
        return False
    return True


def _add_list(tables: ExportTables, values: list[Any], place: str, total: object = None) -> None:
    if all(isinstance(value, str) for value in values):
        return  # the names of groups; users say which they are in
    for row in read_rows(values, place):
        found = [table for mark, table in MARKS.items() if mark in row.fields]
        if not found:
            raise ExportInvalid(f"{row.place} is no user, token or option of new-api.")
        tables.add(found[0], row)
        tables.expect(found[0], total)


class _NewApiAccounts:
    def __init__(self, tables: ExportTables, terms: MovingTerms) -> None:
        self._tables, self._terms, self._remarks = tables, terms, terms.remarks
        self._users = {i: row for i, row in tables.items("users") if not _is_deleted(row)}
        self._tokens = {i: row for i, row in tables.items("tokens") if not _is_deleted(row)}
        self._names = choose_names(
            "user",
            {i: [row.text("username"), f"user-{i}"] for i, row in self._users.items()},
        )
        groups = [group for row in self._users.values() if (group := _group_of(row))]
        self._teams = choose_names(
            "group", {group: [group, f"group-{n}"] for n, group in enumerate(dict.fromkeys(groups))}
        )

    def move(self) -> MovedAccounts:
        teams = [
            Team(name=name, limits=Limits(), created_ms=0, title=fit_title(group, name))
            for group, name in self._teams.items()
        ]
        if teams:
            self._remarks.add("What a group costs and which channels it has: a team has no limits",
                              ", ".join(team.name for team in teams))  # fmt: skip
        option = self._tables.get("options", RATE_LIMIT)
        if option is not None and option.text("value") == "true":
            self._remarks.add("Rates of requests for all: see KOI_DEFAULT_REQUESTS_PER_MINUTE")
        users = [self._user(user_id, row) for user_id, row in self._users.items()]
        wanted = Configuration(teams=teams, users=users, keys=self._keys())
        return MovedAccounts(wanted, self._remarks.all)

    def _user(self, user_id: str, row: ExportRow) -> User:
        name = self._names[user_id]
        about = f"user {name}"
        if (row.count("role") or 0) >= ADMINISTRATOR:
            self._remarks.add("Administrators: see koi admin-keys", about)
        group = _group_of(row)
        return User(
            name=name,
            limits=self._balance(row, "quota", about),
            created_ms=0,
            team=self._teams[group] if group else None,
            disabled_ms=None if row.count("status") in (None, ENABLED) else 0,
            title=fit_title(row.text("display_name") or row.text("username"), name),
        )

    def _balance(self, row: ExportRow, field: str, about: str) -> Limits:
        quota = row.fields.get(field)
        if quota is None:
            return Limits()
        # An overdrawn balance is below 0.
        left = Decimal(0) if isinstance(quota, int) and quota < 0 else row.number(field)
        dollars = (left or Decimal(0)) / self._quota_per_dollar()
        window = self._terms.quota_window
        if window is None:
            self._remarks.add(
                "Balances that are used up, as limits here begin anew: give --quota-per month or "
                "day to have what is left as a budget",
                f"{about} (${dollars.normalize():f})",
            )
            return Limits()
        return Limits(**{window: self._terms.money(dollars, about)})

    def _quota_per_dollar(self) -> Decimal:
        option = self._tables.get("options", "QuotaPerUnit")
        if option is None:
            return Decimal(QUOTA_PER_DOLLAR)
        try:
            unit = Decimal(option.text("value"))
        except ArithmeticError:
            unit = Decimal(0)
        if not unit.is_finite() or unit <= 0:
            raise option.error("QuotaPerUnit", "must be a number above 0")
        return unit

    def _keys(self) -> list[ApiKey]:
        labels = Counter((r.text("user_id"), r.text("name")) for r in self._tokens.values())
        keys = []
        for token_id, row in self._tokens.items():
            user, label = self._names.get(row.text("user_id")), row.text("name") or "new-api"
            about = f"token {label} ({token_id})"
            if user is None:
                self._remarks.add("Tokens of users that are not in these files", about)
            elif not self._is_usable(row):
                self._remarks.add("Tokens that do not work any more: no new keys are made", about)
            else:
                twice = labels[row.text("user_id"), row.text("name")] > 1
                keys.append(self._key(user, f"{label} ({token_id})" if twice else label, row))
        return keys

    def _key(self, user: str, name: str, row: ExportRow) -> ApiKey:
        about = f"key {name} of {user}"
        if row.text("allow_ips"):
            self._remarks.add("Allowed IP addresses", about)
        owner = self._users[row.text("user_id")]
        if row.text("group") not in ("", owner.text("group")):
            self._remarks.add("A token's own group: here the user's team counts", about)
        models = None
        if row.flag("model_limits_enabled"):
            named = [name.strip() for name in row.text("model_limits").split(",")]
            models = self._terms.models(filter(None, named), about)
        unlimited = row.flag("unlimited_quota")
        return ApiKey(
            id="",
            user=user,
            digest="",
            name=name,
            limits=Limits() if unlimited else self._balance(row, "remain_quota", about),
            created_ms=0,
            expires_ms=_expires_ms(row),
            models=models,
        )

    def _is_usable(self, row: ExportRow) -> bool:
        # Status 3 and 4 only say that it expired or is used up.
        expires_ms = _expires_ms(row)
        is_over = expires_ms is not None and expires_ms <= self._terms.now_ms
        return row.count("status") != DISABLED and not is_over


def _group_of(row: ExportRow) -> str:
    group = row.text("group")
    return "" if group == DEFAULT_GROUP else group


def _is_deleted(row: ExportRow) -> bool:
    return row.has("DeletedAt") or row.has("deleted_at")


def _expires_ms(row: ExportRow) -> int | None:
    value = row.fields.get("expired_time")
    if value in (None, NEVER, 0):
        return None
    seconds = row.count("expired_time")
    return None if seconds is None else seconds * 1000
