"""`koi admin-keys`: who may administer this deployment over HTTP."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from app.cli.errors import EXIT_FAILED, usage_error
from app.cli.options import AsJson, Reason, parse_duration, parse_names
from app.cli.output import format_time, print_json, print_line, print_notice, print_table
from app.cli.session import run_operation
from app.domain.administration import AdminKey, AdminScope

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

admin_keys = App(name="admin-keys", help="Issue, list and revoke keys for the administration API.")


@admin_keys.command
def create(
    name: str,
    /,
    *,
    scopes: Annotated[str, Parameter(help="Of read, people, money and all, comma-separated.")],
    team: Annotated[str | None, Parameter(help="The one team that it may act on.")] = None,
    expires: Annotated[str | None, Parameter(help="When it ends, such as 90d or 12h.")] = None,
    reason: Reason = "",
    json: AsJson = False,
) -> None:
    """Issue an admin key. It is printed once.

    Every admin key may read. `people` also changes teams, users and their keys; `money` limits,
    model permissions and the spending stop; `all` everything, admin keys too. With --team the key
    acts on one team's users, keys, jobs and usage, within the team's limits.

    Example: koi admin-keys create dashboard --scopes read
             koi admin-keys create onboarding --scopes people --expires 90d
             koi admin-keys create design-lead --scopes people,money --team design
    """
    chosen = _parse_scopes(scopes)
    expires_in = None if expires is None else parse_duration("--expires", expires)
    if expires is not None and not expires_in:
        raise usage_error("--expires must be longer than nothing.")

    async def work(context: "OperatorContext") -> None:
        keys = context.admin_keys.acting_as(reason=reason)
        issued = await keys.issue(name, chosen, expires_in, team)
        if json:
            now_ms = await context.keyring.now_ms()
            print_json({"key": issued.secret} | _record(issued.key, now_ms))
        else:
            print_line(issued.secret)
            print_notice(f"{issued.key.id} ({name}). Keep the key: it is not shown again.")

    run_operation(work)


@admin_keys.command(name="list")
def list_(*, json: AsJson = False) -> None:
    """List admin keys; secrets are not stored and cannot be shown again.

    Example: koi admin-keys list
    """

    async def work(context: "OperatorContext") -> None:
        otherwise = "No admin keys yet. Create one: koi admin-keys create ci --scopes read"
        await _print_keys(await context.admin_keys.keys(), context, json, otherwise)

    run_operation(work, changes=False)


@admin_keys.command
def whose(
    ending: Annotated[str, Parameter(allow_leading_hyphen=True)], /, *, json: AsJson = False
) -> int:
    """Find an admin key by its last characters (four at least), or by all of it; exits 1 without.

    "-" reads it from standard input, so that a whole key stays out of the shell's history.

    Example: koi admin-keys whose …3f9a
             pbpaste | koi admin-keys whose -
    """
    text = sys.stdin.readline() if ending == "-" else ending

    async def work(context: "OperatorContext") -> int:
        found = await context.admin_keys.find_by_secret(text)
        otherwise = "No admin key ends like that; keys of users: koi keys whose"
        await _print_keys(found, context, json, otherwise)
        return 0 if found else EXIT_FAILED

    return run_operation(work, changes=False)


@admin_keys.command
def revoke(key_id: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """End an admin key for good; gateways notice within five seconds.

    Example: koi admin-keys revoke admkey_0123456789abcdef
    """

    async def work(context: "OperatorContext") -> None:
        key = await context.admin_keys.acting_as(reason=reason).revoke(key_id)
        if json:
            print_json(_record(key, await context.keyring.now_ms()))
        else:
            print_line(f"Revoked {key.id} ({key.name}).")

    run_operation(work)


async def _print_keys(
    found: Sequence[AdminKey], context: "OperatorContext", json: bool, otherwise: str
) -> None:
    now_ms, used = await context.keyring.now_ms(), await context.keyring.last_used()
    records = [_record(key, now_ms, used.get(key.id)) for key in found]
    if json:
        print_json(records)
    elif found:
        headings = ("key", "ends in", "name", "scopes", "team", "status", "last used", "expires")
        print_table(headings, [_row(record) for record in records])
    else:
        print_line(otherwise)


def _parse_scopes(text: str) -> frozenset[AdminScope]:
    words = parse_names("--scopes", text)
    if not words.issubset(tuple(AdminScope)):
        raise usage_error(f"--scopes takes: {', '.join(AdminScope)}.")
    return frozenset(map(AdminScope, words))


def _status(key: AdminKey, now_ms: int) -> str:
    if key.revoked_ms is not None:
        return "revoked"
    return "active" if key.is_usable(now_ms) else "expired"


def _record(key: AdminKey, now_ms: int, used_ms: int | None = None) -> dict[str, Any]:
    return {
        "key_id": key.id,
        "ending": key.ending,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "team": key.team,
        "status": _status(key, now_ms),
        "created_at": format_time(key.created_ms),
        "expires_at": format_time(key.expires_ms),
        "revoked_at": format_time(key.revoked_ms),
        "last_used_at": format_time(used_ms),
    }


def _row(record: dict[str, Any]) -> tuple[object, ...]:
    return (
        record["key_id"],
        record["ending"],
        record["name"],
        ", ".join(record["scopes"]),
        record["team"] or "",
        record["status"],
        record["last_used_at"] or "never",
        record["expires_at"],
    )
