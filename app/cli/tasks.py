"""`koi tasks`: the operator's view of jobs, all users' or one's."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter, validators

from app.cli.failure import CommandFailed
from app.cli.options import AsJson
from app.cli.out import say, say_fields, say_json, say_table, time_text
from app.cli.records import job_record
from app.cli.session import in_office
from app.domain.job import Job

if TYPE_CHECKING:
    from app.wiring import Office

tasks = App(name="tasks", help="Look at tasks.")
Limit = Annotated[int, Parameter(help="How many, at most.", validator=validators.Number(gte=1))]


@tasks.command(name="list")
def list_(
    *,
    user: Annotated[str | None, Parameter(help="Only this user's.")] = None,
    limit: Limit = 20,
    json: AsJson = False,
) -> None:
    """List tasks, newest first, for as long as they are kept (KOI_TASK_TTL_S).

    Example: koi tasks list --user alice --limit 5
    """

    async def work(office: "Office") -> None:
        found = await _newest(office, user, limit)
        if json:
            say_json([job_record(job, office.catalog.currency) for job in found])
        elif found:
            say_table(
                ("task", "status", "state", "user", "model", "n", "created", "error"),
                [_row(job) for job in found],
            )
        else:
            say("No tasks.")

    in_office(work)


@tasks.command
def show(task_id: str, /, *, json: AsJson = False) -> None:
    """Show one task: its states, its money and what the provider calls it.

    Example: koi tasks show task_0123456789abcdef0123456789abcdef
    """

    async def work(office: "Office") -> None:
        job = await office.ledger.job(task_id)
        if job is None:
            raise CommandFailed(f"There is no task {task_id!r}, or it has expired.")
        record = job_record(job, office.catalog.currency)
        if json:
            say_json(record)
            return
        cost, error = record["cost"], record["error"]
        flat = record | {
            "cost": f"{cost['value']} {cost['currency']}" if cost else "unknown",
            "error": f"{error['code']}: {error['message']}" if error else None,
            "pictures": ", ".join(record["pictures"]),
            "calls": ", ".join(record["calls"]),
            "upstream": ", ".join(part["id"] or "not sent" for part in record["upstream"]),
        }
        say_fields(flat)

    in_office(work)


def _row(job: Job) -> tuple[object, ...]:
    code = job.failure.code if job.failure else None
    created = time_text(job.created_ms)
    state = job.state.name.lower()
    return (job.id, job.status, state, job.user, job.model, job.n, created, code)


async def _newest(office: "Office", user: str | None, limit: int) -> list[Job]:
    if user is not None:
        await office.keys.user(user)
    names = [user] if user is not None else [found.name for found in await office.keys.users()]
    jobs = [job for name in names for job in await office.ledger.jobs_of(name, limit)]
    return sorted(jobs, key=lambda job: job.created_ms, reverse=True)[:limit]
