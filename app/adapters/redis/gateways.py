"""Which gateway processes are at work on this store, and where each keeps its pictures."""

from collections.abc import Sequence

import orjson

from app.adapters.redis.book import Book
from app.domain.gateways import STALE_MS, GatewayRecord


class Gateways:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, book: Book) -> None:
        self._book = book

    async def join(self, gateway: GatewayRecord) -> GatewayRecord | None:
        """Enter a process; or enter nothing, and return one at work with another image store."""
        return await self._announce(gateway, joins=True)

    async def beat(self, gateway: GatewayRecord) -> GatewayRecord | None:
        """Say that a process is still there; one at work with another image store, if any."""
        return await self._announce(gateway, joins=False)

    async def leave(self, id: str) -> None:
        await self._book.read("leave", id)

    async def alive(self) -> Sequence[GatewayRecord]:
        """Those heard of lately, by host and id."""
        now_ms: int = await self._book.read("clock")
        found = map(_record, await self._book.read("records", "gateways"))
        here = [one for one in found if abs(now_ms - one.last_ms) <= STALE_MS]
        return sorted(here, key=lambda one: (one.host, one.id))

    async def _announce(self, gateway: GatewayRecord, *, joins: bool) -> GatewayRecord | None:
        ask = {
            "id": gateway.id,
            "host": gateway.host,
            "images": gateway.images,
            "place": gateway.place,
        }
        other = await self._book.read("announce", orjson.dumps(ask), STALE_MS, int(joins))
        return _record(other) if other else None


def _record(text: str) -> GatewayRecord:
    row = orjson.loads(text)
    return GatewayRecord(row["id"], row["host"], row["images"], row["place"], row["last"])
