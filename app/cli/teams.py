"""`koi teams`: limits that several users share."""

from typing import TYPE_CHECKING, Any

from cyclopts import App

from app.cli.options import AsJson, LimitOptions
from app.cli.output import format_time, print_fields, print_json, print_line, print_table
from app.cli.records import (
    LIMIT_HEADINGS,
    NOBODY,
    changes_text,
    holder_status,
    limit_cells,
    limit_fields,
    limit_status_records,
    limits_text,
    print_limit_status,
    team_record,
)
from app.cli.session import run_operation
from app.domain.limits import Limits, LimitSnapshot
from app.domain.principal import CachePolicy, Principal, Team, build_scopes

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

teams = App(name="teams", help="Create, change and list teams and their limits.")
NO_LIMITS = LimitOptions()


@teams.command
def create(name: str, /, *, limits: LimitOptions = NO_LIMITS, json: AsJson = False) -> None:
    """Create a team; without limits only those of the deployment apply.

    Example: koi teams create art --images-per-month 5000
    """

    async def work(context: "OperatorContext") -> None:
        team = await context.keys.create_team(name, limits.apply_to(Limits()))
        _print_team(team, context, "Created", json)

    run_operation(work)


@teams.command(name="set")
def set_(name: str, /, *, limits: LimitOptions = NO_LIMITS, json: AsJson = False) -> None:
    """Change a team's limits; what is not named stays, `unlimited` clears.

    Example: koi teams set art --budget-per-month 900
    """

    async def work(context: "OperatorContext") -> None:
        team = await context.keys.team(name)
        changed = await context.keys.set_team(name, limits.apply_to(team.limits))
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
        team = await context.keys.team(name)
        members = sorted(u.name for u in await context.keys.users() if u.team == name)
        limit_snapshot = await _limit_snapshot(context, team)
        currency = context.catalog.currency
        if json:
            record: dict[str, Any] = team_record(team, currency)
            print_json(
                record
                | {"users": members, "standing": limit_status_records(limit_snapshot, currency)}
            )
            return
        created = format_time(team.created_ms)
        print_fields(
            {
                "team": team.name,
                "users": ", ".join(members),
                "status": holder_status(team),
                "created": created,
            }
        )
        print_line()
        print_limit_status(limit_snapshot)

    run_operation(work, changes=False)


@teams.command
def disable(name: str, /, *, json: AsJson = False) -> None:
    """Let no key of a team's users work until `koi teams enable`.

    Example: koi teams disable art
    """
    _set_disabled(name, json, disabled=True)


@teams.command
def enable(name: str, /, *, json: AsJson = False) -> None:
    """Let the keys of a disabled team's users work again.

    Example: koi teams enable art
    """
    _set_disabled(name, json, disabled=False)


@teams.command
def delete(name: str, /, *, json: AsJson = False) -> None:
    """Take a team without users off the lists; the ledger keeps what was used.

    Example: koi teams delete art
    """

    async def work(context: "OperatorContext") -> None:
        await context.keys.delete_team(name)
        if json:
            print_json({"name": name, "deleted": True})
        else:
            print_line(f"Deleted team {name}.")

    run_operation(work)


def _set_disabled(name: str, json: bool, *, disabled: bool) -> None:
    async def work(context: "OperatorContext") -> None:
        team = await context.keys.disable_team(name, disabled=disabled)
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
