"""Which journals write into these books, and what operators changed for all of them to keep."""

from collections.abc import AsyncIterator, Sequence

import orjson

from app.adapters.redis.book import Book
from app.adapters.redis.entries import entry_id
from app.adapters.redis.records import read_journal
from app.domain.journal import Change, JournalRecord, Kind, Mark, Step

PAGE = 500
START = "0-0"


class Journals:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, book: Book) -> None:
        self._book = book

    @property
    def epoch(self) -> str:
        """The life of the store that this process has seen last; empty before the first one."""
        return "" if self._book.mark is None else self._book.mark.epoch

    async def enlist(self, journal: JournalRecord) -> None:
        """Say that a process writes there now. Raises `LedgerLost` too."""
        ask = {name: getattr(journal, name) for name in ("id", "host", "path", "copied")}
        await self._book.write("enlist", ask)

    async def known(self) -> Sequence[JournalRecord]:
        """All that ever wrote, by id."""
        found = map(read_journal, await self._book.read("records", "journals"))
        return sorted(found, key=lambda journal: journal.id)

    async def now_ms(self) -> int:
        """The store's clock, which `last_ms` was read from."""
        now_ms: int = await self._book.read("clock")
        return now_ms

    async def copied(self) -> bool:
        """Whether some journal holds the latest change that an operator made."""
        newest = await self._book.read("newest")
        copies = [journal.copied for journal in await self.known() if journal.copied]
        return newest is None or any(entry_id(copy) >= entry_id(newest) for copy in copies)

    async def changes(self, after: str = START) -> AsyncIterator[tuple[str, Step]]:
        """What operators changed since that place, as journals hold it, each with its place."""
        while True:
            page = await self._book.read("changes", after, PAGE)
            for place, flat in page:
                yield place, _step(place, dict(zip(flat[::2], flat[1::2], strict=True)))
            if len(page) < PAGE:
                return
            after = page[-1][0]


def _step(place: str, row: dict[str, str]) -> Step:
    fields = [str(field) for field in orjson.loads(row["fields"])]
    change = Change(Kind(row["kind"]), row["id"], fields, int(row["seq"]))
    return Step(Mark.read(row["epoch"], row["mark"]), [change], entry_id(place)[0])
