"""The ledger's scripts, run against one life of the store and on its own calendar.

A store that was flushed, restored from an old copy or replaced by a stale replica would refill
everybody's quota. So each writing script is told the epoch and the highest sequence number this
process has seen, and answers "amnesia" when the store knows less (reliability study, section 3).
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from app.adapters.redis import keyspace
from app.adapters.redis.exchange import Argument
from app.adapters.redis.loader import load
from app.adapters.redis.store import Store
from app.domain.calendar import Calendar, Day
from app.domain.errors import LedgerUnavailable

DAY_KEPT_MS = 40 * 86_400_000
MONTH_KEPT_MS = 400 * 86_400_000
AMNESIA = "The store lost its data; spending stays refused until an operator has seen to it."


@dataclass(frozen=True, slots=True)
class Mark:
    """How much of the store's life a process has seen. `seq` rises with every spend."""

    epoch: str
    seq: int


def utc_now() -> datetime:
    return datetime.now(UTC)


class Book:
    def __init__(
        self, store: Store, calendar: Calendar, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.calendar = calendar
        self._store, self._clock = store, clock
        self._scripts = load("ledger")
        self._mark: Mark | None = None
        self._skew = timedelta()
        self._spans: dict[str, bytes] = {}

    @property
    def mark(self) -> Mark | None:
        return self._mark

    async def open(self, known: Mark | None = None) -> Mark:
        """Learn the store's epoch, or give it one.

        `known` is what an earlier process wrote down. Raises `LedgerUnavailable`, also when the
        store knows less than that.
        """
        epoch, seq = await self.read("open", secrets.token_hex(16))
        if known is not None and (known.epoch != epoch or known.seq > seq):
            raise LedgerUnavailable(AMNESIA)
        self._mark = Mark(epoch, seq)
        return self._mark

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
        """A script that changes the books: its answer without the sequence number.

        Raises `LedgerUnavailable` when the store lost its data.
        """
        reply = await self._write(name, ask, dated)
        if reply[0] == "skew":
            self._correct(reply[2])
            reply = await self._write(name, ask, dated)
        return _told([reply[0], *reply[2:]])

    async def _write(self, name: str, ask: dict[str, Any], dated: bool) -> Any:
        mark = self._mark or await self.open()
        days = (self._days(),) if dated else ()
        reply = await self.read(name, mark.epoch, mark.seq, orjson.dumps(ask), *days)
        if reply[0] == "amnesia":
            raise LedgerUnavailable(AMNESIA)
        if self._mark is None or reply[1] > self._mark.seq:
            self._mark = Mark(mark.epoch, reply[1])
        return reply

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
