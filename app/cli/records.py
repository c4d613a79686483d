"""Domain values as the JSON records and table cells of the operator's commands."""

from collections.abc import Iterable, Mapping
from typing import Any

from app.cli.entry_records import said_record
from app.cli.output import format_time, money_record, print_line, print_table
from app.cli.raise_records import raise_record
from app.domain.catalog import Catalog
from app.domain.catalog_providers import MAIN
from app.domain.job import Job, JobPart, JobState
from app.domain.limits import LimitKind, Limits, LimitSnapshot, LimitStatus
from app.domain.money import format_micros
from app.domain.principal import ApiKey, Team, User
from app.domain.task_words import summarize
from app.domain.upstream_ids import encode_call_id

NOBODY = "-"
"""The name of the key or user in a principal when the operator names none."""
LIMIT_HEADINGS = (
    "images/day", "images/month", "budget/day", "budget/month", "req/min", "parallel",
    "images/min", "req/day",
)  # fmt: skip


def limits_record(limits: Limits, currency: str) -> dict[str, Any]:
    """Null is unlimited."""
    return {
        "images_per_day": limits.images_per_day,
        "images_per_month": limits.images_per_month,
        "budget_per_day": money_record(limits.micros_per_day, currency),
        "budget_per_month": money_record(limits.micros_per_month, currency),
        "requests_per_minute": limits.requests_per_minute,
        "concurrency": limits.concurrency,
        "images_per_minute": limits.images_per_minute,
        "requests_per_day": limits.requests_per_day,
    }


def limit_cells(limits: Limits) -> tuple[object, ...]:
    return (
        limits.images_per_day,
        limits.images_per_month,
        _amount(limits.micros_per_day),
        _amount(limits.micros_per_month),
        limits.requests_per_minute,
        limits.concurrency,
        limits.images_per_minute,
        limits.requests_per_day,
    )


def limits_text(limits: Limits) -> str:
    pairs = zip(LIMIT_HEADINGS, limit_cells(limits), strict=True)
    return ", ".join(f"{name} {value}" for name, value in pairs if value is not None) or "unlimited"


def limit_fields(limits: Limits) -> dict[str, object]:
    cells = zip(LIMIT_HEADINGS, limit_cells(limits), strict=True)
    return {name: "unlimited" if cell is None else cell for name, cell in cells}


