"""A job's record and its end: written for the scripts, and read back."""

from collections.abc import Sequence
from typing import Any

import orjson

from app.adapters.redis.pending_images import (
    pending_row,
    read_collecting,
    read_late_pictures,
    read_pending,
)
from app.adapters.redis.scope_set import given
from app.domain.charging import call_ids_of
from app.domain.errors import BillingEvidence, FailureNote
from app.domain.images import Picture, digest
from app.domain.job import (
    CacheVariant,
    Job,
    JobPart,
    JobState,
    Outcome,
    PartResult,
    PendingImage,
    PollAnomaly,
    PollAnomalyKind,
    TaskStatus,
    in_image_order,
)
from app.domain.ledger import AdmissionRequest, DedupKeys
from app.domain.principal import Principal


def admission_fields(admission: AdmissionRequest) -> dict[str, Any]:
    """What `admit.lua` is asked, beside the limits of the scopes."""
    ask: dict[str, Any] = {
        "job": admission.job_id,
        "user": admission.principal.user,
        "dedup": dedup_fields(admission.principal, admission.dedup_keys),
        "images": admission.request.n,
        "lease_ms": admission.lease_ms,
        "fields": _job_fields(admission),
    }
    if not admission.rate_limit_checked:
        ask["rate_unchecked"] = True
    return ask | given(unit=admission.unit_micros)


def _job_fields(admission: AdmissionRequest) -> list[str]:
    """Field, value, field, value …; the script adds state, times and windows."""
    who, request = admission.principal, admission.request
    fields = {
        "id": admission.job_id,
        "key": who.key_id,
        "user": who.user,
        "team": who.team,
        "pool": who.pool,
        "model": request.model,
        "n": request.n,
        "size": request.size,
        "quality": request.quality,
        "unit": admission.unit_micros,
        "parts": " ".join(map(str, admission.part_sizes)),
        "slot": admission.cache_variant
        and f"{admission.cache_variant.index} {admission.cache_variant.fingerprint}",
        "response_format": admission.response_format,
        "request_id": admission.request_id,
    }
    return [
        text for field, value in fields.items() if value is not None for text in (field, str(value))
    ]


def admitted_job(admission: AdmissionRequest, created_ms: int) -> Job:
    """The job as admission wrote it."""
    who, request = admission.principal, admission.request
    return Job(
        id=admission.job_id,
        key_id=who.key_id,
        user=who.user,
        team=who.team,
        pool=who.pool,
        model=request.model,
        n=request.n,
        size=request.size,
        quality=request.quality,
        unit_micros=admission.unit_micros,
        created_ms=created_ms,
        parts=tuple(map(JobPart, admission.part_sizes)),
        cache_variant=admission.cache_variant,
        response_format=admission.response_format,
        request_id=admission.request_id,
    )


def read_job(flat: Sequence[str]) -> Job:
    record = dict(zip(flat[::2], flat[1::2], strict=True))
    parts = _parts(record)
    return Job(
        id=record["id"],
        key_id=record["key"],
        user=record["user"],
        team=record.get("team"),
        pool=record["pool"],
        model=record["model"],
        n=int(record["n"]),
        size=record["size"],
        quality=record["quality"],
        unit_micros=_whole(record.get("unit")),
        created_ms=int(record["created"]),
        state=JobState(record["state"]),
        status=TaskStatus(record["status"]),
        progress=int(record.get("progress", 0)),
        parts=parts,
        cache_variant=_slot(record.get("slot")),
        dispatched_ms=_whole(record.get("dispatched")),
        ended_ms=_whole(record.get("ended")),
        pictures=_all_pictures(record, parts),
        billed=int(record.get("billed", 0)),
        failure=_failure(record),
        response_format=record.get("response_format"),
        calls=tuple(record["calls"].split()) if "calls" in record else call_ids_of(parts),
        pending=read_pending(record),
        collecting=read_collecting(record),
        request_id=record.get("request_id"),
    )


def read_pictures(rows: Sequence[dict[str, Any]]) -> tuple[Picture, ...]:
    return tuple(Picture(**row) for row in rows)


def _all_pictures(record: dict[str, str], parts: Sequence[JobPart]) -> tuple[Picture, ...]:
    first = read_pictures(orjson.loads(record.get("pictures", "[]")))
    late = read_late_pictures(record)
    if not late:
        return first
    # One that came before the settlement may have been told with it once more.
    each = {picture.name: picture for picture in (*first, *late)}
    return tuple(in_image_order(record["id"], parts, tuple(each.values())))


def _failure(record: dict[str, str]) -> FailureNote | None:
    return FailureNote(**orjson.loads(record["failure"])) if "failure" in record else None


def _parts(record: dict[str, str]) -> tuple[JobPart, ...]:
    return tuple(
        JobPart(
            int(n),
            record.get(f"upstream:{index}"),
            _result(record.get(f"result:{index}")),
            record.get(f"request:{index}"),
            _doubt(record.get(f"doubt:{index}")),
            int(record.get(f"denied:{index}", 0)),
        )
        for index, n in enumerate(record["parts"].split())
    )


def _result(text: str | None) -> PartResult | None:
    if text is None:
        return None
    row = orjson.loads(text)
    return PartResult(
        images=row["images"],
        pictures=read_pictures(row["pictures"]),
        failure=row["failure"] and FailureNote(**row["failure"]),
        proof=row["proof"] and BillingEvidence(row["proof"]),
        pending=tuple(PendingImage(**image) for image in row.get("pending", ())),
    )


def _doubt(text: str | None) -> PollAnomaly | None:
    if text is None:
        return None
    kind, polls, since_ms = text.split()
    return PollAnomaly(PollAnomalyKind(kind), int(polls), int(since_ms))


def _slot(text: str | None) -> CacheVariant | None:
    if text is None:
        return None
    index, _, fingerprint = text.partition(" ")
    return CacheVariant(fingerprint, int(index))


def _whole(text: str | None) -> int | None:
    return None if text is None else int(text)


def settle_fields(job_id: str, outcome: Outcome) -> dict[str, Any]:
    ask: dict[str, Any] = {
        "job": job_id,
        "state": outcome.state.value,
        "status": outcome.status.value,
        "billed": outcome.billed,
        "presumed": outcome.presumed,
        "surplus": outcome.surplus,
        "pictures": orjson.dumps(outcome.pictures).decode(),
        "names": [picture.name for picture in outcome.pictures],
    }
    if outcome.proof is not None:
        ask["proof"] = outcome.proof.value
    if outcome.pending:
        ask["pending"] = [pending_row(image) for image in outcome.pending]
    if outcome.calls:
        ask["calls"] = " ".join(outcome.calls)
    if outcome.failure is not None:
        ask["code"] = outcome.failure.code
        ask["failure"] = orjson.dumps(outcome.failure).decode()
    return ask


def dedup_fields(principal: Principal, dedup_keys: DedupKeys) -> dict[str, Any]:
    ask: dict[str, Any] = {
        "attempt": digest(principal.key_id, dedup_keys.body),
        "body": dedup_keys.body,
    }
    ask |= {name: True for name in ("is_sdk_retry", "fresh") if getattr(dedup_keys, name)}
    if dedup_keys.caller_id is not None:
        ask["call"] = dedup_keys.caller_id
    if dedup_keys.callers is not None:
        ask["callers"] = dict(dedup_keys.callers)
    if dedup_keys.idempotency_key is not None:
        ask["replay"] = dedup_keys.idempotency_key
    return ask
