"""The ledger's scripts, run against one epoch of the store and on the ledger's own calendar.

A store that was emptied, restored from an old copy or replaced by a stale replica would refill
everybody's quota. So each writing script is told the position this process has seen, and refuses
when the store does not know it. What a script changed goes into the journal as well.
"""

import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from app.adapters.redis import clock, keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.pipeline import ReplyReader
from app.adapters.redis.client.scripts import (
    CLOCK,
    LIST_RECORDS,
    READ_RECORD,
    Argument,
    Command,
    Script,
    load_scripts,
)
from app.adapters.redis.codec import Record
from app.adapters.redis.entry_reader import read_entries, read_stream
from app.adapters.redis.ledger_condition import (
    LedgerCondition,
    check_unquarantined,
    check_version,
)
from app.adapters.redis.replies import (
    ErrorCode,
    Fields,
    ScriptError,
    check_fields,
    check_status,
    unexpected_reply,
)
from app.adapters.redis.request_days import RequestDays
from app.domain.calendar import Calendar
from app.domain.closed_months import MonthArchive, NoArchive
from app.domain.errors import LedgerDataLost, LedgerUnavailable, StoreUnavailable
from app.domain.journal import ChangeKind, Journal, JournalRecord, Position, StoreChange
from app.domain.other_store import JournalUnreadable

_KINDS = {kind.value: kind for kind in ChangeKind}


def utc_now() -> datetime:
    return datetime.now(UTC)


