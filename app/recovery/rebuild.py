"""Rebuilds the ledger from what is left of the store and what the journals say.

Gateways refuse to spend while this runs, and go on by themselves afterwards: the new epoch names
the earlier ones it continues. A rebuild that was killed is simply run again.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

from app.adapters.redis import keyspace
from app.adapters.redis.client.scripts import READ_JOB
from app.adapters.redis.codec import Record, entry_id, flatten, unflatten
from app.adapters.redis.entry_reader import read_stream
from app.adapters.redis.ledger_condition import check_version
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.records import read_journal
from app.adapters.redis.replies import Fields
from app.domain.job import OPEN_STATES
from app.domain.journal import ChangeKind, JournalRecord, RegisteredJournal
from app.domain.rebuild import RebuildRefused, RebuildReport, RetentionTerms
from app.recovery.charges import Charges
from app.recovery.closed_months import check_months
from app.recovery.derived import chunks, owner_rows, window_rows
from app.recovery.job_rows import (
    drop_stale_fields,
    job_row,
    needs_attention,
    restore_order,
)
from app.recovery.merge import JournalMerge, merge_accounts, pack_fields
from app.recovery.refill import (
    BATCHES_AT_ONCE,
    open_epoch_after,
    restore_batch,
    restore_batches,
)

T = TypeVar("T")

RECORD_KINDS = (ChangeKind.USERS, ChangeKind.TEAMS, ChangeKind.KEYS, ChangeKind.STOPS)
RESTORED_KINDS = (*RECORD_KINDS, ChangeKind.JOURNALS)


@dataclass(slots=True)
class LedgerContents:
    """Everything the rebuilt store will hold, before it is written."""

    entries: dict[str, bytes]
    """Their fields as JSON, by id."""
    jobs: dict[str, Record]
    records: dict[ChangeKind, dict[str, str]]
    audit: dict[str, Sequence[str]]
    charges: Charges = field(default_factory=Charges)

    @property
    def open_jobs(self) -> list[Record]:
        return [job for job in self.jobs.values() if job["state"] in OPEN_STATES]


async def rebuild_ledger(
    scripts: LedgerScripts,
    records: Iterable[JournalRecord],
    terms: RetentionTerms,
    journal_ids: Collection[str] = (),
) -> RebuildReport:
    """`journal_ids` names where `records` came from.

    Raises `RebuildRefused`, `LedgerUnavailable`."""
    with _without_gc():
        return await _rebuild(scripts, JournalMerge.of(records), terms, journal_ids)


async def _rebuild(
    scripts: LedgerScripts,
    merge: JournalMerge,
    terms: RetentionTerms,
    journal_ids: Collection[str],
) -> RebuildReport:
    found = await scripts.run("read_epoch")
    _check(merge, found, _read_earlier(found))
    # What others wrote until the store was closed counts, too: they have seen it.
    closed = await scripts.run("quarantine")
    epoch, seq, earlier = closed["epoch"], closed["seq"], _read_earlier(closed)
    gaps = merge.find_gaps({**earlier, **({epoch: seq} if epoch else {})})
    survivors = await _read_survivors(scripts, merge, closed["jobs"])
    known = len(survivors.entries)
    contents = _merge_all(survivors, merge, store_is_newer=seq > merge.highest_seq)
    await check_months(scripts, contents.entries)
    await restore_batch(scripts, {"clear": True})
    group: list[Mapping[str, Any]] = []
    async for batch in _batches(contents, scripts, terms, found["now_ms"]):
        group.append(batch)
        if len(group) == BATCHES_AT_ONCE:
            await restore_batches(scripts, group)
            group = []
    await restore_batches(scripts, group)
    for name, last_seq in (*merge.max_seqs.items(), *([(epoch, seq)] if epoch else [])):
        earlier[name] = max(earlier.get(name, 0), last_seq)
    await open_epoch_after(scripts, contents.open_jobs, earlier)
    return RebuildReport(
        entries=len(contents.entries),
        from_journal=len(contents.entries) - known,
        jobs=len(contents.jobs),
        open=len(contents.open_jobs),
        records=sum(len(contents.records[kind]) for kind in RECORD_KINDS),
        gaps=tuple(gaps),
        absent=tuple(_missing_journals(contents, journal_ids)),
        blind=not merge.max_seqs,
    )


@contextmanager
def _without_gc() -> Iterator[None]:
    """Of millions of values that all stay, the collector would find nothing, again and again."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _read_earlier(found: Fields) -> dict[str, int]:
    return {name: int(rebuilt_to) for name, rebuilt_to in unflatten(found["earlier"]).items()}


