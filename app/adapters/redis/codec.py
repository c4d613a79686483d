"""How jobs and ledger entries are stored: the one place that maps their fields to stored names.

A record is a hash or a stream entry of the store: text by field name. The scripts write more fields
of a job (`day`, `month`, `attempt`, `seq`, `holder` …), which nothing else decodes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import orjson

from app.adapters.redis.attributions import read_attribution, write_attribution
from app.adapters.redis.picture_records import SHORT_PICTURES, pictures_of, read_pictures
from app.domain.charging import call_ids_of
from app.domain.errors import BillingEvidence, FailureNote
from app.domain.images import Picture
from app.domain.job import (
    CacheVariant,
    CollectionProgress,
    Job,
    JobPart,
    JobState,
    PartResult,
    PendingImage,
    PollAnomaly,
    PollAnomalyKind,
    TaskStatus,
    in_image_order,
)
from app.domain.ledger import Entry, EntryKind

Record = dict[str, str]
EntryId = tuple[int, int]

REQUIRED = object()
PENDING, PICTURE, LOST = "pending:", "picture:", "lost:"
"""What the fields of a job's images begin with, before `<part>.<index>`: the link of an image that
is still to be downloaded, a picture that came late, an image that was given up. Each image has a
field of its own, so that two processes that report at once cannot undo each other."""


def to_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _read_note(text: str) -> FailureNote:
    return FailureNote(**orjson.loads(text))


def _read_result(text: str) -> PartResult:
    row = orjson.loads(text)
    return PartResult(
        images=row["images"],
        pictures=tuple(Picture(**picture) for picture in row["pictures"]),
        failure=row["failure"] and FailureNote(**row["failure"]),
        proof=row["proof"] and BillingEvidence(row["proof"]),
        pending=tuple(PendingImage(**image) for image in row.get("pending", ())),
    )


def _read_anomaly(text: str) -> PollAnomaly:
    kind, polls, since_ms = text.split()
    return PollAnomaly(PollAnomalyKind(kind), int(polls), int(since_ms))


def _write_anomaly(anomaly: PollAnomaly) -> str:
    return f"{anomaly.kind} {anomaly.polls} {anomaly.since_ms}"


def _read_variant(text: str) -> CacheVariant:
    index, _, fingerprint = text.partition(" ")
    return CacheVariant(fingerprint, int(index))


def _write_variant(variant: CacheVariant) -> str:
    return f"{variant.index} {variant.fingerprint}"


def _read_words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


class Field(NamedTuple):
    """An attribute and the field it is stored in. One with a `default` is not written while the
    attribute has it, and may be missing: earlier versions did not know it."""

    attribute: str
    stored: str
    read: Callable[[str], Any] = str
    write: Callable[[Any], str] = str
    default: Any = REQUIRED


JOB_FIELDS = (
    Field("id", "id"),
    Field("key_id", "key"),
    Field("user", "user"),
    Field("team", "team", default=None),
    Field("pool", "pool"),
    Field("model", "model"),
    Field("n", "n", int),
    Field("size", "size"),
    Field("quality", "quality"),
    Field("unit_micros", "unit", int, default=None),
    Field("created_ms", "created", int),
    Field("state", "state", JobState),
    Field("status", "status", TaskStatus),
    Field("progress", "progress", int, default=0),
    Field("cache_variant", "slot", _read_variant, _write_variant, None),
    Field("dispatched_ms", "dispatched", int, default=None),
    Field("ended_ms", "ended", int, default=None),
    Field("pictures", "pictures", read_pictures, to_json, ()),
    Field("billed", "billed", int, default=0),
    Field("failure", "failure", _read_note, to_json, None),
    Field("response_format", "response_format", default=None),
    Field("calls", "calls", _read_words, " ".join, ()),
    Field("request_id", "request_id", default=None),
    Field("deleted", "deleted", _read_words, " ".join, ()),
    Field("attribution", "attribution", read_attribution, write_attribution, None),
    Field("provider", "provider", default=None),
)
PART_FIELDS = (
    Field("upstream_id", "upstream", default=None),
    Field("result", "result", _read_result, to_json, None),
    Field("request_id", "request", default=None),
    Field("anomaly", "doubt", _read_anomaly, _write_anomaly, None),
    Field("denied", "denied", int, default=0),
)
"""Stored as `<field>:<part>`; `parts` holds the sizes of all parts."""
COLLECTING_FIELDS = (
    Field("since_ms", "collecting", int),
    Field("tries", "tries", int, default=0),
    Field("last_error", "trouble", default=None),
)
ENTRY_FIELDS = (
    Field("kind", "kind", EntryKind),
    Field("job", "job"),
    Field("key", "key"),
    Field("user", "user"),
    Field("team", "team", default=None),
    Field("model", "model"),
    Field("size", "size"),
    Field("quality", "quality"),
    Field("images", "images", int),
    Field("micros", "micros", int, default=None),
    Field("delivered", "delivered", int),
    Field("presumed", "presumed", int),
    Field("surplus", "surplus", int),
    Field("day", "day"),
    Field("month", "month"),
    Field("proof", "proof", default=None),
    Field("code", "code", default=None),
    Field("note", "note", default=None),
    Field("calls", "calls", _read_words, " ".join, ()),
    Field("dispatched_ms", "dispatched", int, default=None),
    Field("asked", "asked", int, default=None),
    Field("surplus_micros", "surplus_micros", int, default=0),
    Field("attribution", "attribution", read_attribution, write_attribution, None),
    Field("provider", "provider", default=None),
)


def _read(fields: Sequence[Field], record: Mapping[str, str], suffix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for attribute, stored, read, _, default in fields:
        text = record.get(stored + suffix if suffix else stored)
        if text is not None:
            values[attribute] = text if read is str else read(text)
        elif default is REQUIRED:
            raise KeyError(stored)
        else:
            values[attribute] = default
    return values


def _write(fields: Sequence[Field], value: object, suffix: str = "") -> Iterator[tuple[str, str]]:
    for attribute, stored, _, write, default in fields:
        part = getattr(value, attribute)
        if part != default:
            yield stored + suffix, write(part)


# Jobs --------------------------------------------------------------------------------------------


def read_job(record: Mapping[str, str]) -> Job:
    values = _read(JOB_FIELDS, record)
    parts = values["parts"] = tuple(
        JobPart(n=int(n), **_read(PART_FIELDS, record, f":{index}"))
        for index, n in enumerate(record["parts"].split())
    )
    if "calls" not in record:
        values["calls"] = call_ids_of(parts)
    if SHORT_PICTURES in record:
        values["pictures"] = pictures_of(record)
    if values["status"] is TaskStatus.COMPLETED:
        values["progress"] = 100
    images = [field for field in record if field.startswith((PENDING, PICTURE))]
    late = read_late_pictures(record) if images else None
    if late:
        # A picture that came before the settlement may have been recorded with it once more.
        each = {picture.name: picture for picture in (*values["pictures"], *late)}
        values["pictures"] = tuple(in_image_order(values["id"], parts, tuple(each.values())))
    if "collecting" in record:
        values["collecting"] = CollectionProgress(**_read(COLLECTING_FIELDS, record))
    return Job(pending=_read_pending(record) if images else (), **values)


def write_job(job: Job) -> Record:
    """Every field of a job that can be read back; pictures that came late are among the others."""
    record = dict(_write(JOB_FIELDS, job))
    if job.calls == call_ids_of(job.parts):
        record.pop("calls", None)
    record["parts"] = " ".join(str(part.n) for part in job.parts)
    for index, part in enumerate(job.parts):
        record |= _write(PART_FIELDS, part, f":{index}")
    if job.collecting is not None:
        record |= _write(COLLECTING_FIELDS, job.collecting)
    for image in job.pending:
        image_id, text = write_pending(image)
        record[PENDING + image_id] = text
    return record


def write_pending(image: PendingImage) -> tuple[str, str]:
    """The id of an image and its link, as stored."""
    row = {
        "url": image.url,
        "revised_prompt": image.revised_prompt,
        "expires_ms": image.expires_ms,
    }
    return image_id_of(image), to_json(row)


def image_id_of(image: PendingImage) -> str:
    return f"{image.part}.{image.index}"


def _read_pending(record: Mapping[str, str]) -> tuple[PendingImage, ...]:
    found = []
    for field, text in record.items():
        if field.startswith(PENDING):
            part, _, index = field.removeprefix(PENDING).partition(".")
            found.append(PendingImage(int(part), int(index), **orjson.loads(text)))
    return tuple(sorted(found, key=lambda image: (image.part, image.index)))


def read_late_pictures(record: Mapping[str, str]) -> list[Picture]:
    """Pictures that came after their job's settlement, in no order."""
    return [
        Picture(**orjson.loads(text)) for field, text in record.items() if field.startswith(PICTURE)
    ]


