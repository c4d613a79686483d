"""`koi stop-spending` and `koi resume`: the switch for the moment something goes wrong."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from app.cli.failure import misused
from app.cli.options import AsJson
from app.cli.out import say, say_json, time_text
from app.cli.session import in_office

if TYPE_CHECKING:
    from app.wiring import Office

User = Annotated[str | None, Parameter(help="Only this user.")]
Team = Annotated[str | None, Parameter(help="Only this team.")]


def stop_spending(
    *,
    reason: Annotated[str, Parameter(help="What callers are told.")],
    user: User = None,
    team: Team = None,
    json: AsJson = False,
) -> None:
    """Buy nothing any more, on every gateway at once: for everybody, a team or a user.

    Callers get a 403 `spending_stopped` with the reason. What runs is finished and charged, and
    cached pictures are answered. `koi resume` ends it; `koi doctor` shows what is stopped.

    Example: koi stop-spending --reason "The provider charges twice, we are on it."
             koi stop-spending --user ann --reason "A loop in your script."
    """

    async def work(office: "Office") -> None:
        stop = await office.keys.stop_spending(await _scope(office, user, team), reason)
        if json:
            say_json({"scope": stop.scope, "reason": stop.reason, "at": time_text(stop.at_ms)})
        else:
            say(f"Stopped spending of {_shown(stop.scope)}. End it with: {_resume(user, team)}")

    in_office(work)


def resume(*, user: User = None, team: Team = None, json: AsJson = False) -> None:
    """Let spending go on that `koi stop-spending` stopped.

    Example: koi resume
             koi resume --user ann
    """

    async def work(office: "Office") -> None:
        scope = await _scope(office, user, team)
        stopped = await office.keys.resume_spending(scope)
        if json:
            say_json({"scope": scope, "resumed": stopped})
        elif stopped:
            say(f"Spending of {_shown(scope)} goes on.")
        else:
            say(f"Spending of {_shown(scope)} was not stopped.")

    in_office(work)


async def _scope(office: "Office", user: str | None, team: str | None) -> str:
    if user is not None and team is not None:
        raise misused("Name a user or a team, not both.")
    if user is not None:
        return f"user:{(await office.keys.user(user)).name}"
    if team is not None:
        return f"team:{(await office.keys.team(team)).name}"
    return "house"


def _shown(scope: str) -> str:
    return "everybody" if scope == "house" else scope.replace(":", " ")


def _resume(user: str | None, team: str | None) -> str:
    given = f" --user {user}" if user else f" --team {team}" if team else ""
    return f"koi resume{given}"
