"""What the ledger's scripts are asked, as the JSON their headers describe."""

from collections.abc import Mapping
from typing import Any

from app.adapters.redis import keyspace
from app.adapters.redis.attributions import attribution_request
from app.adapters.redis.codec import (
    JOB_FIELDS,
    flatten,
    image_id_of,
    to_json,
    write_entry,
    write_pending,
)
from app.adapters.redis.deliveries import write_webhook
from app.adapters.redis.request_days import window_kept_until_ms
from app.adapters.redis.scope_set import scope_keys_of
from app.domain.administration import AuditNote
from app.domain.calendar import Calendar
from app.domain.charging import IMAGE_UNAVAILABLE
from app.domain.images import digest
from app.domain.job import Job, JobPart, Outcome
from app.domain.ledger import (
    AdmissionRequest,
    CollectionReport,
    CollectionTimings,
    DedupKeys,
    Entry,
)
from app.domain.principal import Principal

Request = dict[str, Any]
_STORED = {field.attribute: field for field in JOB_FIELDS}


def given(**fields: Any) -> Request:
    """Those that have a value: the scripts take a missing field for none."""
    return {name: value for name, value in fields.items() if value is not None}


def admission_request(
    admission: AdmissionRequest, values: Mapping[str, Any], attributed: int
) -> Request:
    """For `admit.lua`, beside the limits of the scopes. `values` are the new job's. So many values
    of an attribution are told apart."""
    fields = _write_values(values)
    fields += ("parts", " ".join(map(str, admission.part_sizes)))
    if admission.webhook is not None:
        fields += ("hooks", to_json([write_webhook(admission.webhook)]))
    return {
        "job": admission.job_id,
        "user": admission.principal.user,
        "dedup": dedup_request(admission.principal, admission.dedup_keys),
        "images": admission.request.n,
        "lease_ms": admission.lease_ms,
        "fields": fields,
        **attribution_request(admission, attributed),
        **given(
            unit=admission.unit_micros,
            rate_unchecked=None if admission.rate_limit_checked else True,
            day_unchecked=True
            if admission.rate_limit_checked and not admission.request_counted
            else None,
        ),
    }


def admitted_values(admission: AdmissionRequest) -> dict[str, Any]:
    """What admission knows of the job; `admit.lua` writes what depends on the store's clock."""
    who, request = admission.principal, admission.request
    return {
        "id": admission.job_id,
        "key_id": who.key_id,
        "user": who.user,
        "team": who.team,
        "pool": who.pool,
        "model": request.model,
        "n": request.n,
        "size": request.size,
        "quality": request.quality,
        "unit_micros": admission.unit_micros,
        "cache_variant": admission.cache_variant,
        "response_format": admission.response_format,
        "request_id": admission.request_id,
        "attribution": admission.attribution,
        "provider": admission.provider,
    }


def _write_values(values: Mapping[str, Any]) -> list[str]:
    """Attributes of a job as stored: field, value, field, value … without those at their
    default."""
    flat: list[str] = []
    for attribute, value in values.items():
        _, stored, _, write, default = _STORED[attribute]
        if value != default:
            flat += (stored, write(value))
    return flat


def admitted_job(admission: AdmissionRequest, values: Mapping[str, Any], created_ms: int) -> Job:
    """The job as admission wrote it."""
    parts = tuple(map(JobPart, admission.part_sizes))
    return Job(created_ms=created_ms, parts=parts, **values)


def dedup_request(principal: Principal, keys: DedupKeys) -> Request:
    return {
        "attempt": digest(principal.key_id, keys.body),
        "body": keys.body,
        **given(
            is_sdk_retry=keys.is_sdk_retry or None,
            fresh=keys.fresh or None,
            call=keys.caller_id,
            callers=None if keys.callers is None else dict(keys.callers),
            replay=keys.idempotency_key,
        ),
    }


def repeat_keys(principal: Principal, keys: DedupKeys) -> list[str]:
    """Where the ledger keeps the jobs that a request could repeat."""
    attempt = keyspace.key("attempt", digest(principal.key_id, keys.body))
    replay = keys.idempotency_key
    return [attempt] if replay is None else [attempt, keyspace.key("replay", replay)]


def settle_request(job_id: str, outcome: Outcome) -> Request:
    failure = outcome.failure
    return {
        "job": job_id,
        "state": outcome.state.value,
        "status": outcome.status.value,
        "billed": outcome.billed,
        "presumed": outcome.presumed,
        "surplus": outcome.surplus,
        "pictures": to_json(outcome.pictures),
        "names": [picture.name for picture in outcome.pictures],
        **given(
            proof=outcome.proof,
            pending=[write_pending(image) for image in outcome.pending] or None,
            calls=" ".join(outcome.calls) or None,
            code=failure and failure.code,
            failure=failure and to_json(failure),
        ),
    }


def collection_request(job_id: str, report: CollectionReport) -> Request:
    """For `record_collection.lua`."""
    return {
        "job": job_id,
        "pictures": [
            [image_id_of(image), to_json(picture), picture.name]
            for image, picture in report.pictures
        ],
        "lost": [image_id_of(image) for image in report.lost],
        "links": [write_pending(image) for image in report.links],
        "tried": [image_id_of(image) for image in report.tried],
        "due_ms": report.due_ms,
        "failure": to_json(IMAGE_UNAVAILABLE),
        **given(denied=list(report.denied) or None, error=report.error),
    }


def backoff_request(limit: int, timings: CollectionTimings) -> Request:
    """For `claim_collections.lua`."""
    return {
        "limit": limit,
        "first_ms": timings.first_ms,
        "longest_ms": timings.max_ms,
        "lease_ms": timings.lease_ms,
    }


def correction_request(entry: Entry, calendar: Calendar, note: AuditNote | None) -> Request:
    """For `adjust.lua`: the entry, the windows that it names, and who makes it."""
    return {
        "scope_keys": scope_keys_of(entry.key, entry.user, entry.team),
        "windows": [
            {"label": label, "keep_ms": window_kept_until_ms(label, calendar)}
            for label in (entry.day, entry.month)
        ],
        "images": entry.images,
        "micros": entry.micros or 0,
        "fields": flatten(write_entry(entry)),
        **given(id=entry.id or None, audit=note and _audit_of(entry, note)),
    }


def _audit_of(entry: Entry, note: AuditNote) -> Request:
    target = f"job:{entry.job}" if entry.job else f"user:{entry.user}"
    about = {"target": target, "user": entry.user, **given(team=entry.team)}
    return audit_fields(note) | about


def audit_fields(note: AuditNote) -> Request:
    """Who makes a change and why, for a script that adds it to the audit log."""
    return {"actor": note.actor.text, "kind": note.kind, "reason": note.reason}