def drop_finished_images(record: Mapping[str, str]) -> Record:
    """A record merged from several accounts: an image that came is neither pending nor lost, and
    one that was given up is not pending."""
    kept = dict(record)
    for field in record:
        if field.startswith(PICTURE):
            image_id = field.removeprefix(PICTURE)
            kept.pop(PENDING + image_id, None)
            kept.pop(LOST + image_id, None)
        elif field.startswith(LOST):
            kept.pop(PENDING + field.removeprefix(LOST), None)
    return kept


def has_pending_images(record: Mapping[str, str]) -> bool:
    return any(field.startswith(PENDING) for field in record)


# Entries -----------------------------------------------------------------------------------------


def read_entry(id: str, record: Mapping[str, str]) -> Entry:
    return Entry(id=id, at_ms=entry_id(id)[0], **_read(ENTRY_FIELDS, record))


def write_entry(entry: Entry) -> Record:
    return dict(_write(ENTRY_FIELDS, entry))


def entry_id(text: str) -> EntryId:
    """A stream id, `<ms>-<count>`, as something that compares."""
    ms, _, count = text.partition("-")
    return int(ms), int(count or 0)


def unflatten(flat: Sequence[str]) -> Record:
    """Field, value, field, value … as scripts give a hash."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def flatten(record: Mapping[str, str]) -> list[str]:
    return list(chain.from_iterable(record.items()))
