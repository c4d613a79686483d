"""Putting the books together again from what is left of the store and what the journals remember.

Everybody refuses to spend while this runs (`suspend`), and goes on by itself afterwards: the new
life names the earlier ones it continues. Killed in the middle, it is simply run again.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import orjson

from app.adapters.redis.book import DAY_KEPT_MS, MONTH_KEPT_MS, Book
from app.adapters.redis.entries import entry_id, rows
from app.adapters.redis.memory import Fields, Memory, flat, merged, pairs
from app.adapters.redis.pending import is_pending, read_late, without_done
from app.adapters.redis.records import read_journal
from app.adapters.redis.sums import Sums
from app.domain.journal import JournalRecord, Kind
from app.domain.rebuild import RebuildRefused, Rebuilt, Terms

BATCH = 200
OPEN = "RDU"
REPLAY_MS = 86_400_000
NUMBERS = frozenset({"claims", "seq", "sent", "over", "shift"})
RECORDS = (Kind.USERS, Kind.TEAMS, Kind.KEYS, Kind.STOPS)
FAMILIES = (*RECORDS, Kind.JOURNALS)


@dataclass(slots=True)
class Books:
    """Everything the rebuilt store will hold, before it is written."""

    entries: dict[str, Sequence[str]]
    jobs: dict[str, Fields]
    records: dict[Kind, dict[str, str]]

    @property
    def open_jobs(self) -> list[Fields]:
        return [job for job in self.jobs.values() if job["state"] in OPEN]


async def rebuild(book: Book, memory: Memory, terms: Terms, given: Collection[str] = ()) -> Rebuilt:
    """Restore the books; `given` names the journals that `memory` was read from.

    Raises `RebuildRefused`, `LedgerUnavailable`.
    """
    epoch, seq, suspect, now_ms, lineage = await book.read("life")
    earlier = {life: int(upto) for life, upto in pairs(lineage).items()}
    _check(memory, epoch, seq, bool(suspect), earlier.keys())
    gaps = memory.gaps({**earlier, **({epoch: seq} if epoch else {})})
    surviving = await _surviving(book, memory)
    known = len(surviving.entries)
    books = _together(surviving, memory, store_is_newer=seq > memory.highest)
    await _write(book, {"clear": True})
    async for batch in _batches(books, book, terms, now_ms):
        await _write(book, batch)
    for life, newest in {**memory.newest, **({epoch: seq} if epoch else {})}.items():
        earlier[life] = max(earlier.get(life, 0), newest, memory.newest.get(life, 0))
    # Above every number that was ever given; where the new life begins, `open` reads off these.
    await _reopen(book, books, max(earlier.values(), default=-1) + 1, earlier)
    return Rebuilt(
        entries=len(books.entries),
        from_journal=len(books.entries) - known,
        jobs=len(books.jobs),
        open=len(books.open_jobs),
        records=sum(len(books.records[family]) for family in RECORDS),
        gaps=tuple(gaps),
        absent=tuple(_absent(books, given)),
        blind=not memory.newest,
    )


def _check(
    memory: Memory, epoch: str | None, seq: int, suspect: bool, earlier: Collection[str]
) -> None:
    ours = epoch is None or epoch in memory.newest or not memory.newest.keys().isdisjoint(earlier)
    if memory.newest and not ours:
        raise RebuildRefused(
            "The journal and the store belong to different lives: neither continues the other. "
            "Check KOI_REDIS_URL and KOI_DATA_DIR, or name the right journals with --journal."
        )
    if epoch is None and not suspect and not memory.newest:
        raise RebuildRefused(
            "The store is empty and no journal was found, so there is nothing to rebuild from. "
            "Name the journals of all machines that ran gateways or operator commands (--journal)."
        )
    if epoch is not None and not suspect and seq >= memory.highest:
        raise RebuildRefused(
            "The store knows everything the journal does; nothing to rebuild.", complete=True
        )


async def _surviving(book: Book, memory: Memory) -> Books:
    """What this copy of the store still holds; from here on nobody else changes it."""
    still_open = [pairs(record) for record in await book.read("suspend")]
    entries: dict[str, Sequence[str]] = {id: flat(row) async for id, row in rows(book)}
    jobs = {job["id"]: job for job in still_open}
    for ids in _chunks([id for id in memory.told if id not in jobs]):
        found = await asyncio.gather(*(book.read("job", id) for id in ids))
        jobs.update({id: pairs(record) for id, record in zip(ids, found, strict=True) if record})
    records = {}
    for family in FAMILIES:
        texts = await book.read("records", family.value)
        named = ((orjson.loads(text), text) for text in texts)
        records[family] = {row.get("id") or row["name"]: text for row, text in named}
    return Books(entries, jobs, records)


def _together(surviving: Books, memory: Memory, *, store_is_newer: bool) -> Books:
    entries = {**memory.entries, **surviving.entries}
    entries = {id: entries[id] for id in sorted(entries, key=entry_id)}
    jobs = dict(surviving.jobs)
    for id, told in memory.jobs:
        jobs[id] = merged(jobs.get(id, {}), told)
    ended = {row["job"] for row in map(pairs, entries.values()) if row["kind"] != "adjust"}
    whole = {id: _clean(job) for id, job in jobs.items() if job.keys() >= {"id", "state", "user"}}
    jobs = {id: job for id, job in whole.items() if job["state"] not in OPEN or id not in ended}
    records = {}
    for family in FAMILIES:
        told_records = {name: text for name, (_, text) in memory.records[family].items()}
        both = (told_records, surviving.records[family])
        older, newer = both if store_is_newer else reversed(both)
        records[family] = {**older, **newer}
    return Books(entries, jobs, records)


def _absent(books: Books, given: Collection[str]) -> Iterator[JournalRecord]:
    """Journals that wrote into these books and were not read."""
    for id, text in sorted(books.records[Kind.JOURNALS].items()):
        if id not in given:
            yield read_journal(text)


def _clean(job: Fields) -> Fields:
    """Without what was taken away, and without the numbers of the life that is over."""
    kept = {field: text for field, text in job.items() if text != "" and field not in NUMBERS}
    kept = without_done(kept)
    kept = {field: text for field, text in kept.items() if not field.startswith("told:")}
    return kept | ({"entry": f"{kept['entry'].partition(' ')[0]} 0"} if "entry" in kept else {})


async def _batches(
    books: Books, book: Book, terms: Terms, now_ms: int
) -> AsyncIterator[Mapping[str, Any]]:
    for entries in _chunks(list(books.entries.items())):
        yield {"entries": [{"id": id, "fields": list(fields)} for id, fields in entries]}
    for jobs in _chunks(sorted(books.jobs.values(), key=_bound)):
        restored = [_job(job, terms, now_ms) for job in jobs]
        yield {"jobs": [job for job in restored if job["expires"] > now_ms or _alive(job)]}
        yield {"owners": [o for job in jobs for o in _owners(job, terms) if o["expires"] > now_ms]}
    for windows in _chunks(list(_windows(books, book, now_ms))):
        yield {"windows": windows}
    for family, records in books.records.items():
        for some in _chunks(list(records.items())):
            yield {family.value: dict(some)}


def _job(job: Fields, terms: Terms, now_ms: int) -> dict[str, Any]:
    ended = int(job.get("ended", job["created"]))
    shown = job.get("status") == "completed"
    kept_ms = max(terms.task_ms, terms.image_ms) if shown else terms.task_ms
    lives = max(kept_ms, REPLAY_MS if "replay" in job else 0)
    row: dict[str, Any] = {"id": job["id"], "fields": flat(job)}
    row["expires"] = (now_ms if job["state"] in OPEN else ended) + lives
    if job["state"] in OPEN:
        due = _due(job, terms, now_ms)
        row["due"] = min(max(due, now_ms), now_ms + _longest(job, terms))
        if job["state"] == "R" and due <= now_ms:
            # Somebody may have claimed it and owe its release: it is sent no more (race 7).
            row["fields"] += ["claims", "1"]
    elif is_pending(job):
        row["collect"], row["expires"] = now_ms, now_ms + lives
    return row


def _alive(row: Mapping[str, Any]) -> bool:
    """Somebody has still to look after it."""
    return "due" in row or "collect" in row


def _bound(job: Fields) -> tuple[int, bool]:
    """The job an Idempotency-Key was bound to last is restored last, after those it gave up."""
    return int(job.get("bound", job["created"])), job["state"] != "X"


def _due(job: Fields, terms: Terms, now_ms: int) -> int:
    """When somebody must look at an open job, as if it had never been forgotten."""
    if job["state"] == "R":
        return int(job["created"]) + terms.reserved_ms
    if job["state"] == "U":
        return int(job["ended"]) + terms.hold_ms
    if any(field.startswith("upstream:") for field in job):
        return now_ms
    return int(job["dispatched"]) + terms.silence_ms


def _longest(job: Fields, terms: Terms) -> int:
    """How far off its due time can be: the clock may have been set back since it was written."""
    longest = {"R": terms.reserved_ms, "U": terms.hold_ms}
    return longest.get(job["state"], terms.silence_ms)


def _owners(job: Fields, terms: Terms) -> Iterator[dict[str, Any]]:
    record = orjson.dumps([job["user"], job["pool"]]).decode()
    names = [picture["name"] for picture in orjson.loads(job.get("pictures", "[]"))]
    names += [picture.name for picture in read_late(job)]
    since_ms = int(job.get("ended") or job.get("collecting") or job["created"])
    for name in names:
        yield {"picture": name, "record": record, "expires": since_ms + terms.image_ms}


def _windows(books: Books, book: Book, now_ms: int) -> Iterator[dict[str, Any]]:
    sums: dict[str, Sums] = {}
    for row in map(pairs, books.entries.values()):
        for label in (row["day"], row["month"]):
            sums.setdefault(label, Sums()).enter(row)
    for job in books.open_jobs:
        for label in (job["day"], job["month"]):
            sums.setdefault(label, Sums()).hold(job)
    for label, window in sums.items():
        keep = _kept_until(label, book)
        lines = [(line, " ".join(map(str, row))) for line, row in window.lines.items()]
        for some in _chunks(lines) if keep > now_ms else ():
            yield {"label": label, "rows": flat(dict(some)), "keep": keep}


def _kept_until(label: str, book: Book) -> int:
    if len(label) == len("2026-11"):
        return book.calendar.day(date.fromisoformat(f"{label}-01")).month_ends_ms + MONTH_KEPT_MS
    return book.calendar.day(date.fromisoformat(label)).ends_ms + DAY_KEPT_MS


async def _write(book: Book, batch: Mapping[str, Any]) -> None:
    if not await book.read("restore", orjson.dumps(batch)):
        raise RebuildRefused("Another rebuild ended meanwhile; look with `koi ledger check`.")


async def _reopen(book: Book, books: Books, seq: int, earlier: Mapping[str, int]) -> None:
    states = Counter(job["state"] for job in books.open_jobs)
    images = sum(int(job["n"]) for job in books.open_jobs)
    micros = sum(int(job["n"]) * int(job.get("unit", 0)) for job in books.open_jobs)
    counts = {**{state: states[state] for state in OPEN}, "images": images, "micros": micros}
    ask = {
        "epoch": secrets.token_hex(16),
        "seq": seq,
        "earlier": earlier,
        "open": flat({name: str(count) for name, count in counts.items()}),
    }
    await book.read("reopen", orjson.dumps(ask))


def _chunks(things: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(things), BATCH):
        yield things[start : start + BATCH]
