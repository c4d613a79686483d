"""The ledger's scripts, run against one life of the store and on its own calendar.

A store that was flushed, restored from an old copy or replaced by a stale replica would refill
everybody's quota. So each writing script is told the mark this process has seen, and answers
"amnesia" when the store does not know it (reliability study, section 3). What a script changed
goes into the journal as well.
"""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import structlog

from app.adapters.redis import clock, keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.pipeline import Argument
from app.adapters.redis.client.scripts import load_scripts
from app.domain.calendar import Calendar, CalendarDay
from app.domain.errors import LedgerDataLost, LedgerUnavailable
from app.domain.journal import ChangeKind, Journal, JournalRecord, Position, StoreChange

DAY_RETENTION_MS = 40 * 86_400_000
MONTH_RETENTION_MS = 400 * 86_400_000


def utc_now() -> datetime:
    return datetime.now(UTC)


class LedgerScripts:
    """`journal` is written after every change; its mark is where this process starts from.

    `gone` says that the store writes into files that were deleted: what it takes will be lost.
    `full` says that pictures could not be kept.
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
        self.intact = True
        self._store, self._clock, self._gone, self._full = store, clock, gone, full
        self._scripts = load_scripts("ledger")
        self._clock_offset = timedelta()
        self._day_fields_cache: dict[str, bytes] = {}

    async def open(self) -> Position:
        """Learn the store's life, or begin it; a life rebuilt from ours is ours.

        Raises `LedgerUnavailable`; `LedgerDataLost` when the store does not know what we have seen.
        """
        known = self.position or Position(0)
        epoch, text, verdict, begins = await self.run(
            "open_epoch", secrets.token_hex(16), known.epoch, known.seq
        )
        position = Position.parse(epoch, text)
        if verdict in ("lost", "foreign"):
            self._set_intact(intact=False)
            raise LedgerDataLost
        if self.position is None or position.epoch != self.position.epoch:
            # A life that was seen is one to be continued, and its numbers are counted from here.
            self._append_to_journal(
                position, [StoreChange(ChangeKind.EPOCH, epoch, ["begins", str(begins)])]
            )
        if verdict == "continued" or self.position is None or position.seq > self.position.seq:
            self.position = position
        self._set_intact(intact=True)
        return self.position

    async def verify(self) -> None:
        """Ask whether the store knows what this machine has seen of it; begins no life of its own.

        Raises `LedgerUnavailable`; `LedgerDataLost` also when somebody else noticed a loss.
        """
        if self.position is not None:
            await self.open()
            return
        _, _, suspect, *_ = await self.run("read_epoch")
        if suspect:
            raise LedgerDataLost

    async def has_data(self) -> bool:
        """Whether the store holds books at all. Raises `LedgerUnavailable`."""
        epoch, *_ = await self.run("read_epoch")
        return epoch is not None

    async def run(self, name: str, *args: Argument) -> Any:
        """A script that asks and changes nothing of the books."""
        return await self._store.run(self._scripts[name], keyspace.LEDGER_ROUTE, *args)

    async def run_dated(self, name: str, ask: dict[str, Any]) -> Any:
        """`read` with the days around now as last argument."""
        reply = await self.run(name, orjson.dumps(ask), self._days())
        if reply[0] == "skew":
            self._follow_store_clock(reply[1])
            reply = await self.run(name, orjson.dumps(ask), self._days())
        return _checked(reply)

    async def write(self, name: str, ask: dict[str, Any], *, dated: bool = False) -> Any:
        """A script that may change the books: its status and what it answers.

        Raises `LedgerUnavailable`; `LedgerDataLost` when the store lost its data.
        """
        reply = await self._run_once(name, ask, dated)
        if reply[0] == "skew":
            self._follow_store_clock(reply[1])
            reply = await self._run_once(name, ask, dated)
        return _checked(reply)

    def ensure_can_spend(self, *, asked: bool = False) -> None:
        """Raises `LedgerUnavailable` while what is spent would not be kept (fault F66); `asked`
        when the store was told of it already."""
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

    async def _run_once(self, name: str, ask: dict[str, Any], dated: bool) -> Any:
        for _ in range(2):
            position = self.position or await self.open()
            days = self._days() if dated else b""
            status, text, changes, *rest = await self.run(
                name,
                position.epoch,
                position.text,
                orjson.dumps(ask),
                days,
                clock.monotonic_stamp(),
            )
            if status != "data_loss":
                break
            await self.open()  # raises, unless the books were rebuilt meanwhile
        else:
            raise LedgerDataLost
        self._advance_position(Position.parse(position.epoch, text), changes)
        return [status, *rest]

    def _advance_position(self, position: Position, changes: list[Any]) -> None:
        if self.position is None or position.seq > self.position.seq:
            self.position = position
        if changes:
            emitted = [
                StoreChange(ChangeKind(kind), id, fields, seq) for kind, id, fields, seq in changes
            ]
            self._append_to_journal(position, emitted)
        self._set_intact(intact=True)

    def _append_to_journal(self, position: Position, changes: list[StoreChange]) -> None:
        self.journal.append(JournalRecord(position, changes, int(self._clock().timestamp() * 1000)))

    def _set_intact(self, *, intact: bool) -> None:
        if intact is self.intact:
            return
        self.intact = intact
        log = structlog.get_logger("koi.ledger")
        if intact:
            log.warning("ledger_found_again")
        else:
            log.error("ledger_lost", mend="run `koi ledger rebuild`; until then nothing is spent")

    def _days(self) -> bytes:
        """Yesterday, today and tomorrow: the store picks the one that holds its own time."""
        days = self.calendar.days_around(self._clock() + self._clock_offset)
        if days[1].label not in self._day_fields_cache:
            self._day_fields_cache = {
                days[1].label: orjson.dumps([_day_fields(day) for day in days])
            }
        return self._day_fields_cache[days[1].label]

    def _follow_store_clock(self, store_ms: int) -> None:
        """This machine's clock is a day or more off: follow the store's."""
        self._clock_offset = datetime.fromtimestamp(store_ms / 1000, UTC) - self._clock()


def _checked(reply: Any) -> Any:
    if reply[0] == "skew":
        raise LedgerUnavailable("The calendar does not cover the store's time.")
    return reply


def _day_fields(day: CalendarDay) -> dict[str, str | int]:
    return {
        "label": day.label,
        "month": day.month,
        "starts": day.starts_ms,
        "ends": day.ends_ms,
        "month_ends": day.month_ends_ms,
        "keep": day.ends_ms + DAY_RETENTION_MS,
        "month_keep": day.month_ends_ms + MONTH_RETENTION_MS,
    }