def changes_text(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    """What became of each field that is another now: `images/day 50 -> unlimited`."""
    changed = (
        f"{name} {_or_none(old)} -> {_or_none(after[name])}"
        for name, old in before.items()
        if old != after[name]
    )
    return ", ".join(changed) or "nothing, it was set so before"


def _or_none(value: object) -> object:
    return "none" if value in (None, "") else value


def user_record(user: User, currency: str) -> dict[str, Any]:
    return {
        "name": user.name,
        "team": user.team,
        "cache": user.cache,
        "response_format": user.response_format,
        "limits": limits_record(user.limits, currency),
        "created_at": format_time(user.created_ms),
        "disabled_at": format_time(user.disabled_ms),
        **_given(
            title=user.title,
            service_account=user.service_account,
            raised=raise_record(user.raised, currency),
            webhook=user.webhook,
        ),
    }


def team_record(team: Team, currency: str) -> dict[str, Any]:
    return {
        "name": team.name,
        "limits": limits_record(team.limits, currency),
        "created_at": format_time(team.created_ms),
        "disabled_at": format_time(team.disabled_ms),
        **_given(
            title=team.title,
            models=None if team.models is None else sorted(team.models),
            denied_models=sorted(team.denied_models) or None,
            archived_at=format_time(team.archived_ms),
            raised=raise_record(team.raised, currency),
        ),
    }


def _given(**fields: Any) -> dict[str, Any]:
    """Later fields, which are shown where they say something."""
    return {name: value for name, value in fields.items() if value not in (None, "", False)}


def key_record(
    key: ApiKey,
    now_ms: int,
    used_ms: int | None = None,
    disabled: str | None = None,
    *,
    currency: str,
) -> dict[str, Any]:
    """`disabled` says who is, its user or its team."""
    return {
        "key_id": key.id,
        "ending": key.ending or None,
        "user": key.user,
        "name": key.name,
        "status": key_status(key, now_ms, disabled),
        "models": None if key.models is None else sorted(key.models),
        "response_format": key.response_format,
        "limits": limits_record(key.limits, currency),
        "created_at": format_time(key.created_ms),
        "expires_at": format_time(key.expires_ms),
        "revoked_at": format_time(key.revoked_ms),
        "last_used_at": format_time(used_ms),
        **_given(
            raised=raise_record(key.raised, currency),
            webhook=key.webhook,
            forwards_users=key.forwards_users,
        ),
    }


def models_text(team: Team) -> str:
    allowed = "all" if team.models is None else ", ".join(sorted(team.models)) or "none"
    denied = ", ".join(sorted(team.denied_models))
    return f"{allowed} but {denied}" if denied else allowed


def holder_status(holder: User | Team) -> str:
    if isinstance(holder, Team) and holder.archived_ms is not None:
        return "archived"
    return "active" if holder.disabled_ms is None else "disabled"


def key_status(key: ApiKey, now_ms: int, disabled: str | None = None) -> str:
    if key.revoked_ms is not None:
        return "revoked"
    if not key.is_usable(now_ms):
        return "expired"
    return "active" if disabled is None else f"{disabled} disabled"


def limit_status_records(limit_snapshot: LimitSnapshot, catalog: Catalog) -> list[dict[str, Any]]:
    """Null in `used` and `held` is unknown."""
    currency = catalog.currency
    return [
        {
            "scope": status.scope,
            "name": status.name,
            "meter": status.kind,
            "window": status.window,
            "limit": _limit_amount(status, status.limit, currency),
            "used": _limit_amount(status, status.used if known else None, currency),
            "held": _limit_amount(status, status.held if known else None, currency),
            "remaining": _limit_amount(status, status.remaining, currency),
            "reset_s": status.reset_s,
        }
        for status in limit_snapshot.statuses
        for known in [status.is_known(priced=not catalog.unpriced)]
        if status.name != NOBODY
    ]


def print_limit_status(limit_snapshot: LimitSnapshot, catalog: Catalog) -> None:
    """What has a limit or was touched; money as decimal text."""
    rows = [
        _limit_status_row(status, status.is_known(priced=not catalog.unpriced))
        for status in limit_snapshot.statuses
        if status.limit is not None or status.used or status.held
    ]
    if rows:
        print_table(("scope", "meter", "limit", "used", "held", "left"), rows)
    else:
        print_line("No limits, and nothing used in this day and month.")


def _limit_status_row(status: LimitStatus, known: bool) -> tuple[object, ...]:
    amounts = (status.limit, status.used, status.held, status.remaining)
    cells: Iterable[object] = map(_amount, amounts) if status.kind is LimitKind.MONEY else amounts
    if not known:
        cells = (None, "unknown", "unknown", None)
    scope = f"{status.scope} {status.name}"
    return (scope, f"{status.kind}/{status.window}", *cells)


def job_record(job: Job, currency: str) -> dict[str, Any]:
    """The operator's view: money state and the provider's own ids, but never the prompt."""
    cost = None if job.unit_micros is None else job.unit_micros * job.billed
    failure = job.failure
    return {
        "id": job.id,
        "status": job.status,
        "state": job.state.name.lower(),
        "user": job.user,
        "team": job.team,
        "model": job.model,
        "provider": job.provider or MAIN,
        "n": job.n,
        "size": job.size,
        "quality": job.quality,
        "progress": job.progress,
        "summary": summarize(job),
        "billed": job.billed,
        "cost": money_record(cost, currency),
        "held": _hold_record(job, currency),
        "created_at": format_time(job.created_ms),
        "dispatched_at": format_time(job.dispatched_ms),
        "ended_at": format_time(job.ended_ms),
        "pictures": [picture.name for picture in job.pictures],
        "error": None
        if failure is None
        else {
            "code": failure.code,
            "message": failure.message,
            "retryable": failure.retryable,
            "charged": failure.charged,
        },
        "upstream": [
            # What the provider said of each part is not kept for longer than that.
            _part_record(part, sent=_sent(job), ended=job.state.terminal)
            for part in job.parts
        ],
        "calls": list(job.calls),
        "request_id": job.request_id,
        **said_record(job.attribution),
    }


def _hold_record(job: Job, currency: str) -> dict[str, Any] | None:
    """What an open job has reserved and nobody has been charged yet."""
    if job.state not in (JobState.RESERVED, JobState.DISPATCHED, JobState.UNKNOWN):
        return None
    micros = None if job.unit_micros is None else job.unit_micros * job.n
    return {"images": job.n, "cost": money_record(micros, currency)}


def _part_record(part: JobPart, *, sent: bool, ended: bool) -> dict[str, Any]:
    named = None if part.upstream_id is None else encode_call_id(part.upstream_id)
    return {"id": named, "sent": sent, "n": part.n, "ended": ended or part.result is not None}


def _sent(job: Job) -> bool:
    """Whether any byte may have reached the provider."""
    unreachable = job.failure is not None and job.failure.code == "upstream_unreachable"
    return job.dispatched_ms is not None and not (unreachable and job.state is JobState.RELEASED)


def _amount(micros: int | None) -> str | None:
    return None if micros is None else format_micros(micros)


def _limit_amount(status: LimitStatus, amount: int | None, currency: str) -> object:
    return money_record(amount, currency) if status.kind is LimitKind.MONEY else amount
