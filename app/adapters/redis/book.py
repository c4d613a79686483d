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
from app.adapters.redis.exchange import Argument
from app.adapters.redis.loader import load
from app.adapters.redis.store import Store
from app.domain.calendar import Calendar, Day
from app.domain.errors import LedgerLost, LedgerUnavailable
from app.domain.journal import Change, Journal, Kind, Mark, Step

DAY_KEPT_MS = 40 * 86_400_000
MONTH_KEPT_MS = 400 * 86_400_000


def utc_now() -> datetime:
    return datetime.now(UTC)


class Book:
    """`journal` is written after every change; its mark is where this process starts from.

    `gone` says that the store writes into files that were deleted: what it takes will be lost.
    `full` says that pictures could not be kept.
    """

    def __init__(
        self,
        store: Store,
        calendar: Calendar,
        journal: Journal,
        clock: Callable[[], datetime] = utc_now,
        gone: Callable[[], bool] = lambda: False,
        full: Callable[[], bool] = lambda: False,
    ) -> None:
        self.calendar = calendar
        self.journal = journal
        self.mark: Mark | None = journal.mark
        self.intact = True
        self._store, self._clock, self._gone, self._full = store, clock, gone, full
        self._scripts = load("ledger")
        self._skew = timedelta()
        self._spans: dict[str, bytes] = {}

    async def open(self) -> Mark:
        """Learn the store's life, or begin it; a life rebuilt from ours is ours.

        Raises `LedgerUnavailable`; `LedgerLost` when the store does not know what we have seen.
        """
        known = self.mark or Mark(0)
        epoch, text, verdict, begins = await self.read(
            "open", secrets.token_hex(16), known.epoch, known.seq
        )
        mark = Mark.read(epoch, text)
        if verdict in ("lost", "foreign"):
            self._found(intact=False)
            raise LedgerLost
        if self.mark is None or mark.epoch != self.mark.epoch:
            # A life that was seen is one to be continued, and its numbers are counted from here.
            self._note(mark, [Change(Kind.LIFE, epoch, ["begins", str(begins)])])
        if verdict == "continued" or self.mark is None or mark.seq > self.mark.seq:
            self.mark = mark
        self._found(intact=True)
        return self.mark

    async def verify(self) -> None:
        """Ask whether the store knows what this machine has seen of it; begins no life of its own.

        Raises `LedgerUnavailable`; `LedgerLost` also when somebody else noticed a loss.
        """
        if self.mark is not None:
            await self.open()
            return
        _, _, suspect, *_ = await self.read("life")
        if suspect:
            raise LedgerLost

    async def begun(self) -> bool:
        """Whether the store holds books at all. Raises `LedgerUnavailable`."""
        epoch, *_ = await self.read("life")
        return epoch is not None

    async def read(self, name: str, *args: Argument) -> Any:
        """A script that asks and changes nothing of the books."""
        return await self._store.run(self._scripts[name], keyspace.LEDGER_ROUTE, *args)

    async def read_dated(self, name: str, ask: dict[str, Any]) -> Any:
        """`read` with the days around now as last argument."""
        reply = await self.read(name, orjson.dumps(ask), self._days())
        if reply[0] == "skew":
            self._correct(reply[1])
            reply = await self.read(name, orjson.dumps(ask), self._days())
        return _told(reply)

    async def write(self, name: str, ask: dict[str, Any], *, dated: bool = False) -> Any:
        """A script that may change the books: its status and what it answers.

        Raises `LedgerUnavailable`; `LedgerLost` when the store lost its data.
        """
        reply = await self._write(name, ask, dated)
        if reply[0] == "skew":
            self._correct(reply[1])
            reply = await self._write(name, ask, dated)
        return _told(reply)

    def may_spend(self, *, asked: bool = False) -> None:
        """Raises `LedgerUnavailable` while what is spent would not be kept (fault F66); `asked`
        when the store was told of it already."""
        reason = (
            ("The journal cannot be written" if not self.journal.ready() else "")
            or ("The store's files were deleted" if self._gone() else "")
            or ("The gateway's disk is full" if self._full() else "")
        )
        if reason:
            raise LedgerUnavailable(f"{reason}; nothing was spent.", asked=asked)

    async def _write(self, name: str, ask: dict[str, Any], dated: bool) -> Any:
        for _ in range(2):
            mark = self.mark or await self.open()
            days = self._days() if dated else b""
            status, text, changes, *rest = await self.read(
                name, mark.epoch, mark.text, orjson.dumps(ask), days, clock.shown()
            )
            if status != "amnesia":
                break
            await self.open()  # raises, unless the books were rebuilt meanwhile
        else:
            raise LedgerLost
        self._seen(Mark.read(mark.epoch, text), changes)
        return [status, *rest]

    def _seen(self, mark: Mark, changes: list[Any]) -> None:
        if self.mark is None or mark.seq > self.mark.seq:
            self.mark = mark
        if changes:
            told = [Change(Kind(kind), id, fields, seq) for kind, id, fields, seq in changes]
            self._note(mark, told)
        self._found(intact=True)

    def _note(self, mark: Mark, changes: list[Change]) -> None:
        self.journal.note(Step(mark, changes, int(self._clock().timestamp() * 1000)))

    def _found(self, *, intact: bool) -> None:
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
        days = self.calendar.around(self._clock() + self._skew)
        if days[1].label not in self._spans:
            self._spans = {days[1].label: orjson.dumps([_span(day) for day in days])}
        return self._spans[days[1].label]

    def _correct(self, store_ms: int) -> None:
        """This machine's clock is a day or more off: follow the store's."""
        self._skew = datetime.fromtimestamp(store_ms / 1000, UTC) - self._clock()


def _told(reply: Any) -> Any:
    if reply[0] == "skew":
        raise LedgerUnavailable("The calendar does not cover the store's time.")
    return reply


def _span(day: Day) -> dict[str, str | int]:
    return {
        "label": day.label,
        "month": day.month,
        "starts": day.starts_ms,
        "ends": day.ends_ms,
        "month_ends": day.month_ends_ms,
        "keep": day.ends_ms + DAY_KEPT_MS,
        "month_keep": day.month_ends_ms + MONTH_KEPT_MS,
    }
