"""LiteLLM's users, teams and keys as users, teams and keys of Koi."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.domain.limits import Limits
from app.domain.principal import ApiKey, Team, User
from app.moving.export import ExportRow, ExportTables
from app.moving.litellm_export import read_litellm_tables
from app.moving.terms import DAY, MONTH, MovedAccounts, MovingTerms, choose_names, fit_title
from app.service.configuration import Configuration

WINDOWS = {
    **dict.fromkeys(("1d", "24h", "1440m", "86400s"), DAY),
    **dict.fromkeys(("1mo", "30d"), MONTH),
}
"""Budgets of 30 days begin anew on the first of a month there too."""
ALL_MODELS = frozenset({"*", "all-proxy-models", "all-team-models"})
NO_MODELS = "no-default-models"
DASHBOARD_TEAM = "litellm-dashboard"
"""Of the keys that its page makes when somebody signs in."""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
ADMINISTRATORS = ("proxy_admin", "proxy_admin_viewer")
WITHOUT_COUNTERPART = {
    "tpm_limit": "Tokens per minute: pictures have none",
    "soft_budget": "Soft budgets: see spend alerts",
    "model_max_budget": "Budgets by model",
    "budget_limits": "Budgets with several windows, or by model",
    "organization_id": "Organizations and their budgets",
    "project_id": "Projects between team and key, and their budgets",
    "aliases": "A key's own names for models",
    "allowed_routes": "Allowed routes",
    "policies": "Policies",
    "object_permission_id": "Permissions for MCP servers, vector stores and agents",
}
METADATA_WITHOUT_COUNTERPART = {
    "model_rpm_limit": "Requests per minute by model",
    "model_tpm_limit": "Tokens per minute: pictures have none",
    "guardrails": "Guardrails",
}


def read_litellm(paths: Sequence[Path], terms: MovingTerms) -> MovedAccounts:
    """Raises `ExportInvalid`, `OSError`."""
    return _LiteLLMAccounts(read_litellm_tables(paths), terms).move()


class _LiteLLMAccounts:
    def __init__(self, tables: ExportTables, terms: MovingTerms) -> None:
        self._tables, self._terms, self._remarks = tables, terms, terms.remarks
        self._keys = {
            token: row
            for token, row in tables.items("keys")
            if row.text("team_id") != DASHBOARD_TEAM
        }
        self._teams = {
            team_id: row for team_id, row in tables.items("teams") if team_id != DASHBOARD_TEAM
        }
        self._team_names = choose_names(
            "team", {i: [row.text("team_alias"), i] for i, row in self._teams.items()}
        )
        self._memberships = self._list_memberships()
        self._people = self._list_people()
        self._machines = {
            token: row
            for token, row in self._keys.items()
            if not row.text("user_id") and row.text("team_id") in self._teams
        }
        self._names = choose_names("user", self._name_candidates())

    def move(self) -> MovedAccounts:
        users = [self._user(user_id, row) for user_id, row in self._people.items()]
        users += [self._machine(token, row) for token, row in self._machines.items()]
        for _, row in (*self._tables.items("users"), *self._teams.items(), *self._keys.items()):
            if row.number("spend"):
                self._remarks.add("What was spent so far: Koi counts from zero")
        teams = [self._team(team_id, row) for team_id, row in self._teams.items()]
        wanted = Configuration(teams=teams, users=users, keys=self._wanted_keys())
        return MovedAccounts(wanted, self._remarks.all)

    def _list_memberships(self) -> dict[str, list[str]]:
        """User id -> ids of their teams."""
        found: dict[str, list[str]] = {}
        pairs = [
            (member.text("user_id"), team_id)
            for team_id, row in self._teams.items()
            for member in row.rows("members_with_roles")
        ]
        for user_id, row in self._tables.items("users"):
            pairs += [(user_id, team_id) for team_id in row.names("teams")]
        for user_id, team_id in pairs:
            if team_id in self._teams and team_id not in found.setdefault(user_id, []):
                found[user_id].append(team_id)
        return found

    def _list_people(self) -> dict[str, ExportRow]:
        people = dict(self._tables.items("users"))
        named = [user_id for user_id in self._memberships if user_id]
        named += [user_id for row in self._keys.values() if (user_id := row.text("user_id"))]
        for user_id in named:
            if user_id not in people:
                people[user_id] = ExportRow({}, user_id)
                self._remarks.add(
                    "Named by a key or team only, so the default limits are theirs", user_id
                )
        return people

    def _name_candidates(self) -> dict[str, list[str]]:
        candidates = {}
        for user_id, row in self._people.items():
            plain = [] if UUID.fullmatch(user_id) else [user_id]
            candidates[user_id] = [*plain, row.text("user_email"), user_id]
        for token, row in self._machines.items():
            team = self._team_names[row.text("team_id")]
            candidates[token] = [row.text("key_alias"), f"{team}-{token[:8]}"]
        return candidates

    def _team(self, team_id: str, row: ExportRow) -> Team:
        name = self._team_names[team_id]
        about = f"team {name}"
        for member in row.rows("team_memberships"):
            if member.row("litellm_budget_table").has("max_budget"):
                self._remarks.add("A member's own budget within a team", about)
        return Team(
            name=name,
            limits=self._limits(row, about),
            created_ms=0,
            disabled_ms=0 if row.flag("blocked") else None,
            title=fit_title(row.text("team_alias"), name),
            models=self._models(row.names("models"), about),
        )

    def _user(self, user_id: str, row: ExportRow) -> User:
        name = self._names[user_id]
        about = f"user {name}"
        if row.text("user_role") in ADMINISTRATORS:
            self._remarks.add("Administrators: see koi admin-keys", about)
        if self._models(row.names("models"), about) is not None:
            self._remarks.add("A user's models: here they are those of their new keys", about)
        return User(
            name=name,
            limits=self._limits(row, about),
            created_ms=0,
            team=self._team_of(user_id),
            title=fit_title(row.text("user_alias") or row.text("user_email"), name),
        )

    def _machine(self, token: str, row: ExportRow) -> User:
        """A key of a team and of nobody in it."""
        name = self._names[token]
        return User(
            name=name,
            limits=Limits(),
            created_ms=0,
            team=self._team_names[row.text("team_id")],
            title=fit_title(row.text("key_alias"), name),
            service_account=True,
        )

    def _team_of(self, user_id: str) -> str | None:
        teams = self._memberships.get(user_id, [])
        if len(teams) > 1:
            used = {r.text("team_id") for r in self._keys.values() if r.text("user_id") == user_id}
            teams = [team for team in teams if {team} == used]
            if not teams:
                self._remarks.add(
                    "In several teams, and here a user is in one: in none of them now, until "
                    "koi users set NAME --team TEAM",
                    f"user {self._names[user_id]}",
                )
        return self._team_names[teams[0]] if teams else None

    def _limits(self, row: ExportRow, about: str) -> Limits:
        for name, sentence in WITHOUT_COUNTERPART.items():
            if row.has(name):
                self._remarks.add(sentence, about)
        for name, sentence in METADATA_WITHOUT_COUNTERPART.items():
            if row.row("metadata").has(name):
                self._remarks.add(sentence, about)
        budget = self._with_budget_row(row)
        found: dict[str, int | None] = {
            "requests_per_minute": budget.limit("rpm_limit"),
            "concurrency": budget.limit("max_parallel_requests"),
        }
        amount, duration = budget.number("max_budget"), budget.text("budget_duration")
        if amount is not None and duration in WINDOWS:
            found[WINDOWS[duration]] = self._terms.money(amount, about)
        elif amount is not None:
            every = f"every {duration}" if duration else "once and never again"
            self._remarks.add(f"Budgets that are given {every}", f"{about} (${amount})")
        return Limits(**found)

    def _with_budget_row(self, row: ExportRow) -> ExportRow:
        """What the row leaves open, its budget says, inside it or in a table of its own."""
        inner: Mapping[str, Any] = row.row("litellm_budget_table").fields
        table = self._tables.get("budgets", row.text("budget_id"))
        outer = table.fields if table is not None else {}
        own = {name: value for name, value in row.fields.items() if value is not None}
        return ExportRow({**outer, **inner, **own}, row.place)

    def _models(self, names: Sequence[str], about: str) -> frozenset[str] | None:
        if not names or ALL_MODELS & set(names):
            return None
        return self._terms.models((name for name in names if name != NO_MODELS), about)

    def _wanted_keys(self) -> list[ApiKey]:
        labels = Counter((self._owner_of(t, r), _label(r)) for t, r in self._keys.items())
        keys = []
        for token, row in self._keys.items():
            owner, label = self._owner_of(token, row), _label(row)
            about = f"key {label}"
            if owner is None:
                self._remarks.add("Keys of nobody and no team", about)
            elif row.flag("blocked") or self._is_over(row):
                self._remarks.add("Blocked and expired keys: no new ones are made", about)
            else:
                name = f"{label} ({token[:8]})" if labels[owner, label] > 1 else label
                keys.append(self._key(owner, name, row))
        return keys

    def _key(self, owner: str, name: str, row: ExportRow) -> ApiKey:
        about = f"key {name} of {owner}"
        person = self._people.get(row.text("user_id"))
        team = self._team_names.get(row.text("team_id"))
        if person is not None and team and team != self._team_of(row.text("user_id")):
            self._remarks.add("Keys of another team than their user's: here that one counts", about)
        models = row.names("models")
        if not models and person is not None and not row.text("team_id"):
            models = person.names("models")
        return ApiKey(
            id="",
            user=owner,
            digest="",
            name=name,
            limits=self._limits(row, about),
            created_ms=0,
            expires_ms=_parse_ms(row, "expires"),
            models=self._models(models, about),
        )

    def _owner_of(self, token: str, row: ExportRow) -> str | None:
        user_id = row.text("user_id")
        return self._names.get(user_id or token)

    def _is_over(self, row: ExportRow) -> bool:
        expires_ms = _parse_ms(row, "expires")
        return expires_ms is not None and expires_ms <= self._terms.now_ms


def _label(row: ExportRow) -> str:
    return row.text("key_alias") or row.text("key_name") or "litellm"


def _parse_ms(row: ExportRow, name: str) -> int | None:
    text = row.text(name)
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise row.error(name, "must be a time such as 2027-01-31T00:00:00Z") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
