"""`koi notices`: what the operator is told without asking."""

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from app.cli.errors import CommandFailed
from app.cli.options import AsJson
from app.cli.output import format_time, print_json, print_line, print_table
from app.cli.session import load_settings_as_owner, run_operation
from app.cli.webhooks import delivery_record
from app.domain.notices import NoticeKind, describe_notice
from app.domain.webhooks import Delivery, ReceiverUnreachable

if TYPE_CHECKING:
    from app.settings import Settings
    from app.wiring.operator import OperatorContext

notices = App(name="notices", help="Test and list the notices to the operator.")
NO_NOTICES = "No notices: they are listed for three days after their end."
NO_RECEIVER = (
    "KOI_NOTICE_WEBHOOK is not set, so notices are only listed; set it to the URL of your receiver."
)


@notices.command(name="test")
def send_test(*, json: AsJson = False) -> None:
    """Send one notice now, from here, and say what came back; exits 1 when it was not taken.

    Example: koi notices test
    """
    settings = load_settings_as_owner()
    if settings.notice_url is None:
        raise CommandFailed(NO_RECEIVER)
    status, answer = asyncio.run(_send_test(settings))
    taken = status is not None and 200 <= status < 300
    if json:
        print_json({"taken": taken, "status": status, "error": None if taken else answer})
    elif taken:
        print_line(f"The receiver took it: {answer}.")
    if not taken:
        raise CommandFailed(f"The receiver did not take the notice: {answer}.")


@notices.command(name="list")
def list_(
    *,
    limit: Annotated[int, Parameter(help="At most so many.")] = 50,
    json: AsJson = False,
) -> None:
    """List the notices of the last days, the newest first, and what became of them.

    Example: koi notices list
    """

    async def work(context: "OperatorContext") -> None:
        found = await context.deliveries.list_house_notices(max(limit, 1))
        if json:
            print_json([{**delivery_record(one), "text": describe(one)} for one in found])
        elif found:
            rows = [
                (format_time(one.created_ms), one.kind, one.state, describe(one)) for one in found
            ]
            print_table(("at", "kind", "status", "notice"), rows)
        else:
            print_line(NO_NOTICES)

    run_operation(work, changes=False, verify=False)


def describe(notice: Delivery) -> str:
    """Its sentence; the kind alone when a later version made it."""
    if notice.kind not in tuple(NoticeKind):
        return notice.kind
    return describe_notice(NoticeKind(notice.kind), notice.subject, notice.data)


async def _send_test(settings: "Settings") -> tuple[int | None, str]:
    from app.service.notice_forms import build_test_notice  # noqa: PLC0415 - rarely needed
    from app.wiring.deliveries import open_notice_receiver  # noqa: PLC0415

    async with AsyncExitStack() as stack:
        receiver = open_notice_receiver(stack, settings)
        notice = build_test_notice()
        try:
            status = await receiver.send(notice, notice.created_ms)
        except ReceiverUnreachable as error:
            return None, error.reason
    return status, f"it answered {status}"
