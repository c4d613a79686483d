"""Images still to be downloaded, as the store keeps them: a field of the job's record for each.

`pending:<place>` is the link, `picture:<place>` the picture that came, `lost:<place>` an image that
was given up, where a place is `<part>.<index>`. A field each, so that two processes that report at
once, or two journals that are read in any order, cannot undo each other.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from app.domain.charging import IMAGE_UNAVAILABLE
from app.domain.images import Picture
from app.domain.job import CollectionProgress, PendingImage
from app.domain.ledger import CollectionReport, CollectionTimings

PENDING, PICTURE, LOST = "pending:", "picture:", "lost:"


def pending_row(image: PendingImage) -> list[str]:
    """Place and the rest, as scripts take it."""
    rest = {
        "url": image.url,
        "revised_prompt": image.revised_prompt,
        "expires_ms": image.expires_ms,
    }
    return [_place(image), orjson.dumps(rest).decode()]


def report_fields(job_id: str, report: CollectionReport) -> dict[str, Any]:
    """What `record_collection.lua` is told."""
    ask: dict[str, Any] = {
        "job": job_id,
        "pictures": [
            [_place(image), orjson.dumps(picture).decode(), picture.name]
            for image, picture in report.pictures
        ],
        "lost": [_place(image) for image in report.lost],
        "links": [pending_row(image) for image in report.links],
        "tried": [_place(image) for image in report.tried],
        "due_ms": report.due_ms,
        "failure": orjson.dumps(IMAGE_UNAVAILABLE).decode(),
    }
    if report.denied:
        ask["denied"] = list(report.denied)
    return ask if report.error is None else ask | {"error": report.error}


def backoff_fields(limit: int, pace: CollectionTimings) -> dict[str, int]:
    return {
        "limit": limit,
        "first_ms": pace.first_ms,
        "longest_ms": pace.max_ms,
        "lease_ms": pace.lease_ms,
    }


def read_pending(record: Mapping[str, str]) -> tuple[PendingImage, ...]:
    """A job's pending images in order."""
    found = [
        PendingImage(*_read_place(field), **orjson.loads(text))
        for field, text in record.items()
        if field.startswith(PENDING)
    ]
    return tuple(sorted(found, key=lambda image: (image.part, image.index)))


def read_late_pictures(record: Mapping[str, str]) -> list[Picture]:
    """Pictures that came after their job's settlement, in no order."""
    return [
        Picture(**orjson.loads(text)) for field, text in record.items() if field.startswith(PICTURE)
    ]


def read_collecting(record: Mapping[str, str]) -> CollectionProgress | None:
    if "collecting" not in record:
        return None
    return CollectionProgress(
        int(record["collecting"]), int(record.get("tries", 0)), record.get("trouble")
    )


def drop_finished_images(record: Mapping[str, str]) -> dict[str, str]:
    """A record put together from several accounts: what came is neither pending nor lost, and what
    was given up is not pending."""
    kept = dict(record)
    for field in record:
        if field.startswith(PICTURE):
            place = field.removeprefix(PICTURE)
            kept.pop(PENDING + place, None)
            kept.pop(LOST + place, None)
        elif field.startswith(LOST):
            kept.pop(PENDING + field.removeprefix(LOST), None)
    return kept


def has_pending_images(record: Mapping[str, str]) -> bool:
    return any(field.startswith(PENDING) for field in record)


def _place(image: PendingImage) -> str:
    return f"{image.part}.{image.index}"


def _read_place(field: str) -> tuple[int, int]:
    part, _, index = field.partition(":")[2].partition(".")
    return int(part), int(index)
