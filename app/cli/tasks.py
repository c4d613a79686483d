"""`koi tasks`: the operator's view of jobs, all users' or one's."""

from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

from cyclopts import App, Parameter, validators

from app.cli.attribution_options import SourceOptions
from app.cli.errors import CommandFailed, usage_error
from app.cli.options import SINCE_HELP, AsJson, Reason, parse_time_ms
from app.cli.output import (
    JsonRecord,
    print_fields,
    print_json,
    print_line,
    print_notice,
    print_table,
)
from app.cli.records import job_record
from app.cli.session import run_operation
from app.cli.task_search import TaskFilter, find_expired_task, find_tasks
from app.domain.errors import TaskNotCancellable, TaskNotFound
from app.service.job_search import STATUSES, UNKNOWN_STATE

if TYPE_CHECKING:
    from app.wiring.operator import OperatorContext

tasks = App(name="tasks", help="Look at tasks.")
Limit = Annotated[int, Parameter(help="How many, at most.", validator=validators.Number(gte=1))]


@tasks.command(name="list")
def list_(
    *,
    scopes: SourceOptions | None = None,
    status: Annotated[str | None, Parameter(help=f"Only {', '.join(STATUSES)}.")] = None,
    since: Annotated[str | None, Parameter(help=SINCE_HELP)] = None,
    limit: Limit = 20,
    json: AsJson = False,
) -> None:
    """List tasks, newest first.

    Of those whose record has expired (KOI_TASK_TTL_S) the ledger knows when they were sent, how
    they ended and what was charged.

    Example: koi tasks list --user alice --limit 5
             koi tasks list --status failed --since yesterday --team blue
             koi tasks list --tag autumn-campaign
    """
    if status is not None and status not in STATUSES:
        raise usage_error(f"--status must be one of {', '.join(STATUSES)}; not {status!r}.")
    options = scopes or SourceOptions()
    names, said = options.selected, options.said

    async def work(context: "OperatorContext") -> None:
        zone = ZoneInfo(context.settings.timezone)
        since_ms = 0 if since is None else parse_time_ms("--since", since, zone)
        wanted = TaskFilter(
            status, since_ms, users=names.users, teams=names.teams, keys=names.keys,
            projects=said.projects, tags=said.tags, end_users=said.end_users, limit=limit,
        )  # fmt: skip
        found, notes = await find_tasks(context, wanted)
        if not found:
            await options.require_known(context.keyring)
        if json:
            print_json(found)
        elif found:
            headings = ("status", "state", "user", "model", "n", "created_at")
            rows = [_row(record, headings) for record in found]
            print_table(("task", *headings[:-1], "created", "error"), rows)
        else:
            print_line("No tasks.")
        for sentence in notes:
            print_notice(sentence)

    run_operation(work, activity="Reading the ledger", changes=False)


@tasks.command
def show(task_id: str, /, *, json: AsJson = False) -> None:
    """Show one task: its states, its money and what the provider calls it.

    Of one whose record has expired it shows what the ledger knows.

    Example: koi tasks show task_0123456789abcdef0123456789abcdef
    """

    async def work(context: "OperatorContext") -> None:
        job = await context.ledger.job(task_id)
        currency = context.catalog.currency
        record = job_record(job, currency) if job else await find_expired_task(context, task_id)
        if record is None:
            raise CommandFailed(f"There is no task {task_id!r}, and the ledger knows of none.")
        if json:
            print_json(record)
        else:
            print_fields(_flat(record))

    run_operation(work, activity="Reading the ledger", changes=False)


@tasks.command
def cancel(task_id: str, /, *, reason: Reason = "", json: AsJson = False) -> None:
    """Cancel a task that nothing was sent of yet; nothing is charged.

    Example: koi tasks cancel task_0123456789abcdef0123456789abcdef
    """

    async def work(context: "OperatorContext") -> None:
        try:
            job = await context.cancel(task_id, reason)
        except (TaskNotFound, TaskNotCancellable):
            raise CommandFailed(f"There is no task {task_id!r} that was not sent yet.") from None
        if json:
            print_json(job_record(job, context.catalog.currency))
        else:
            print_line(f"Cancelled {task_id}; nothing was charged.")

    run_operation(work)


def _flat(record: JsonRecord) -> JsonRecord:
    cost, error = record["cost"], record["error"]
    return {
        **record,
        "cost": _cost_text(cost),
        "held": _hold_text(record),
        "error": ": ".join(filter(None, (error["code"], error["message"]))) if error else None,
        "pictures": ", ".join(record["pictures"]),
        "calls": ", ".join(record["calls"]),
        "upstream": ", ".join(_upstream_text(part) for part in record["upstream"]),
    }


def _cost_text(cost: JsonRecord | None) -> str:
    return f"{cost['value']} {cost['currency']}" if cost else "unknown"


def _hold_text(record: JsonRecord) -> str | None:
    held = record["held"]
    if held is None:
        return None
    count = f"{held['images']} {'image' if held['images'] == 1 else 'images'}"
    until = "it ends"
    if record["state"] == UNKNOWN_STATE:
        until = "evidence comes, or KOI_RESOLVE_AFTER_S charges it as presumed"
    return f"{count}, {_cost_text(held['cost'])}, until {until}"


def _upstream_text(part: JsonRecord) -> str:
    if part["id"] is not None:
        return str(part["id"])
    return "sent, no task id came back" if part["sent"] else "not sent"


def _row(record: JsonRecord, headings: tuple[str, ...]) -> tuple[object, ...]:
    code = record["error"]["code"] if record["error"] else None
    return (record["id"], *(record[name] for name in headings), code)
