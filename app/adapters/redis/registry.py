"""The gateway processes at work on this store, and the journals that keep its changes."""

from collections.abc import AsyncIterator, Sequence

import orjson

from app.adapters.redis import keyspace
from app.adapters.redis.client.scripts import LATEST_CHANGE, LIST_CHANGES, UNREGISTER_GATEWAY
from app.adapters.redis.codec import entry_id, unflatten
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.records import read_journal
from app.domain.gateways import GATEWAY_STALE_MS, GatewayRecord
from app.domain.journal import ChangeKind, JournalRecord, Position, RegisteredJournal, StoreChange


class GatewayRegistry:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts

    async def register(self, gateway: GatewayRecord) -> GatewayRecord | None:
        """Register a process; or register nothing, and return one with another image store."""
        return await self._upsert(gateway, registers=True)

    async def heartbeat(self, gateway: GatewayRecord) -> GatewayRecord | None:
        """Say that a process is alive; returns one with another image store, if there is one."""
        return await self._upsert(gateway, registers=False)

    async def unregister(self, id: str) -> None:
        await self._scripts.command(UNREGISTER_GATEWAY, keyspace.key("gateways"), id)

    async def list_alive(self) -> Sequence[GatewayRecord]:
        """Those with a recent heartbeat, by host and id."""
        now_ms = await self._scripts.now_ms()
        found = map(_gateway_record, await self._scripts.records("gateways"))
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
        """The epoch of the store that this process has seen last; empty before the first one."""
        return "" if self._scripts.position is None else self._scripts.position.epoch

    async def register(self, journal: RegisteredJournal) -> None:
        """Say that a process writes there now. Raises `LedgerDataLost` too."""
        ask = {name: getattr(journal, name) for name in ("id", "host", "path", "copied")}
        await self._scripts.write("register_journal", ask)

    async def known(self) -> Sequence[RegisteredJournal]:
        """All that ever wrote, by id."""
        found = map(read_journal, await self._scripts.records("journals"))
        return sorted(found, key=lambda journal: journal.id)

    async def now_ms(self) -> int:
        """The store's clock, which `last_ms` was read from."""
        return await self._scripts.now_ms()

    async def copied(self) -> bool:
        """Whether some journal holds the latest change that an operator made."""
        changes = keyspace.key("changes")
        latest = await self._scripts.command(LATEST_CHANGE, changes, "+", "-", "COUNT", 1)
        copies = [journal.copied for journal in await self.known() if journal.copied]
        return not latest or any(entry_id(copy) >= entry_id(latest[0][0]) for copy in copies)

    async def changes(
        self, after: str = FIRST_CHANGE_ID
    ) -> AsyncIterator[tuple[str, JournalRecord]]:
        """What operators changed after that change id, as journals hold it, each with its id."""
        while True:
            span = f"({after}", "+", "COUNT", CHANGE_PAGE_SIZE
            page = await self._scripts.command(LIST_CHANGES, keyspace.key("changes"), *span)
            for id, flat in page:
                yield id, _journal_record(id, unflatten(flat))
            if len(page) < CHANGE_PAGE_SIZE:
                return
            after = page[-1][0]


def _journal_record(id: str, row: dict[str, str]) -> JournalRecord:
    fields = [str(field) for field in orjson.loads(row["fields"])]
    change = StoreChange(ChangeKind(row["kind"]), row["id"], fields, int(row["seq"]))
    return JournalRecord(Position.parse(row["epoch"], row["mark"]), [change], entry_id(id)[0])
