"""A job's record, written and read back."""

from collections.abc import Sequence
from typing import Any

import orjson

from app.adapters.redis.pending import read_collecting, read_late, read_pending
from app.domain.errors import FailureNote, Proof
from app.domain.images import Picture
from app.domain.job import (
    CacheSlot,
    Doubt,
    DoubtKind,
    Job,
    JobState,
    Part,
    PartResult,
    PendingImage,
    TaskStatus,
    in_order,
)
from app.domain.ledger import Order
from app.domain.settlement import calls_of


def job_fields(order: Order) -> list[str]:
    """Field, value, field, value …; the script adds state, times and windows."""
    who, request = order.principal, order.request
    fields = {
        "id": order.job_id,
        "key": who.key_id,
        "user": who.user,
        "team": who.team,
        "pool": who.pool,
        "model": request.model,
        "n": request.n,
        "size": request.size,
        "quality": request.quality,
        "unit": order.unit_micros,
        "parts": " ".join(map(str, order.part_sizes)),
        "slot": order.slot and f"{order.slot.index} {order.slot.fingerprint}",
        "response_format": order.response_format,
        "request_id": order.request_id,
    }
    return [
        text for field, value in fields.items() if value is not None for text in (field, str(value))
    ]


def opened(order: Order, created_ms: int) -> Job:
    """The job as admission wrote it."""
    who, request = order.principal, order.request
    return Job(
        id=order.job_id,
        key_id=who.key_id,
        user=who.user,
        team=who.team,
        pool=who.pool,
        model=request.model,
        n=request.n,
        size=request.size,
        quality=request.quality,
        unit_micros=order.unit_micros,
        created_ms=created_ms,
        parts=tuple(map(Part, order.part_sizes)),
        slot=order.slot,
        response_format=order.response_format,
        request_id=order.request_id,
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
        slot=_slot(record.get("slot")),
        dispatched_ms=_whole(record.get("dispatched")),
        ended_ms=_whole(record.get("ended")),
        pictures=_all_pictures(record, parts),
        billed=int(record.get("billed", 0)),
        failure=_failure(record),
        response_format=record.get("response_format"),
        calls=tuple(record["calls"].split()) if "calls" in record else calls_of(parts),
        pending=read_pending(record),
        collecting=read_collecting(record),
        request_id=record.get("request_id"),
    )


def read_pictures(rows: Sequence[dict[str, Any]]) -> tuple[Picture, ...]:
    return tuple(Picture(**row) for row in rows)


def _all_pictures(record: dict[str, str], parts: Sequence[Part]) -> tuple[Picture, ...]:
    first = read_pictures(orjson.loads(record.get("pictures", "[]")))
    late = read_late(record)
    if not late:
        return first
    # One that came before the settlement may have been told with it once more.
    each = {picture.name: picture for picture in (*first, *late)}
    return tuple(in_order(record["id"], parts, tuple(each.values())))


def _failure(record: dict[str, str]) -> FailureNote | None:
    return FailureNote(**orjson.loads(record["failure"])) if "failure" in record else None


def _parts(record: dict[str, str]) -> tuple[Part, ...]:
    return tuple(
        Part(
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
        proof=row["proof"] and Proof(row["proof"]),
        pending=tuple(PendingImage(**image) for image in row.get("pending", ())),
    )


def _doubt(text: str | None) -> Doubt | None:
    if text is None:
        return None
    kind, polls, since_ms = text.split()
    return Doubt(DoubtKind(kind), int(polls), int(since_ms))


def _slot(text: str | None) -> CacheSlot | None:
    if text is None:
        return None
    index, _, fingerprint = text.partition(" ")
    return CacheSlot(fingerprint, int(index))


def _whole(text: str | None) -> int | None:
    return None if text is None else int(text)
