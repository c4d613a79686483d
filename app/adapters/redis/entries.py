"""The ledger's lines, written and read back."""

from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import Any

from app.adapters.redis.ledger_scripts import DAY_RETENTION_MS, MONTH_RETENTION_MS, LedgerScripts
from app.adapters.redis.scope_set import scope_keys_of
from app.domain.calendar import Calendar
from app.domain.ledger import Entry, EntryKind

ENTRY_PAGE_SIZE = 500
EntryId = tuple[int, int]


def entry_fields(entry: Entry) -> list[str]:
    """Field, value, field, value … of a correction."""
    fields = {
        "kind": entry.kind.value,
        "job": entry.job,
        "key": entry.key,
        "user": entry.user,
        "team": entry.team,
        "model": entry.model,
        "size": entry.size,
        "quality": entry.quality,
        "images": entry.images,
        "micros": entry.micros,
        "delivered": entry.delivered,
        "presumed": entry.presumed,
        "surplus": entry.surplus,
        "day": entry.day,
        "month": entry.month,
        "proof": entry.proof,
        "code": entry.code,
        "note": entry.note,
        "calls": " ".join(entry.calls) or None,
        "dispatched": entry.dispatched_ms,
        "asked": entry.asked,
    }
    return [
        text for field, value in fields.items() if value is not None for text in (field, str(value))
    ]


def correction_fields(entry: Entry, calendar: Calendar) -> dict[str, Any]:
    """What `adjust` is asked to enter, in the windows the entry names."""
    day = calendar.day(date.fromisoformat(entry.day))
    month = calendar.day(date.fromisoformat(f"{entry.month}-01"))
    ask: dict[str, Any] = {
        "scope_keys": scope_keys_of(entry.key, entry.user, entry.team),
        "windows": [
            {"label": entry.day, "keep_ms": day.ends_ms + DAY_RETENTION_MS},
            {"label": entry.month, "keep_ms": month.month_ends_ms + MONTH_RETENTION_MS},
        ],
        "images": entry.images,
        "micros": entry.micros or 0,
        "fields": entry_fields(entry),
    }
    return ask | ({"id": entry.id} if entry.id else {})


def read_entry(id: str, row: dict[str, str]) -> Entry:
    return Entry(
        id=id,
        kind=EntryKind(row["kind"]),
        at_ms=entry_id(id)[0],
        job=row["job"],
        key=row["key"],
        user=row["user"],
        team=row.get("team"),
        model=row["model"],
        size=row["size"],
        quality=row["quality"],
        images=int(row["images"]),
        micros=int(row["micros"]) if "micros" in row else None,
        delivered=int(row["delivered"]),
        presumed=int(row["presumed"]),
        surplus=int(row["surplus"]),
        day=row["day"],
        month=row["month"],
        proof=row.get("proof"),
        code=row.get("code"),
        note=row.get("note"),
        calls=tuple(row.get("calls", "").split()),
        dispatched_ms=int(row["dispatched"]) if "dispatched" in row else None,
        asked=int(row["asked"]) if "asked" in row else None,
        surplus_micros=int(row.get("surplus_micros", 0)),
    )


def entry_id(text: str) -> EntryId:
    """A stream id, `<ms>-<count>`, as something that compares."""
    ms, _, count = text.partition("-")
    return int(ms), int(count or 0)


async def rows(
    scripts: LedgerScripts, first: str = "-", last: str = "+", *, newest_first: bool = False
) -> AsyncIterator[tuple[str, dict[str, str]]]:
    """The stream's entries in order, or the newest ones first, page by page, as they lie in the
    store."""
    order = ("newest",) if newest_first else ()
    while True:
        page: Sequence[tuple[str, Sequence[str]]]
        page = await scripts.run("entries", first, last, ENTRY_PAGE_SIZE, *order)
        for id, flat in page:
            yield id, dict(zip(flat[::2], flat[1::2], strict=True))
        if len(page) < ENTRY_PAGE_SIZE:
            return
        if newest_first:
            last = f"({page[-1][0]}"
        else:
            first = f"({page[-1][0]}"
