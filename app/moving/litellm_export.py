"""LiteLLM's exports: `/user/list`, `/team/list`, `/key/list?return_full_object=true`, or its tables
as JSON (`LiteLLM_UserTable`, …, `LiteLLM_BudgetTable`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.moving.export import ExportInvalid, ExportRow, ExportTables, read_json, read_rows

IDS = {"users": "user_id", "teams": "team_id", "keys": "token", "budgets": "budget_id"}
CONTAINERS = {
    **{name: name for name in IDS},
    "LiteLLM_UserTable": "users",
    "LiteLLM_TeamTable": "teams",
    "LiteLLM_VerificationToken": "keys",
    "LiteLLM_BudgetTable": "budgets",
}


def read_litellm_tables(paths: Sequence[Path]) -> ExportTables:
    """Raises `ExportInvalid`, `OSError`."""
    tables = ExportTables(IDS)
    for path in paths:
        _add_document(tables, read_json(path), str(path))
    tables.check_complete()
    if not len(tables):
        raise ExportInvalid("There are no users, teams or keys in these files.")
    return tables


def _add_document(tables: ExportTables, document: Any, place: str) -> None:
    if isinstance(document, list):
        for row in read_rows(document, place):
            tables.add(_table_of(row), row)
        return
    found = [name for name in CONTAINERS if isinstance(document, dict) and name in document]
    if not found:
        raise ExportInvalid(f"{place} has no list of users, teams or keys.")
    for name in found:
        values = document[name]
        if not isinstance(values, list):
            raise ExportInvalid(f"{place}: {name} must be a list.")
        if name == "keys" and any(isinstance(value, str) for value in values):
            raise ExportInvalid(
                f"{place}: keys are only hashes; ask with /key/list?return_full_object=true."
            )
        tables.expect(CONTAINERS[name], document.get("total", document.get("total_count")))
        for row in read_rows(values, f"{place}: {name}"):
            tables.add(CONTAINERS[name], row)


def _table_of(row: ExportRow) -> str:
    """A key also has the ids of its user and team."""
    for table in ("keys", "teams", "users", "budgets"):
        # Users have had a `team_id` of their own.
        if IDS[table] in row.fields and not (table == "teams" and "user_id" in row.fields):
            return table
    raise ExportInvalid(f"{row.place} is no user, team or key: it has no user_id, team_id, token.")
