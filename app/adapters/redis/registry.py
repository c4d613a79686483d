"""Which gateway processes are at work on this store, and where each keeps its pictures.

Which journals write into these books, and what operators changed for all of them to keep.
"""

from collections.abc import AsyncIterator, Sequence

import orjson

from app.adapters.redis.entries import entry_id
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.records import read_journal
from app.domain.gateways import GATEWAY_STALE_MS, GatewayRecord
from app.domain.journal import ChangeKind, JournalRecord, Position, RegisteredJournal, StoreChange


class GatewayRegistry:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts

    async def register(self, gateway: GatewayRecord) -> GatewayRecord | None:
        """Enter a process; or enter nothing, and return one at work with another image store."""
        return await self._upsert(gateway, registers=True)

    async def heartbeat(self, gateway: GatewayRecord) -> GatewayRecord | None:
        """Say that a process is still there; one at work with another image store, if any."""
        return await self._upsert(gateway, registers=False)

    async def unregister(self, id: str) -> None:
        await self._scripts.run("unregister_gateway", id)

    async def list_alive(self) -> Sequence[GatewayRecord]:
        """Those heard of lately, by host and id."""
        now_ms: int = await self._scripts.run("clock")
        found = map(_gateway_record, await self._scripts.run("records", "gateways"))
        here = [one for one in found if abs(now_ms - one.last_ms) <= GATEWAY_STALE_MS]
        return sorted(here, key=lambda one: (one.host, one.id))

    async def _upsert(self, gateway: GatewayRecord, *, registers: bool) -> GatewayRecord | None:
        ask = {
            "id": gateway.id,
            "host": gateway.host,
            "images": gateway.images,
            "place": gateway.place,
        }
        other = await self._scripts.run(
            "register_gateway", orjson.dumps(ask), GATEWAY_STALE_MS, int(registers)
        )
        return _gateway_record(other) if other else None


def _gateway_record(text: str) -> GatewayRecord:
    row = orjson.loads(text)
    return GatewayRecord(row["id"], row["host"], row["images"], row["place"], row["last"])


CHANGE_PAGE_SIZE = 500
FIRST_CHANGE_ID = "0-0"


class JournalRegistry:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts

    @property
    def epoch(self) -> str:
        """The life of the store that this process has seen last; empty before the first one."""
        return "" if self._scripts.position is None else self._scripts.position.epoch

    async def register(self, journal: RegisteredJournal) -> None:
        """Say that a process writes there now. Raises `LedgerLost` too."""
        ask = {name: getattr(journal, name) for name in ("id", "host", "path", "copied")}
        await self._scripts.write("register_journal", ask)

    async def known(self) -> Sequence[RegisteredJournal]:
        """All that ever wrote, by id."""
        found = map(read_journal, await self._scripts.run("records", "journals"))
        return sorted(found, key=lambda journal: journal.id)

    async def now_ms(self) -> int:
        """The store's clock, which `last_ms` was read from."""
        now_ms: int = await self._scripts.run("clock")
        return now_ms

    async def copied(self) -> bool:
        """Whether some journal holds the latest change that an operator made."""
        newest = await self._scripts.run("latest_change")
        copies = [journal.copied for journal in await self.known() if journal.copied]
        return newest is None or any(entry_id(copy) >= entry_id(newest) for copy in copies)

    async def changes(
        self, after: str = FIRST_CHANGE_ID
    ) -> AsyncIterator[tuple[str, JournalRecord]]:
        """What operators changed since that place, as journals hold it, each with its place."""
        while True:
            page = await self._scripts.run("list_changes", after, CHANGE_PAGE_SIZE)
            for place, flat in page:
                yield place, _journal_record(place, dict(zip(flat[::2], flat[1::2], strict=True)))
            if len(page) < CHANGE_PAGE_SIZE:
                return
            after = page[-1][0]


def _journal_record(place: str, row: dict[str, str]) -> JournalRecord:
    fields = [str(field) for field in orjson.loads(row["fields"])]
    change = StoreChange(ChangeKind(row["kind"]), row["id"], fields, int(row["seq"]))
    return JournalRecord(Position.parse(row["epoch"], row["mark"]), [change], entry_id(place)[0])
