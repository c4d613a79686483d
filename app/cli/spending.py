"""`koi stop-spending` and `koi resume`: the switch for the moment something goes wrong."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from app.cli.failure import misused
from app.cli.options import AsJson, filled
from app.cli.out import note, say, say_json, time_text
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

    scope = _named(user, team)
    filled("--reason", reason)

    async def work(office: "Office") -> None:
        await _check(office, user, team)
        stop = await office.keys.stop_spending(scope, reason)
        if json:
            say_json({"scope": stop.scope, "reason": stop.reason, "at": time_text(stop.at_ms)})
        else:
            say(f"Stopped spending of {shown_scope(scope)}. End it with: {resuming(scope)}")

    in_office(work)


def resume(*, user: User = None, team: Team = None, json: AsJson = False) -> None:
    """Let spending go on that `koi stop-spending` stopped.

    Example: koi resume
             koi resume --user ann
    """

    scope = _named(user, team)

    async def work(office: "Office") -> None:
        # What is stopped may be resumed, also when nobody of that name is left.
        stopped = await office.keys.resume_spending(scope)
        if not stopped:
            await _check(office, user, team)
        if json:
            say_json({"scope": scope, "resumed": stopped})
            return
        verdict = "goes on" if stopped else "was not stopped"
        say(f"Spending of {shown_scope(scope)} {verdict}.")
        for stop in await office.keys.stops():
            still = shown_scope(stop.scope)
            note(f"Still stopped: {still} ({stop.reason}). End it with: {resuming(stop.scope)}")

    in_office(work)


def _named(user: str | None, team: str | None) -> str:
    if user is not None and team is not None:
        raise misused("Name a user or a team, not both.")
    if user is not None:
        return f"user:{user}"
    return "house" if team is None else f"team:{team}"


async def _check(office: "Office", user: str | None, team: str | None) -> None:
    """Raises `UserUnknown`, `TeamUnknown`."""
    if user is not None:
        await office.keys.user(user)
    if team is not None:
        await office.keys.team(team)


def shown_scope(scope: str) -> str:
    return "everybody" if scope == "house" else scope.replace(":", " ", 1)


def resuming(scope: str) -> str:
    """The command that ends a stop."""
    kind, _, name = scope.partition(":")
    return f"koi resume --{kind} {name}" if name else "koi resume"
