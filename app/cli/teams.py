"""`koi teams`: limits that several users share."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from app.cli.errors import require_change
from app.cli.options import AsJson, LimitChanges, Reason, parse_names
from app.cli.output import format_time, print_fields, print_json, print_line, print_table
from app.cli.raise_records import raise_text
from app.cli.raises import build_raise_command
from app.cli.records import (
    LIMIT_HEADINGS,
    NOBODY,
    changes_text,
    holder_status,
    limit_cells,
    limit_fields,
    limit_status_records,
    limits_text,
    models_text,
    print_limit_status,
    team_record,
)
from app.cli.session import run_operation
from app.domain.limits import Limits, LimitSnapshot
from app.domain.principal import CachePolicy, Principal, Team, at, build_scopes

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

teams = App(name="teams", help="Create, change and list teams and their limits.")
NO_LIMITS = LimitChanges()
teams.command(build_raise_command("team", "art"), name="raise")


@teams.command
def create(name: str, /, *, limits: LimitChanges = NO_LIMITS, json: AsJson = False) -> None:
    """Create a team; without limits only those of the deployment apply.

    Example: koi teams create art --images-per-month 5000
    """

    async def work(context: "OperatorContext") -> None:
        team = await context.changing(limits.reason).create_team(name, limits.apply_to(Limits()))
        _print_team(team, context, "Created", json)

    run_operation(work)


@teams.command(name="set")
def set_(name: str, /, *, limits: LimitChanges = NO_LIMITS, json: AsJson = False) -> None:
    """Change a team's limits; what is not named stays, `unlimited` clears.

    Example: koi teams set art --budget-per-month 900
    """

    require_change("teams set", limits.given, "--images-per-month 5000 or --budget-per-month 900")

    async def work(context: "OperatorContext") -> None:
        team = await context.keys.team(name)
        changed = await context.changing(limits.reason).set_team(name, limits.apply_to(team.limits))
        if json:
            print_json(team_record(changed, context.catalog.currency))
        else:
            text = changes_text(limit_fields(team.limits), limit_fields(changed.limits))
            print_line(f"Changed team {name}: {text}.")

    run_operation(work)


@teams.command(name="list")
def list_(*, json: AsJson = False) -> None:
    """List teams and their limits.

    Example: koi teams list
    """

    async def work(context: "OperatorContext") -> None:
        found = sorted(await context.keys.teams(), key=lambda team: team.name)
        if json:
            print_json([team_record(team, context.catalog.currency) for team in found])
        elif found:
            rows = [(team.name, holder_status(team), *limit_cells(team.limits)) for team in found]
            print_table(("team", "status", *LIMIT_HEADINGS), rows)
        else:
            print_line("No teams yet. Create one: koi teams create art")

    run_operation(work, changes=False)


@teams.command
def show(name: str, /, *, json: AsJson = False) -> None:
    """Show a team: limits, what is used and held of them, and members.

    Example: koi teams show art --json
    """

    async def work(context: "OperatorContext") -> None:
        team = at(await context.keyring.now_ms(), await context.keys.team(name))
        members = sorted(u.name for u in await context.keys.users() if u.team == name)
        limit_snapshot = await _limit_snapshot(context, team)
        currency = context.catalog.currency
        if json:
            record: dict[str, Any] = team_record(team, currency)
            print_json(
                record
                | {
                    "users": members,
                    "standing": limit_status_records(limit_snapshot, context.catalog),
                }
            )
            return
        created = format_time(team.created_ms)
        print_fields(
            {
                "team": team.name,
                "users": ", ".join(members),
                "title": team.title,
                "status": holder_status(team),
                "models": models_text(team),
                "created": created,
                "raised": team.raised and raise_text(team.raised),
            }
        )
        print_line()
        print_limit_status(limit_snapshot, context.catalog)

    run_operation(work, changes=False)


@teams.command
def disable(name: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """Let no key of a team's users work until `koi teams enable`.

    Example: koi teams disable art
    """
    _set_disabled(name, reason, json, disabled=True)


@teams.command
def enable(name: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """Let the keys of a disabled team's users work again.

    Example: koi teams enable art
    """
    _set_disabled(name, reason, json, disabled=False)


@teams.command
def archive(name: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """Put a team away: its users' keys are refused as `project_archived`, and nothing is lost.

    `koi teams restore` undoes it.

    Example: koi teams archive art --reason "The project is over."
    """

    async def work(context: "OperatorContext") -> None:
        _print_team(await context.changing(reason).archive_team(name), context, "Archived", json)

    run_operation(work)


@teams.command
def restore(name: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """Bring an archived team back, with its users, keys and limits.

    Example: koi teams restore art
    """

    async def work(context: "OperatorContext") -> None:
        _print_team(await context.changing(reason).restore_team(name), context, "Restored", json)

    run_operation(work)


@teams.command
def models(
    name: str,
    /,
    *,
    allow: Annotated[
        str | None, Parameter(help='Only these models, comma-separated, or "all".')
    ] = None,
    deny: Annotated[str | None, Parameter(help='None of these models, or "none".')] = None,
    reason: Reason = "",
    json: AsJson = False,
) -> None:
    """Say which models a team's keys may use; what is not named stays.

    A key's own list narrows the team's, never widens it.

    Example: koi teams models art --allow grok-imagine
             koi teams models art --allow all --deny none
    """
    allowed = None if allow in (None, "all") else parse_names("--allow", allow)
    denied = frozenset[str]() if deny in (None, "none") else parse_names("--deny", deny)

    async def work(context: "OperatorContext") -> None:
        before = await context.keys.team(name)
        team = await context.changing(reason).set_team_models(
            name,
            allowed=before.models if allow is None else allowed,
            denied=before.denied_models if deny is None else denied,
        )
        if json:
            print_json(team_record(team, context.catalog.currency))
        else:
            print_line(f"Team {name} may use: {models_text(team)}.")

    run_operation(work)


@teams.command
def delete(name: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """Take a team without users off the lists; the ledger keeps what was used.

    Example: koi teams delete art
    """

    async def work(context: "OperatorContext") -> None:
        await context.changing(reason).delete_team(name)
        if json:
            print_json({"name": name, "deleted": True})
        else:
            print_line(f"Deleted team {name}.")

    run_operation(work)


def _set_disabled(name: str, reason: str, json: bool, *, disabled: bool) -> None:
    async def work(context: "OperatorContext") -> None:
        team = await context.changing(reason).disable_team(name, disabled=disabled)
        _print_team(team, context, "Disabled" if disabled else "Enabled", json)

    run_operation(work)


async def _limit_snapshot(context: "OperatorContext", team: Team) -> LimitSnapshot:
    scopes = build_scopes(context.settings.house_limits, team=team)
    return await context.usage.read_limits(
        Principal(NOBODY, NOBODY, team.name, scopes, CachePolicy.OFF)
    )


def _print_team(team: Team, context: "OperatorContext", done: str, json: bool) -> None:
    if json:
        print_json(team_record(team, context.catalog.currency))
    else:
        print_line(f"{done} team {team.name}: {limits_text(team.limits)}.")
