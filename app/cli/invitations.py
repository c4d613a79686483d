"""`koi invite` and `koi invitations`: links that turn into a key, once."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from app.cli.errors import usage_error
from app.cli.options import AsJson, Reason, parse_duration
from app.cli.output import format_time, print_json, print_line, print_notice, print_table
from app.cli.session import run_operation
from app.domain.invitation import Invitation, InvitationStatus
from app.service.invitations import MAX_LIFE, invitation_path

if TYPE_CHECKING:
    from app.settings import Settings
    from app.wiring.operator import OperatorContext

invitations = App(name="invitations", help="List and withdraw invitation links.")


def invite(
    user: str,
    /,
    *,
    team: Annotated[str | None, Parameter(help="A team that exists, for a new user.")] = None,
    name: Annotated[str, Parameter(help="What the key will be called.")] = "",
    expires: Annotated[str, Parameter(help="How long the link works, such as 3d.")] = "7d",
    reason: Reason = "",
    json: AsJson = False,
) -> None:
    """Print a link that turns into a user's key, once.

    The user is created, with the default limits, when there is none. Send the link over a channel
    that you trust: whoever opens it first gets the key. The page shows the key only when a button
    is pressed, so a preview of the link uses nothing up.

    Example: koi invite ann --team design --expires 3d
    """
    life = parse_duration("--expires", expires)
    if not life or life > MAX_LIFE:
        raise usage_error("--expires must be longer than nothing and at most 366d.")

    async def work(context: "OperatorContext") -> None:
        made = context.invitations.acting_as(reason=reason)
        issued = await made.create(user, team=team, name=name, life=life)
        link = _public_origin(context.settings) + invitation_path(issued.token)
        if json:
            print_json({"url": link} | _record(issued.invitation, "open"))
        else:
            print_line(link)
            ends = format_time(issued.invitation.expires_ms)
            print_notice(f"{issued.invitation.id} for user {user}, until {ends}. Shown this once.")

    run_operation(work)


@invitations.command(name="list")
def list_(*, json: AsJson = False) -> None:
    """List invitations that did not become a key; their links cannot be shown again.

    Only an open one gives a key: not one of a user who was deleted, also when another has that name
    by now, is disabled, or was moved out of the team it was made for.

    Example: koi invitations list
    """

    async def work(context: "OperatorContext") -> None:
        invitations = await context.invitations.invitations()
        found = list(map(_record, invitations, await context.invitations.statuses(invitations)))
        if json:
            print_json(found)
        elif found:
            rows = [
                (r["id"], r["user"], r["name"], r["status"].replace("_", " "), r["expires_at"])
                for r in found
            ]
            print_table(("invitation", "user", "name", "status", "expires"), rows)
        else:
            print_line("No invitations. Make one: koi invite ann --expires 3d")

    run_operation(work, changes=False)


@invitations.command
def revoke(invitation_id: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """Withdraw an invitation: its link gives no key any more.

    Example: koi invitations revoke key_0123456789abcdef
    """

    async def work(context: "OperatorContext") -> None:
        revoked = await context.invitations.acting_as(reason=reason).revoke(invitation_id)
        if json:
            print_json(_record(revoked, "revoked"))
        else:
            print_line(f"Withdrew the invitation {revoked.id} of user {revoked.user}.")

    run_operation(work)


def _record(invitation: Invitation, status: InvitationStatus) -> dict[str, Any]:
    return {
        "id": invitation.id,
        "user": invitation.user,
        "name": invitation.name,
        "status": status,
        "created_at": format_time(invitation.created_ms),
        "expires_at": format_time(invitation.expires_ms),
        "revoked_at": format_time(invitation.revoked_ms),
    }


def _public_origin(settings: "Settings") -> str:
    """Where the page is: the public URL, or where this machine serves it."""
    if settings.public_url is not None:
        return settings.public_url.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"http://{settings.host}:{settings.port}"