def _check(merge: JournalMerge, found: Fields, earlier: Mapping[str, int]) -> None:
    epoch, seq, quarantined = found["epoch"], int(found["seq"]), bool(found["quarantined"])
    _check_purpose(found)
    known = {*earlier, *([epoch] if epoch else ())}
    if merge.max_seqs and epoch is not None and known.isdisjoint(merge.epochs):
        raise RebuildRefused(
            "The journal and the store belong to different ledgers: neither continues the other. "
            "Check KOI_REDIS_URL and KOI_DATA_DIR, or name the right journals with --journal."
        )
    if epoch is None and not quarantined and not merge.max_seqs:
        raise RebuildRefused(
            "The store is empty and no journal was found, so there is nothing to rebuild from. "
            "Name the journals of all machines that ran gateways or operator commands (--journal)."
        )
    up_to: Mapping[str, int] = {**earlier, **({epoch: seq} if epoch else {})}
    complete = all(last <= up_to.get(name, seq) for name, last in merge.max_seqs.items())
    if epoch is not None and not quarantined and complete:
        raise RebuildRefused(
            "The store knows everything the journal does; nothing to rebuild.", complete=True
        )


def _check_purpose(found: Fields) -> None:
    """A store that is closed for another reason is no lost one."""
    check_version(found)
    word, _, what = (found["suspect"] or "").partition(" ")
    if word == "moved":
        raise RebuildRefused(
            f"This store's ledger was moved to {what}; rebuilding it here would make two of it. "
            "Set KOI_REDIS_URL to that store."
        )
    if word == "restoring":
        raise RebuildRefused(
            "A restore into this store was interrupted: run the same `koi restore` again first."
        )
    if word == "upgrading":
        raise RebuildRefused(
            "This store is being upgraded, or that was interrupted: run `koi store upgrade` again "
            "first."
        )


async def _read_survivors(
    scripts: LedgerScripts, merge: JournalMerge, open_jobs: Iterable[Sequence[str]]
) -> LedgerContents:
    """What this copy of the store still holds, which no other process changes any more."""
    still_open = [unflatten(record) for record in open_jobs]
    entries = {id: pack_fields(flatten(row)) async for id, row in read_stream(scripts)}
    jobs = {job["id"]: job for job in still_open}
    for ids in chunks([id for id in merge.jobs_by_state if id not in jobs]):
        asked = (scripts.command(READ_JOB, keyspace.key("job", id)) for id in ids)
        found = zip(ids, await asyncio.gather(*asked), strict=True)
        jobs.update({id: record for id, record in found if record})
    records = {}
    for kind in RESTORED_KINDS:
        named = ((orjson.loads(text), text) for text in await scripts.records(kind.value))
        records[kind] = {row.get("id") or row["name"]: text for row, text in named}
    audit: dict[str, Sequence[str]] = {
        id: flatten(row) async for id, row in read_stream(scripts, noun="audit")
    }
    return LedgerContents(entries, jobs, records, audit)


def _merge_all(
    survivors: LedgerContents, merge: JournalMerge, *, store_is_newer: bool
) -> LedgerContents:
    entries = _in_order({**merge.entries, **survivors.entries})
    audit = _in_order({**merge.audit, **survivors.audit})
    jobs = dict(survivors.jobs)
    for id, reported in merge.jobs:
        jobs[id] = merge_accounts(jobs.get(id, {}), reported)
    whole = {
        id: drop_stale_fields(job)
        for id, job in jobs.items()
        if job.keys() >= {"id", "state", "user"}
    }
    still_open = {id for id, job in whole.items() if job["state"] in OPEN_STATES}
    charges = Charges.of(entries.values(), still_open)
    jobs = {id: job for id, job in whole.items() if id not in charges.ended}
    records = {}
    for kind in RESTORED_KINDS:
        told_records = {name: text for name, (_, text) in merge.records[kind].items()}
        both = (told_records, survivors.records[kind])
        older, newer = both if store_is_newer else reversed(both)
        records[kind] = {**older, **newer}
    return LedgerContents(entries, jobs, records, audit, charges)


def _in_order(entries: dict[str, T]) -> dict[str, T]:
    return {id: entries[id] for id in sorted(entries, key=entry_id)}


def _missing_journals(
    contents: LedgerContents, journal_ids: Collection[str]
) -> Iterator[RegisteredJournal]:
    """Journals that wrote into this ledger and were not read."""
    for id, text in sorted(contents.records[ChangeKind.JOURNALS].items()):
        if id not in journal_ids:
            yield read_journal(text)


async def _batches(
    contents: LedgerContents, scripts: LedgerScripts, terms: RetentionTerms, now_ms: int
) -> AsyncIterator[Mapping[str, Any]]:
    for entries in chunks(list(contents.entries.items())):
        yield {"entries": [{"id": id, "fields": orjson.Fragment(row)} for id, row in entries]}
    for changes in chunks(list(contents.audit.items())):
        yield {"audit": [{"id": id, "fields": list(fields)} for id, fields in changes]}
    for jobs in chunks(sorted(contents.jobs.values(), key=restore_order)):
        restored = [job_row(job, terms, now_ms) for job in jobs]
        yield {"jobs": [job for job in restored if job["expires"] > now_ms or needs_attention(job)]}
        yield {
            "owners": [o for job in jobs for o in owner_rows(job, terms) if o["expires"] > now_ms]
        }
    for windows in chunks(list(window_rows(contents.charges, contents.open_jobs, scripts, now_ms))):
        yield {"windows": windows}
    for kind, records in contents.records.items():
        for some in chunks(list(records.items())):
            yield {kind.value: dict(some)}
