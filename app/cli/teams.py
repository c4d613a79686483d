"""`koi teams`: limits that several users share."""

from typing import TYPE_CHECKING, Any

from cyclopts import App

from app.cli.options import AsJson, LimitOptions
from app.cli.out import say, say_fields, say_json, say_table, time_text
from app.cli.records import (
    LIMIT_HEADINGS,
    NOBODY,
    holder_status,
    limit_cells,
    limits_text,
    say_standing,
    standing_records,
    team_record,
)
from app.cli.session import in_office
from app.domain.limits import Limits, Scope, ScopeKind, Standing
from app.domain.principal import CachePolicy, Principal, Team

if TYPE_CHECKING:
    from app.wiring import Office

teams = App(name="teams", help="Create, change and list teams and their limits.")
NO_LIMITS = LimitOptions()


@teams.command
def create(name: str, /, *, limits: LimitOptions = NO_LIMITS, json: AsJson = False) -> None:
    """Create a team; without limits it may use what the house allows.

    Example: koi teams create art --images-per-month 5000
    """

    async def work(office: "Office") -> None:
        team = await office.keys.create_team(name, limits.over(Limits()))
        _say_team(team, office, "Created", json)

    in_office(work)


@teams.command(name="set")
def set_(name: str, /, *, limits: LimitOptions = NO_LIMITS, json: AsJson = False) -> None:
    """Change a team's limits; what is not named stays, `unlimited` clears.

    Example: koi teams set art --budget-per-month 900
    """

    async def work(office: "Office") -> None:
        team = await office.keys.team(name)
        changed = await office.keys.set_team(name, limits.over(team.limits))
        _say_team(changed, office, "Changed", json)

    in_office(work)


@teams.command(name="list")
def list_(*, json: AsJson = False) -> None:
    """List teams and their limits.

    Example: koi teams list
    """

    async def work(office: "Office") -> None:
        found = sorted(await office.keys.teams(), key=lambda team: team.name)
        if json:
            say_json([team_record(team, office.catalog.currency) for team in found])
        elif found:
            rows = [(team.name, holder_status(team), *limit_cells(team.limits)) for team in found]
            say_table(("team", "status", *LIMIT_HEADINGS), rows)
        else:
            say("No teams yet. Create one: koi teams create art")

    in_office(work)


@teams.command
def show(name: str, /, *, json: AsJson = False) -> None:
    """Show a team: limits, what is used and held of them, and members.

    Example: koi teams show art --json
    """

    async def work(office: "Office") -> None:
        team = await office.keys.team(name)
        members = sorted(u.name for u in await office.keys.users() if u.team == name)
        standing = await _standing(office, team)
        currency = office.catalog.currency
        if json:
            record: dict[str, Any] = team_record(team, currency)
            say_json(record | {"users": members, "standing": standing_records(standing, currency)})
            return
        created = time_text(team.created_ms)
        say_fields(
            {
                "team": team.name,
                "users": ", ".join(members),
                "status": holder_status(team),
                "created": created,
            }
        )
        say()
        say_standing(standing)

    in_office(work)


@teams.command
def disable(name: str, /, *, json: AsJson = False) -> None:
    """Let no key of a team's users work until `koi teams enable`.

    Example: koi teams disable art
    """
    _switch(name, json, disabled=True)


@teams.command
def enable(name: str, /, *, json: AsJson = False) -> None:
    """Let the keys of a disabled team's users work again.

    Example: koi teams enable art
    """
    _switch(name, json, disabled=False)


@teams.command
def delete(name: str, /, *, json: AsJson = False) -> None:
    """Take a team without users off the lists; the ledger keeps what was used.

    Example: koi teams delete art
    """

    async def work(office: "Office") -> None:
        await office.keys.delete_team(name)
        if json:
            say_json({"name": name, "deleted": True})
        else:
            say(f"Deleted team {name}.")

    in_office(work)


def _switch(name: str, json: bool, *, disabled: bool) -> None:
    async def work(office: "Office") -> None:
        team = await office.keys.disable_team(name, disabled=disabled)
        _say_team(team, office, "Disabled" if disabled else "Enabled", json)

    in_office(work)


async def _standing(office: "Office", team: Team) -> Standing:
    scopes = (
        Scope(ScopeKind.TEAM, team.name, team.limits),
        Scope(ScopeKind.HOUSE, "house", office.settings.house_limits),
    )
    return await office.usage.standing(
        Principal(NOBODY, NOBODY, team.name, scopes, CachePolicy.OFF)
    )


def _say_team(team: Team, office: "Office", done: str, json: bool) -> None:
    if json:
        say_json(team_record(team, office.catalog.currency))
    else:
        say(f"{done} team {team.name}: {limits_text(team.limits)}.")
