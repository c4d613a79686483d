"""Copies the ledger while gateways go on spending, so that the copy is the ledger of one moment.

Every change that must never be lost takes a number, and the store remembers what raised the newest
1,024 of them. So everything is copied page by page first, while the names of what changes meanwhile
are noted; what changed is copied again until little is left, and one last script reads the rest
with the number that it belongs to. Entries never change: the file has each once, in order. Counters
follow from entries and open jobs, and rollups from entries: they are made anew (decision 45).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Any, cast

import orjson

from app.adapters.redis.client.scripts import Argument
from app.adapters.redis.closed_months import read_months
from app.adapters.redis.codec import unflatten
from app.adapters.redis.entry_reader import month_pages
from app.adapters.redis.ledger_condition import check_unquarantined, explain_quarantine
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.replies import Fields
from app.domain.closed_months import MonthsMoved
from app.domain.errors import LedgerDataLost, LedgerUnavailable
from app.recovery.backup_file import BackupEnd, BackupWriter, RowKind

PAGE_ROWS = 200
MAX_ROWS_AT_END = 200
TRACK_INTERVAL_S = 0.03
"""A thousand changes are remembered, and a store takes some thousands in a second."""
MAX_PASSES = 5
READ_RETRIES, RETRY_PAUSE_S = 5, 0.5
RECORD_FAMILIES = ("users", "teams", "keys", "stops")
FAMILIES = (*RECORD_FAMILIES, "journals")
OPEN_OR_COLLECTING = ("due", "collect")

Row = Sequence[Any]


class _TooMuchChanged(Exception):
    """More than the store remembers: it is not known any more what has to be copied again."""


async def _at_once() -> None:
    """A file takes what it is given."""


class LedgerCopy:
    """One copy of one ledger into `writer`; `report` is called after each page, and the next one is
    read when there is `room` for it.

    `moved`: the ledger was closed because it moves, which is no reason to refuse.
    """

    def __init__(
        self,
        scripts: LedgerScripts,
        writer: BackupWriter,
        report: Callable[[], None] = lambda: None,
        *,
        room: Callable[[], Awaitable[None]] = _at_once,
        moved: bool = False,
    ) -> None:
        self._scripts, self._writer, self._report, self._moved = scripts, writer, report, moved
        self._room = room
        self._epoch = ""
        self._since = 0
        self._changed: dict[str, None] = {}
        self._last = {RowKind.ENTRY: "", RowKind.AUDIT: ""}
        self._turn = asyncio.Lock()

    async def run(self) -> BackupEnd:
        """Raises `LedgerUnavailable`, `LedgerDataLost`, `OSError`."""
        for _ in range(MAX_PASSES):
            with suppress(_TooMuchChanged):
                return await self._pass()
        raise LedgerUnavailable("The ledger changes too fast to be copied now.")

    async def _pass(self) -> BackupEnd:
        found = await self._read("read_epoch")
        if not self._moved:
            check_unquarantined(found)
        self._epoch, self._since = found["epoch"], found["seq"]
        self._changed.clear()
        async with self._tracking():
            await self._copy_everything()
            while (end := await self._copy_changes()) is None:
                pass
        await self._copy_deliveries(end.taken_ms)
        return end

    async def _copy_deliveries(self, taken_ms: int) -> None:
        """Webhooks and notices that wait, last: one that was told meanwhile needs no second time,
        and the end of a task that is not in the copy will make its own again."""
        async for page in self._pages("deliveries"):
            await self._write(
                [
                    (RowKind.DELIVERY, fields, int(due_ms))
                    for fields, due_ms in page["rows"]
                    if fields and int(unflatten(fields)["created"]) <= taken_ms
                ]
            )

    async def _copy_everything(self) -> None:
        users = []
        for family in FAMILIES:
            async for page in self._pages(family):
                users += [name for name, _ in page["rows"] if family == "users"]
                await self._write([(RowKind.RECORD, family, *row) for row in page["rows"]])
        async for page in self._pages("used"):
            await self._write([(RowKind.USED, id, int(ms)) for id, ms in page["rows"]])
        for noun in OPEN_OR_COLLECTING:
            async for page in self._pages(noun):
                await self._write(_job_rows(page))
        for user in users:
            async for page in self._pages("jobs", user):
                await self._write(_job_rows(page))
        await self._copy_stream("audit", RowKind.AUDIT)
        await self._copy_entries()

    async def _copy_entries(self) -> None:
        """Those of closed months, then the stream. Raises `MonthUnreadable`; `MonthsMoved` when one
        left the stream meanwhile, perhaps before it was read."""
        before = await read_months(self._scripts)
        for stored in before.moved:
            async for entries in month_pages(self._scripts, stored):
                await self._write(list(self._new_rows(RowKind.ENTRY, entries)))
        await self._copy_stream("entries", RowKind.ENTRY)
        if (await read_months(self._scripts)).upto_ms != before.upto_ms:
            raise MonthsMoved

    async def _copy_stream(self, noun: str, kind: RowKind) -> None:
        async for page in self._pages(noun):
            await self._write([*self._new_rows(kind, page["rows"]), *_job_rows(page)])

    def _new_rows(self, kind: RowKind, page: Sequence[Row]) -> Iterator[Row]:
        """Those that an earlier pass has not written: each is in the file once."""
        for id, fields in page:
            if _is_later(id, self._last[kind]):
                self._last[kind] = id
                yield kind, id, fields

    async def _pages(self, what: str, user: str = "") -> AsyncIterator[Fields]:
        following = ""
        while True:
            page = await self._read("copy_page", what, following, PAGE_ROWS, user)
            yield page
            following = page["next"]
            if not following:
                return

    async def _copy_changes(self) -> BackupEnd | None:
        """Copy some of what changed since it was copied; the end, once nothing more is left."""
        some = list(islice(self._changed, MAX_ROWS_AT_END // 2))
        found = await self._ask(some)
        for id in some:
            self._changed.pop(id, None)
        self._check(found)
        final = bool(found["final"]) and not self._changed
        if not final:
            self._changed |= dict.fromkeys(found["changed"])
        await self._write(list(self._changed_rows(found, some)))
        if not final:
            return None
        earlier = {name: int(seq) for name, seq in unflatten(found["earlier"]).items()}
        counts = dict(self._writer.counts)
        return BackupEnd(self._epoch, found["seq"], earlier, found["now_ms"], counts)

    def _changed_rows(self, found: Fields, asked: Sequence[str]) -> Iterator[Row]:
        for family, name, record in found["rows"]:
            yield RowKind.RECORD, family, name, record
        jobs = _job_rows(found)
        yield from jobs
        there = {unflatten(job[1])["id"] for job in jobs} | {row[1] for row in found["rows"]}
        yield from ((RowKind.GONE, id) for id in asked if id not in there)
        yield from self._new_rows(RowKind.AUDIT, found["audit"])
        yield from self._new_rows(RowKind.ENTRY, found["entries"])

    def _check(self, found: Fields) -> None:
        """Raises when the ledger was lost or rebuilt meanwhile."""
        if found.get("epoch") != self._epoch:
            raise LedgerDataLost
        suspect = found.get("suspect")
        if suspect is not None and not self._moved:
            raise explain_quarantine(suspect)

    @asynccontextmanager
    async def _tracking(self) -> AsyncIterator[None]:
        """Note what changes while something else is done, however slowly the file is written."""
        tracker = asyncio.create_task(self._track(), name="koi-backup-changes")
        try:
            yield
        finally:
            tracker.cancel()
            with suppress(asyncio.CancelledError):
                await tracker

    async def _track(self) -> None:
        with suppress(LedgerUnavailable, _TooMuchChanged):  # whoever copies meets the same
            while True:
                await asyncio.sleep(TRACK_INTERVAL_S)
                found = await self._ask(None)
                self._changed |= dict.fromkeys(found["changed"])

    async def _ask(self, ids: Sequence[str] | None) -> Fields:
        """What changed since the last time; without ids only that. Raises `_TooMuchChanged`."""
        async with self._turn:
            ask: dict[str, Any] = {"since": self._since, "most": MAX_ROWS_AT_END}
            if ids is not None:
                ask |= {"ids": ids, "entry": self._last[RowKind.ENTRY]}
                ask |= {"audit": self._last[RowKind.AUDIT]}
            found = await self._read("copy_changes", orjson.dumps(ask))
            if "lost" in found:
                raise _TooMuchChanged
            self._since = found["seq"]
            return found

    async def _read(self, name: str, *args: Argument) -> Fields:
        """A store that does not answer for a moment ends no copy that takes minutes."""
        for _ in range(READ_RETRIES):
            try:
                return cast("Fields", await self._scripts.run(name, *args))
            except LedgerDataLost:
                raise
            except LedgerUnavailable:
                await asyncio.sleep(RETRY_PAUSE_S)
        return cast("Fields", await self._scripts.run(name, *args))

    async def _write(self, rows: Sequence[Row]) -> None:
        """In a thread, so that a slow disk or reader holds up nobody who notes changes."""
        if rows:
            await asyncio.to_thread(self._writer.add, rows)
            self._report()
            await self._room()


def _job_rows(page: Fields) -> list[Row]:
    now_ms = page["now_ms"]
    return [
        (RowKind.JOB, fields, now_ms + kept_ms if kept_ms >= 0 else 0)
        for fields, kept_ms in page["jobs"]
    ]


def _is_later(id: str, than: str) -> bool:
    return not than or _parts(id) > _parts(than)


def _parts(id: str) -> tuple[int, int]:
    ms, _, count = id.partition("-")
    return int(ms), int(count)
