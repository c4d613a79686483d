"""`koi stop-spending` and `koi resume`: for the moment when something goes wrong."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from app.cli.errors import usage_error
from app.cli.options import AsJson, Reason, require_text
from app.cli.output import format_time, print_json, print_line, print_notice
from app.cli.session import run_operation

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

User = Annotated[str | None, Parameter(help="Only this user.")]
Team = Annotated[str | None, Parameter(help="Only this team.")]


def stop_spending(
    *,
    reason: Annotated[str, Parameter(help="What callers are told.")],
    user: User = None,
    team: Team = None,
    json: AsJson = False,
) -> None:
    """Buy nothing any more, on every gateway: for everybody, a team or a user.

    Callers get a 403 `spending_stopped` with the reason. What runs is finished and charged, and
    cached pictures are answered. `koi resume` ends it; `koi doctor` shows what is stopped.

    Example: koi stop-spending --reason "The provider charges twice, we are on it."
             koi stop-spending --user ann --reason "A loop in your script."
    """

    scope = _parse_scope(user, team)
    require_text("--reason", reason)

    async def work(context: "OperatorContext") -> None:
        await _require_known(context, user, team)
        stop = await context.changing(reason).stop_spending(scope, reason)
        if json:
            print_json({"scope": stop.scope, "reason": stop.reason, "at": format_time(stop.at_ms)})
        else:
            print_line(
                f"Stopped spending of {format_scope(scope)}. End it with: {resume_command(scope)}"
            )

    run_operation(work)


def resume(
    *, user: User = None, team: Team = None, reason: Reason = "", json: AsJson = False
) -> None:
    """Let spending go on that `koi stop-spending` stopped.

    Example: koi resume
             koi resume --user ann
    """

    scope = _parse_scope(user, team)

    async def work(context: "OperatorContext") -> None:
        # What is stopped may be resumed, also when nobody of that name is left.
        stopped = await context.changing(reason).resume_spending(scope)
        if not stopped:
            await _require_known(context, user, team)
        if json:
            print_json({"scope": scope, "resumed": stopped})
            return
        verdict = "goes on" if stopped else "was not stopped"
        print_line(f"Spending of {format_scope(scope)} {verdict}.")
        for stop in await context.keys.stops():
            still = format_scope(stop.scope)
            print_notice(
                f"Still stopped: {still} ({stop.reason}). End it with: {resume_command(stop.scope)}"
            )

    run_operation(work)


def _parse_scope(user: str | None, team: str | None) -> str:
    if user is not None and team is not None:
        raise usage_error("Name a user or a team, not both.")
    if user is not None:
        return f"user:{user}"
    return "house" if team is None else f"team:{team}"


async def _require_known(context: "OperatorContext", user: str | None, team: str | None) -> None:
    """Raises `UserUnknown`, `TeamUnknown`."""
    if user is not None:
        await context.keys.user(user)
    if team is not None:
        await context.keys.team(team)


def format_scope(scope: str) -> str:
    return "everybody" if scope == "house" else scope.replace(":", " ", 1)


def resume_command(scope: str) -> str:
    """The command that ends a stop."""
    kind, _, name = scope.partition(":")
    return f"koi resume --{kind} {name}" if name else "koi resume"
