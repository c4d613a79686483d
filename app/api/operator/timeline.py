"""One job as the operator reads it: its object, and what happened to it in order."""

from collections.abc import Iterator
from typing import Any

from app.api.operator.standing import money_text
from app.api.operator.wire import JobObject, JobSaidFacts
from app.api.organization.paging import optional_seconds, seconds
from app.domain.attribution import NOTHING_SAID, Attribution
from app.domain.catalog_providers import MAIN
from app.domain.job import Job, JobPart, JobState
from app.domain.journal import JobChange
from app.domain.ledger import Entry, EntryKind
from app.service.job_search import FoundJob, entry_status, sent_ms
from app.service.job_story import JobStory

Event = dict[str, Any]


def describe_job(found: FoundJob, currency: str, resolve_after_s: float) -> JobObject:
    """By its record while that lives, else by its end in the ledger."""
    if found.job is not None:
        return _describe_record(found.job, found.end, currency, resolve_after_s)
    assert found.end is not None
    return _describe_entry(found.end, currency)


def _describe_record(
    job: Job, end: Entry | None, currency: str, resolve_after_s: float
) -> JobObject:
    is_open = not job.state.terminal
    micros = None if job.unit_micros is None else job.unit_micros * job.billed
    return {
        "id": job.id,
        "object": "koi.job",
        "status": job.status.value,
        "state": job.state.name.lower(),
        "user": job.user,
        "team": job.team,
        "key_id": job.key_id,
        "model": job.model,
        "provider": job.provider or MAIN,
        "size": job.size,
        "quality": job.quality,
        "n": job.n,
        "images": job.billed,
        "presumed": 0 if end is None else end.presumed,
        "cost": money_text(micros),
        "currency": currency,
        "held_images": job.n if is_open else 0,
        "created_at": seconds(job.created_ms),
        "sent_at": optional_seconds(job.dispatched_ms),
        "ended_at": optional_seconds(job.ended_ms),
        "resolves_at": _resolves_at(job, resolve_after_s),
        "code": None if job.failure is None else job.failure.code,
        "message": None if job.failure is None else job.failure.message,
        "request_id": job.request_id,
        "calls": list(job.calls),
        "pictures": len(job.pictures),
        "kept": True,
        "cancellable": job.state is JobState.RESERVED,
        **describe_said(job.attribution),
    }


def describe_said(said: Attribution | None) -> JobSaidFacts:
    """For whom and for what the request said it was."""
    said = said or NOTHING_SAID
    return {"project": said.project, "tag": said.tag, "end_user": said.end_user}


def _resolves_at(job: Job, resolve_after_s: float) -> int | None:
    """When an unknown job is charged as presumed, unless evidence comes before."""
    if job.state is not JobState.UNKNOWN or job.ended_ms is None:
        return None
    return seconds(job.ended_ms) + round(resolve_after_s)


def _describe_entry(end: Entry, currency: str) -> JobObject:
    return {
        "id": end.job,
        "object": "koi.job",
        "status": entry_status(end),
        "state": "settled" if end.kind is EntryKind.SETTLE else "released",
        "user": end.user,
        "team": end.team,
        "key_id": end.key or None,
        "model": end.model,
        "provider": end.provider or MAIN,
        "size": end.size,
        "quality": end.quality,
        "n": end.asked,
        "images": end.images,
        "presumed": end.presumed,
        "cost": money_text(end.micros),
        "currency": currency,
        "held_images": 0,
        "created_at": seconds(sent_ms(end)),
        "sent_at": optional_seconds(end.dispatched_ms),
        "ended_at": seconds(end.at_ms),
        "resolves_at": None,
        "code": end.code,
        "message": None,
        "request_id": None,
        "calls": list(end.calls),
        "pictures": max(end.delivered, 0),
        "kept": False,
        "cancellable": False,
        **describe_said(end.attribution),
    }


def build_timeline(story: JobStory, resolve_after_s: float) -> list[Event]:
    """Events with their time where the record keeps one (Unix seconds), else null, in order."""
    events: list[Event] = []
    if story.job is not None:
        events += _record_events(story.job, story.end, resolve_after_s)
    elif story.end is not None:
        events.append(_event("sent", story.end.dispatched_ms, calls=list(story.end.calls)))
    return events + [_entry_event(entry) for entry in story.entries]


def _record_events(job: Job, end: Entry | None, resolve_after_s: float) -> Iterator[Event]:
    held = None if job.unit_micros is None else job.unit_micros * job.n
    yield _event("accepted", job.created_ms, request_id=job.request_id, key_id=job.key_id)
    yield _event("reserved", job.created_ms, images=job.n, cost=money_text(held))
    if job.dispatched_ms is not None:
        yield _event("sent", job.dispatched_ms, calls=list(job.calls))
    yield from _part_events(job)
    if job.state is JobState.UNKNOWN:
        yield _event("unknown", job.ended_ms, resolves_at=_resolves_at(job, resolve_after_s))
    if job.state is JobState.RELEASED and end is None:
        yield _event("cancelled", job.ended_ms)
    if job.collecting is not None:
        yield _event(
            "downloads", job.collecting.since_ms, tries=job.collecting.tries,
            pending=len(job.pending), error=job.collecting.last_error,
        )  # fmt: skip
    if job.pictures:
        yield _event("delivered", job.ended_ms, pictures=len(job.pictures))


def _part_events(job: Job) -> Iterator[Event]:
    for number, part in enumerate(job.parts, 1):
        if part.upstream_id or part.request_id or part.result:
            yield _event("provider", None, part=number, **_describe_part(part))
        if part.anomaly is not None:
            doubt = part.anomaly
            yield _event(
                "doubt", doubt.since_ms, part=number, found=doubt.kind.value, polls=doubt.polls
            )


def _describe_part(part: JobPart) -> Event:
    result = part.result
    failure = None if result is None else result.failure
    return {
        "images": part.n,
        "task_id": part.upstream_id,
        "request_id": part.request_id,
        "made": None if result is None else result.images,
        "code": None if failure is None else failure.code,
        "message": None if failure is None else failure.message,
        "proof": None if result is None or result.proof is None else result.proof.name,
    }


def _entry_event(entry: Entry) -> Event:
    return _event(
        entry.kind.value, entry.at_ms, entry=entry.id, images=entry.images,
        cost=money_text(entry.micros), presumed=entry.presumed or None,
        surplus=entry.surplus or None, delivered=entry.delivered or None,
        proof=entry.proof, code=entry.code, note=entry.note,
    )  # fmt: skip


def describe_change(change: JobChange) -> Event:
    """A line of the journal: by this machine's clock, with the names of the fields that changed."""
    return _event("journal", change.at_ms, fields=list(change.fields), **change.values)


def _event(name: str, at_ms: int | None, **details: Any) -> Event:
    """Details that say nothing are left out."""
    said = {key: value for key, value in details.items() if value not in (None, [], "")}
    return {"event": name, "at": optional_seconds(at_ms), **said}
