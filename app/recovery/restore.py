"""Puts a backup into an empty store: the ledger's rows, what follows from them, and a new epoch.

Nothing is spent there until it is whole; one that was interrupted is run again with the same file.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.adapters.redis import keyspace
from app.adapters.redis.codec import Record, entry_id, has_pending_images, unflatten
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.replies import Fields
from app.domain.administration import AuditNote
from app.domain.job import OPEN_STATES
from app.domain.rebuild import RetentionTerms
from app.recovery.backup_file import BackupEnd, BackupHeader, BackupReader, Row, RowKind
from app.recovery.charges import Charges
from app.recovery.derived import BATCH_SIZE, chunks, owner_rows, window_rows
from app.recovery.job_rows import drop_stale_fields, job_row, restore_order
from app.recovery.refill import (
    BATCHES_AT_ONCE,
    open_epoch_after,
    restore_batch,
    restore_batches,
)

RowTaker = Callable[[Row], Awaitable[None]]


class RestoreRefused(Exception):
    """Nothing was restored; the message is a sentence for the operator."""


REFUSALS = {
    "not_empty": "The store is not empty: it has entries, users or keys. A backup is restored into "
    "an empty store only; name another one (KOI_REDIS_URL, or another KOI_DATA_DIR).",
    "not_allowed": "The store's user may not delete, which a restore needs: lend it two commands "
    "while this runs (ACL SETUSER koi +del +rename; see deploy/valkey/users.acl).",
    "quarantined": "The store is closed because it lost data. Restore into an empty store; or "
    "rebuild this one with `koi ledger rebuild`.",
}
HALF_RESTORED = (
    "The store holds a part of another backup, {name}: run its restore again, or empty the store."
)


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What the store holds now; `open_jobs` are those that gateways will go on with."""

    entries: int
    open_jobs: int
    records: int


@dataclass(frozen=True, slots=True)
class BackupContents:
    """What a backup holds: its end, and how many different things. `open_jobs` are still to be
    finished, or have images to be downloaded."""

    header: BackupHeader
    end: BackupEnd
    entries: int
    open_jobs: int
    users: int
    teams: int
    keys: int
    pictures: int
    picture_bytes: int


def check_backup(reader: BackupReader, report: Callable[[Row], None]) -> BackupContents:
    """Read a backup to its end. Raises `BackupDamaged`, `RestoreRefused`."""
    if reader.header.data_version > keyspace.DATA_VERSION:
        raise RestoreRefused(
            f"The backup's data is of version {reader.header.data_version}, and this Koi knows "
            f"version {keyspace.DATA_VERSION}: restore it with the newer Koi."
        )
    if reader.header.data_version < keyspace.DATA_VERSION:
        raise RestoreRefused(
            f"The backup's data is of version {reader.header.data_version}, and this Koi writes "
            f"version {keyspace.DATA_VERSION}: restore it with the Koi {reader.header.koi_version} "
            "that made it, then upgrade that store."
        )
    open_jobs: set[str] = set()
    names: dict[str, set[str]] = {"users": set(), "teams": set(), "keys": set()}
    picture_bytes = 0
    for row in reader:
        report(row)
        match row:
            case [RowKind.JOB, fields, *_]:
                job = unflatten(fields)
                (open_jobs.add if _is_unfinished(job) else open_jobs.discard)(job["id"])
            case [RowKind.GONE, id]:
                open_jobs.discard(id)
            case [RowKind.RECORD, family, name, _] if family in names:
                names[family].add(name)
            case [RowKind.PICTURE, _, _, body]:
                picture_bytes += len(body)
    assert reader.end is not None
    counts = reader.end.counts
    return BackupContents(
        header=reader.header,
        end=reader.end,
        entries=counts.get(RowKind.ENTRY, 0),
        open_jobs=len(open_jobs),
        pictures=counts.get(RowKind.PICTURE, 0),
        picture_bytes=picture_bytes,
        **{family: len(found) for family, found in names.items()},
    )


async def restore_ledger(
    scripts: LedgerScripts,
    reader: BackupReader,
    end: BackupEnd,
    terms: RetentionTerms,
    note: AuditNote,
    take: RowTaker,
) -> RestoreReport:
    """`reader` was checked to its `end` before; `take` is handed each row, too.

    Raises `RestoreRefused`, `BackupDamaged`, `LedgerUnavailable`."""
    token = secrets.token_hex(8)
    begun, run = await _begin(scripts, end.name, token), f"restoring {end.name} {token}"
    await restore_batch(scripts, {"run": run, "clear": True})
    refill = _Refill(scripts, terms, run, await scripts.now_ms())
    for row in reader:
        await take(row)
        await refill.add(row)
    await refill.add_rest(end, note)
    earlier = {**end.earlier, end.epoch: end.seq}
    for name, seq in unflatten(begun["earlier"]).items():
        earlier[name] = max(earlier.get(name, 0), int(seq))
    await open_epoch_after(scripts, refill.open_jobs, earlier, run)
    return refill.report


