"""`koi webhooks`: deliveries to users' own URLs, and the secrets that sign them."""

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from app.cli.options import AsJson
from app.cli.output import format_time, print_json, print_line, print_notice, print_table
from app.cli.session import run_operation
from app.cli.webhook_options import open_webhooks
from app.domain.webhooks import Delivery

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

webhooks = App(
    name="webhooks", help="Look at deliveries of webhooks, send them again, show the secret."
)
NO_DELIVERIES = "No deliveries: they are listed for three days after their end."
HEADINGS = ("delivery", "user", "created", "event", "task", "status", "tries", "answer", "url")


@webhooks.command(name="list")
def list_(
    *,
    user: Annotated[str | None, Parameter(help="Only this user's.")] = None,
    failed: Annotated[bool, Parameter(help="Only those whose latest try failed.")] = False,
    limit: Annotated[int, Parameter(help="At most so many of each user.")] = 50,
    json: AsJson = False,
) -> None:
    """List deliveries, the newest first.

    Example: koi webhooks list --user ann --failed
    """

    async def work(context: "OperatorContext") -> None:
        if user is not None:
            await context.keys.user(user)
        names = [user] if user is not None else await context.deliveries.users()
        found = [
            delivery
            for name in names
            for delivery in await context.deliveries.list_newest(name, max(limit, 1), failed=failed)
        ]
        found.sort(key=lambda delivery: delivery.created_ms, reverse=True)
        if json:
            print_json([delivery_record(delivery) for delivery in found])
        elif found:
            print_table(HEADINGS, [_row(delivery) for delivery in found])
        else:
            print_line(NO_DELIVERIES)

    run_operation(work, changes=False)


@webhooks.command
def redeliver(delivery_id: str, /, *, json: AsJson = False) -> None:
    """Send a delivery again, whatever became of it; a running gateway does it.

    Example: koi webhooks redeliver msg_0123456789abcdef0123456789abcdef
    """

    async def work(context: "OperatorContext") -> None:
        delivery = await open_webhooks(context).redeliver(delivery_id)
        if json:
            print_json(delivery_record(delivery))
        else:
            print_line(f"{delivery.id} is due now; `koi webhooks list` says how it goes.")

    run_operation(work, verify=False)


@webhooks.command
def secret(
    *,
    user: Annotated[str, Parameter(help="Whose secret.")],
    rotate: Annotated[
        bool, Parameter(help="Make a new one; the old one signs too for a day.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show the secret that signs a user's webhooks; it is made when it is first asked for.

    Example: koi webhooks secret --user ann
             koi webhooks secret --user ann --rotate
    """

    async def work(context: "OperatorContext") -> None:
        use_cases, actor = open_webhooks(context), context.actor
        shown = await (use_cases.rotate_secret if rotate else use_cases.read_secret)(user, actor)
        until = format_time(shown.until_ms)
        if json:
            print_json({"user": user, "secret": shown.secret, "previous_signs_until": until})
            return
        print_line(shown.secret)
        if until:
            print_notice(f"The secret before it signs too until {until}.")

    run_operation(work)


def delivery_record(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "user": delivery.user,
        "type": delivery.kind,
        "task_id": delivery.job_id,
        "url": delivery.url,
        "status": delivery.state,
        "tries": delivery.tries,
        "response_status": delivery.status,
        "error": delivery.error,
        "created_at": format_time(delivery.created_ms),
        "ended_at": format_time(delivery.ended_ms),
        "next_try_at": format_time(delivery.due_ms),
    }


def _row(delivery: Delivery) -> tuple[object, ...]:
    return (
        delivery.id,
        delivery.user,
        format_time(delivery.created_ms),
        delivery.kind,
        delivery.job_id,
        delivery.state,
        delivery.tries,
        delivery.error or delivery.status or "",
        delivery.url,
    )
