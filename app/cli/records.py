"""Domain values as the JSON records and table cells of the operator's commands."""

from typing import Any

from app.cli.out import money, say, say_table, time_text
from app.domain.job import Job, JobState, Part
from app.domain.ledger import Entry
from app.domain.limits import Allowance, Limits, Meter, Standing
from app.domain.money import format_micros
from app.domain.principal import ApiKey, Team, User
from app.domain.upstream_ids import call_name

NOBODY = "-"
"""Stands in a principal for the key or user that an operator's question leaves open."""
LIMIT_HEADINGS = ("images/day", "images/month", "budget/day", "budget/month", "req/min", "parallel")


def limits_record(limits: Limits, currency: str) -> dict[str, Any]:
    """Null is unlimited."""
    return {
        "images_per_day": limits.images_per_day,
        "images_per_month": limits.images_per_month,
        "budget_per_day": money(limits.micros_per_day, currency),
        "budget_per_month": money(limits.micros_per_month, currency),
        "requests_per_minute": limits.requests_per_minute,
        "concurrency": limits.concurrency,
    }


def limit_cells(limits: Limits) -> tuple[object, ...]:
    return (
        limits.images_per_day,
        limits.images_per_month,
        _amount(limits.micros_per_day),
        _amount(limits.micros_per_month),
        limits.requests_per_minute,
        limits.concurrency,
    )


def limits_text(limits: Limits) -> str:
    pairs = zip(LIMIT_HEADINGS, limit_cells(limits), strict=True)
    return ", ".join(f"{name} {value}" for name, value in pairs if value is not None) or "unlimited"


def user_record(user: User, currency: str) -> dict[str, Any]:
    return {
        "name": user.name,
        "team": user.team,
        "cache": user.cache,
        "response_format": user.response_format,
        "limits": limits_record(user.limits, currency),
        "created_at": time_text(user.created_ms),
        "disabled_at": time_text(user.disabled_ms),
    }


def team_record(team: Team, currency: str) -> dict[str, Any]:
    return {
        "name": team.name,
        "limits": limits_record(team.limits, currency),
        "created_at": time_text(team.created_ms),
        "disabled_at": time_text(team.disabled_ms),
    }


def key_record(
    key: ApiKey, currency: str, now_ms: int, used_ms: int | None = None
) -> dict[str, Any]:
    return {
        "key_id": key.id,
        "ending": key.ending or None,
        "user": key.user,
        "name": key.name,
        "status": key_status(key, now_ms),
        "models": None if key.models is None else sorted(key.models),
        "response_format": key.response_format,
        "limits": limits_record(key.limits, currency),
        "created_at": time_text(key.created_ms),
        "expires_at": time_text(key.expires_ms),
        "revoked_at": time_text(key.revoked_ms),
        "last_used_at": time_text(used_ms),
    }


def holder_status(holder: User | Team) -> str:
    return "active" if holder.disabled_ms is None else "disabled"


def key_status(key: ApiKey, now_ms: int) -> str:
    if key.revoked_ms is not None:
        return "revoked"
    return "active" if key.usable(now_ms) else "expired"


def standing_records(standing: Standing, currency: str) -> list[dict[str, Any]]:
    return [
        {
            "scope": allowance.scope,
            "name": allowance.name,
            "meter": allowance.meter,
            "window": allowance.window,
            "limit": _metered(allowance, allowance.limit, currency),
            "used": _metered(allowance, allowance.used, currency),
            "held": _metered(allowance, allowance.held, currency),
            "remaining": _metered(allowance, allowance.remaining, currency),
            "reset_s": allowance.reset_s,
        }
        for allowance in standing.allowances
        if allowance.name != NOBODY
    ]


def say_standing(standing: Standing) -> None:
    """What has a limit or was touched; money as decimal text."""
    rows = [
        _allowance_row(allowance)
        for allowance in standing.allowances
        if allowance.limit is not None or allowance.used or allowance.held
    ]
    if rows:
        say_table(("scope", "meter", "limit", "used", "held", "left"), rows)
    else:
        say("No limits, and nothing used in this day and month.")


def _allowance_row(allowance: Allowance) -> tuple[object, ...]:
    amounts: tuple[int | None, ...] = (
        allowance.limit,
        allowance.used,
        allowance.held,
        allowance.remaining,
    )
    cells = map(_amount, amounts) if allowance.meter is Meter.MONEY else amounts
    scope = f"{allowance.scope} {allowance.name}"
    return (scope, f"{allowance.meter}/{allowance.window}", *cells)


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
        "n": job.n,
        "size": job.size,
        "quality": job.quality,
        "progress": job.progress,
        "billed": job.billed,
        "cost": money(cost, currency),
        "created_at": time_text(job.created_ms),
        "dispatched_at": time_text(job.dispatched_ms),
        "ended_at": time_text(job.ended_ms),
        "pictures": [picture.name for picture in job.pictures],
        "error": None
        if failure is None
        else {
            "code": failure.code,
            "message": failure.message,
            "retryable": failure.retryable,
            "charged": failure.charged,
        },
        "upstream": [_part_record(part, sent=_sent(job)) for part in job.parts],
        "calls": list(job.calls),
        "request_id": job.request_id,
    }


def entry_record(entry: Entry, currency: str) -> dict[str, Any]:
    return {
        "id": entry.id,
        "kind": entry.kind,
        "at": time_text(entry.at_ms),
        "job": entry.job or None,
        "key_id": entry.key or None,
        "user": entry.user,
        "team": entry.team,
        "model": entry.model,
        "size": entry.size or None,
        "quality": entry.quality or None,
        "images": entry.images,
        "amount": None if entry.micros is None else format_micros(entry.micros),
        "currency": currency,
        "delivered": entry.delivered,
        "presumed": entry.presumed,
        "surplus": entry.surplus,
        "day": entry.day,
        "month": entry.month,
        "proof": entry.proof,
        "code": entry.code,
        "note": entry.note,
        "calls": list(entry.calls),
        "dispatched_at": time_text(entry.dispatched_ms),
        "asked": entry.asked,
    }


def _part_record(part: Part, *, sent: bool) -> dict[str, Any]:
    named = None if part.upstream_id is None else call_name(part.upstream_id)
    return {"id": named, "sent": sent, "n": part.n, "ended": part.result is not None}


def _sent(job: Job) -> bool:
    """Whether a byte of it may have left: a call that reached nobody was not sent."""
    code = job.failure.code if job.failure is not None else None
    unreachable = job.state is JobState.RELEASED and code == "upstream_unreachable"
    return job.dispatched_ms is not None and not unreachable


def _amount(micros: int | None) -> str | None:
    return None if micros is None else format_micros(micros)


def _metered(allowance: Allowance, amount: int | None, currency: str) -> object:
    return money(amount, currency) if allowance.meter is Meter.MONEY else amount