async def check_empty(scripts: LedgerScripts, name: str) -> None:
    """Raises `RestoreRefused` when the store would not take this backup; changes nothing."""
    await _begin(scripts, name, "")


async def _begin(scripts: LedgerScripts, name: str, token: str) -> Fields:
    begun: Fields = await scripts.run("begin_restore", name, token)
    if not begun["begun"]:
        why = begun["why"]
        raise RestoreRefused(REFUSALS.get(why, HALF_RESTORED.format(name=why)))
    return begun


@dataclass(slots=True)
class _Refill:
    """Rows on their way into the store. Jobs that are not finished wait for the end, since later
    rows may say how they went on; everything else leaves in batches."""

    scripts: LedgerScripts
    terms: RetentionTerms
    run: str
    now_ms: int
    charges: Charges = field(default_factory=Charges)
    unfinished: dict[str, Record] = field(default_factory=dict)
    entries: int = 0
    last_audit_ms: int = 0
    names: set[tuple[str, str]] = field(default_factory=set)
    batch: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    batches: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def open_jobs(self) -> list[Record]:
        return [job for job in self.unfinished.values() if job["state"] in OPEN_STATES]

    @property
    def report(self) -> RestoreReport:
        return RestoreReport(self.entries, len(self.open_jobs), len(self.names))

    async def add(self, row: Row) -> None:
        match row:
            case [RowKind.ENTRY, id, fields]:
                self.charges.add(unflatten(fields))
                self.entries += 1
                self._list("entries").append({"id": id, "fields": fields})
            case [RowKind.JOB, fields, kept_until_ms]:
                self._add_job(unflatten(fields), kept_until_ms)
            case [RowKind.GONE, id]:
                self.unfinished.pop(id, None)
            case [RowKind.AUDIT, id, fields]:
                self.last_audit_ms = entry_id(id)[0]
                self._list("audit").append({"id": id, "fields": fields})
            case _:
                self._add_as_it_is(row)
        self.rows += 1
        if self.rows >= BATCH_SIZE:
            await self._close_batch()

    def _add_as_it_is(self, row: Row) -> None:
        match row:
            case [RowKind.RECORD, family, name, record]:
                self.names.add((family, name))
                self.batch.setdefault(family, {})[name] = record
            case [RowKind.USED, id, used_ms]:
                self.batch.setdefault("used", {})[id] = used_ms
            case [RowKind.DELIVERY, fields, due_ms]:
                id = unflatten(fields)["id"]
                self._list("deliveries").append({"id": id, "fields": fields, "due": due_ms})

    async def add_rest(self, end: BackupEnd, note: AuditNote) -> None:
        """The jobs that go on, the counters, and who restored all this."""
        await self._close_batch()
        for jobs in chunks(sorted(self.unfinished.values(), key=restore_order)):
            for job in jobs:
                self._list("jobs").append(job_row(job, self.terms, self.now_ms))
            await self._close_batch()
        windows = window_rows(self.charges, self.open_jobs, self.scripts, self.now_ms)
        for some in chunks(list(windows)):
            self._list("windows").extend(some)
            await self._close_batch()
        self._list("audit").append(self._audit_row(end, note))
        await self._close_batch()
        await restore_batches(self.scripts, self.batches)

    def _audit_row(self, end: BackupEnd, note: AuditNote) -> Mapping[str, Any]:
        changes = orjson.dumps({"backup": [None, end.name]}).decode()
        fields = {"actor": note.actor.text, "kind": note.kind, "target": "house"}
        fields |= {"reason": note.reason, "changes": changes}
        flat = [text for pair in fields.items() for text in pair]
        return {"id": f"{max(self.now_ms, self.last_audit_ms + 1)}-0", "fields": flat}

    def _add_job(self, job: Record, kept_until_ms: int) -> None:
        job = drop_stale_fields(job)
        if _is_unfinished(job):
            self.unfinished[job["id"]] = job
            return
        self.unfinished.pop(job["id"], None)
        row = job_row(job, self.terms, self.now_ms)
        row["expires"] = kept_until_ms or row["expires"]
        if row["expires"] > self.now_ms:
            self._list("jobs").append(row)
        owners = owner_rows(job, self.terms)
        self._list("owners").extend(owner for owner in owners if owner["expires"] > self.now_ms)

    def _list(self, kind: str) -> list[Any]:
        rows: list[Any] = self.batch.setdefault(kind, [])
        return rows

    async def _close_batch(self) -> None:
        if self.batch:
            self.batches.append({**self.batch, "run": self.run})
        self.batch, self.rows = {}, 0
        if len(self.batches) >= BATCHES_AT_ONCE:
            await restore_batches(self.scripts, self.batches)
            self.batches = []


def _is_unfinished(job: Record) -> bool:
    return job["state"] in OPEN_STATES or has_pending_images(job)