class LedgerScripts:
    """`journal` is written after every change; its position is where this process starts from.

    `gone` says that the store writes into files that were deleted: what it takes will be lost.
    `full` says that pictures could not be kept. Every method raises `LedgerUnavailable`.
    """

    def __init__(
        self,
        store: BatchingStore,
        calendar: Calendar,
        journal: Journal,
        clock: Callable[[], datetime] = utc_now,
        gone: Callable[[], bool] = lambda: False,
        full: Callable[[], bool] = lambda: False,
    ) -> None:
        self.calendar = calendar
        self.journal = journal
        self.position: Position | None = journal.position
        self.condition = LedgerCondition()
        self.months: MonthArchive = NoArchive()
        """The entries that left the store."""
        self._is_open = False
        self._store, self._clock, self._gone, self._full = store, clock, gone, full
        self._scripts = load_scripts("ledger")
        self._days = RequestDays(calendar, clock)

    async def open(self) -> Position:
        """Learn the store's epoch, or begin one; one that was rebuilt from ours continues ours.

        Raises `LedgerDataLost` when the store does not know what we have seen, `LedgerMoved`,
        `DataVersionUnknown`.
        """
        known = self.position or Position(0)
        others = [seen.text for seen in self.journal.last_positions if seen.epoch == known.epoch]
        begun = "" if self.journal.unreadable else secrets.token_hex(16)
        found = await self.run("open_epoch", begun, known.epoch, known.text, *others)
        epoch, verdict = found["epoch"], found["verdict"]
        position = Position.parse(epoch, found["position"])
        self.condition.check_verdict(found)
        if self.position is None or position.epoch != self.position.epoch:
            # A rebuild continues every epoch that was seen, and counts its numbers from here.
            begins = ["begins", str(found["begins"])]
            begins += ["continues", " ".join(found["continues"])] if found["continues"] else []
            self._append_to_journal(position, [StoreChange(ChangeKind.EPOCH, epoch, begins)])
        if verdict == "continued" or self.position is None or position.seq > self.position.seq:
            self.position = position
        self.condition.note(None)
        self._is_open = True
        return self.position

    async def verify(self) -> None:
        """Ask whether the store knows what this machine has seen of it; begins no epoch.

        Raises `LedgerDataLost` also when another process noticed a loss, `DataVersionUnknown`.
        """
        if self.position is not None:
            await self.open()
            return
        found = await self.run("read_epoch")
        check_unquarantined(found)
        if found["epoch"] is None and self.journal.unreadable:
            raise JournalUnreadable

    async def check_version(self) -> None:
        """Raises `DataVersionUnknown`."""
        check_version(await self.run("read_epoch"))

    async def has_data(self) -> bool:
        """Whether the store holds a ledger at all."""
        return (await self.run("read_epoch"))["epoch"] is not None

    async def now_ms(self) -> int:
        """The store's clock, Unix milliseconds."""
        seconds, micros = await self._send(CLOCK, keyspace.LEDGER_ROUTE)
        return int(seconds) * 1000 + int(micros) // 1000

    async def records(self, family: str) -> list[str]:
        """All records of a family (users, teams, keys, stops, journals or gateways), as JSON."""
        return list(await self.command(LIST_RECORDS, keyspace.key(family)))

    async def record(self, family: str, name: str) -> str | None:
        text: str | None = await self.command(READ_RECORD, keyspace.key(family), name)
        return text

    async def entries(
        self, first: str = "-", last: str = "+", *, newest_first: bool = False, noun: str = "stream"
    ) -> AsyncIterator[tuple[str, Record]]:
        """The ledger's entries in order, or the newest ones first, as stored, wherever they are; or
        the audit log's records, when that is the `noun`."""
        if noun != "stream":
            found = read_stream(self, first, last, newest_first=newest_first, noun=noun)
        else:
            found = read_entries(self, first, last, newest_first=newest_first)
        async for row in found:
            yield row

    async def command(self, command: Command, key: str, *args: Argument) -> Any:
        """A plain command on one of the ledger's keys."""
        return await self._send(command, (key,), *args)

    async def run(self, name: str, *args: Argument) -> Any:
        """A script that knows no position: its named fields, or its single value.

        Raises `ScriptError`; `LedgerDataLost` when the store is known to have lost data."""
        reply = await self._send(self._scripts[name], keyspace.LEDGER_ROUTE, *args)
        try:
            return check_fields(name, reply)
        except ScriptError as error:
            if error.code is ErrorCode.DATA_LOST:
                raise LedgerDataLost from error
            raise

    async def run_dated(self, name: str, request: dict[str, Any]) -> Fields:
        """`run` with the days around now as last argument."""
        fields: Fields
        for _ in range(2):
            try:
                fields = await self.run(name, orjson.dumps(request), self._days.text)
            except ScriptError as error:
                if error.code is not ErrorCode.CLOCK_SKEW:
                    raise
                self._days.follow_store_clock(error.fields["now_ms"])
            else:
                return fields
        raise _calendar_too_short()

    async def write(
        self,
        name: str,
        request: dict[str, Any],
        *,
        dated: bool = False,
        sent: Sequence[str] = (),
    ) -> tuple[str, Fields]:
        """A script that may change the ledger: its status and named fields. A job that it opens
        has the fields that were `sent`, which its change does not repeat.

        Raises `ScriptError`; `LedgerDataLost` when the store lost its data.
        """
        for _ in range(2):
            status, fields = await self._write(name, request, dated, sent)
            if status != ErrorCode.CLOCK_SKEW:
                return check_status(name, status, fields)
            self._days.follow_store_clock(fields["now_ms"])
        raise _calendar_too_short()

    def ensure_can_spend(self, *, asked: bool = False) -> None:
        """Raises `LedgerUnavailable` while a record of what is spent would not be kept. `asked`:
        the store was told of it already."""
        if not self.journal.ready():
            raise LedgerUnavailable(
                "The journal cannot be written; nothing was spent.", asked=asked
            )
        if self._gone():
            raise LedgerUnavailable(
                "The store's files were deleted; nothing was spent.", asked=asked
            )
        if self._full():
            raise LedgerUnavailable("The gateway's disk is full; nothing was spent.", asked=asked)

    async def _send(
        self,
        script: Script | Command,
        keys: Sequence[str],
        *args: Argument,
        reader: ReplyReader | None = None,
    ) -> Any:
        try:
            return await self._store.run(script, keys, *args, reader=reader)
        except StoreUnavailable as error:
            raise LedgerUnavailable(error.message, asked=error.asked) from error

    async def _write(
        self, name: str, request: dict[str, Any], dated: bool, sent: Sequence[str]
    ) -> tuple[Any, Fields]:
        for _ in range(2):
            position = self.position if self._is_open and self.position else await self.open()
            reader = _WriteReply(self, name, position.epoch, sent)
            status, fields = await self._send(
                self._scripts[name],
                keyspace.LEDGER_ROUTE,
                position.epoch,
                position.text,
                orjson.dumps(request),
                self._days.text if dated else b"",
                clock.monotonic_stamp(),
                reader=reader,
            )
            if status != ErrorCode.DATA_LOST:
                return status, fields
            await self.open()  # raises, unless the ledger was rebuilt meanwhile
        raise LedgerDataLost

    def note_changes(self, epoch: str, text: str, changes: list[Any]) -> None:
        """The store has reached a position: its changes go to the journal, which writes them when
        it is flushed."""
        known = self.position
        if changes or known is None or known.text != text:
            position = Position.parse(epoch, text)
            if known is None or position.seq > known.seq:
                self.position = position
            if changes:
                emitted = [
                    StoreChange(_KINDS[kind], id, fields, seq) for kind, id, fields, seq in changes
                ]
                self.journal.add(JournalRecord(position, emitted, self.host_ms()))
        self.condition.note(None)

    def _append_to_journal(self, position: Position, changes: list[StoreChange]) -> None:
        self.journal.append(JournalRecord(position, changes, self.host_ms()))

    def host_ms(self) -> int:
        """This machine's clock, Unix milliseconds."""
        return int(self._clock().timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class _WriteReply:
    """Reads the reply of a writing script. What it changed is in the journal before any caller of
    the batch goes on, and whether or not this one still waits."""

    scripts: LedgerScripts
    name: str
    epoch: str
    sent: Sequence[str]

    def read(self, reply: Any) -> tuple[Any, Fields]:
        if type(reply) is not list or tuple(map(type, reply[1:])) != (str, list, dict):
            raise unexpected_reply(self.name, reply)
        status, text, changes, fields = reply
        if status == "opened":
            changes[0][2] += self.sent
        if status != ErrorCode.DATA_LOST:
            self.scripts.note_changes(self.epoch, text, changes)
        return status, fields

    def flush(self) -> None:
        self.scripts.journal.flush()


def _calendar_too_short() -> LedgerUnavailable:
    return LedgerUnavailable("The calendar does not cover the store's time.")
