"""Redis Cluster, as far as Koi needs it: which node holds a slot, and one pipeline to each.

redis-py's own client sends every command alone, so that no two share a write or a sync (64 callers:
eight times the CPU of a call, an eighth of the calls). It reports an outage with errors outside its
own family, cannot learn the map while the first primary in it is dead, and sends `ASKING` on
another connection than the command it is meant for.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from redis.asyncio.connection import ConnectionPool
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError

from app.adapters.redis.exchange import Call, Pipeline, wire

Address = tuple[str, int]

HOPS = 4
"""How often one call is sent on while the cluster rearranges itself."""


class Cluster:
    """The map as the nodes tell it, learnt again after every doubt. Nothing is dialled before the
    first call."""

    def __init__(self, seeds: Sequence[Address], pool_to: Callable[..., ConnectionPool]) -> None:
        self._seeds, self._pool_to = tuple(seeds), pool_to
        self._pools: dict[Address, ConnectionPool] = {}
        self._spans: list[tuple[int, int, Address]] = []
        self._nodes: tuple[Address, ...] = ()
        self._moved: dict[int, Address] = {}
        self._doubted: set[Address] = set()
        self._stale = True

    def pool(self, address: Address) -> ConnectionPool:
        """The connections to a node, made when first needed."""
        if address not in self._pools:
            host, port = address
            self._pools[address] = self._pool_to(host=host, port=port)
        return self._pools[address]

    def owner(self, key: str) -> Address:
        """The primary that holds the key; `ClusterDownError` when nobody does."""
        slot = key_slot(key.encode())
        if slot in self._moved:
            return self._moved[slot]
        for first, last, address in self._spans:
            if first <= slot <= last:
                return address
        self._stale = True
        raise ClusterDownError(f"nobody holds slot {slot}")

    def moved(self, slot: int, address: Address) -> None:
        """A node said so: true for now, and a sign that the map is old. A node that does not know
        its own name leaves it out."""
        if address[0]:
            self._moved[slot] = address
        self._stale = True

    def doubt(self, address: Address) -> None:
        """The node fell silent or knows no cluster: ask the others for the map."""
        self._doubted.add(address)
        self._stale = True

    async def learn(self, timeout_s: float, *, afresh: bool = False) -> None:
        """Ask for the map if it is in doubt: all nodes at once, and the first answer counts.

        Raises `RedisError` or `OSError` when no node answers.
        """
        if not (self._stale or afresh):
            return
        known = dict.fromkeys((*self._nodes, *self._seeds))
        asked = [a for a in known if a not in self._doubted] or list(known)
        asking = [asyncio.create_task(self._ask(address, timeout_s)) for address in asked]
        trouble: Exception = ClusterDownError("no node answers")
        try:
            for answer in asyncio.as_completed(asking):
                try:
                    self._take(*await answer)
                    break
                except (RedisError, OSError) as error:
                    trouble = error
            else:
                self._doubted.clear()
                raise trouble
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        await self._leave()

    async def _ask(self, address: Address, timeout_s: float) -> tuple[str, Any]:
        pipeline = Pipeline(self.pool(address), timeout_s)
        [rows] = await pipeline.talk([wire("CLUSTER", "SLOTS")])
        if isinstance(rows, Exception):
            raise rows
        if not rows:
            raise ClusterDownError(f"{address} belongs to no cluster")
        return address[0], rows

    def _take(self, host: str, rows: Iterable[Any]) -> None:
        spans, nodes = [], []
        for first, last, *holders in rows:
            addresses = [(holder[0] or host, int(holder[1])) for holder in holders]
            spans.append((first, last, addresses[0]))
            nodes += addresses
        self._spans, self._nodes = spans, tuple(dict.fromkeys(nodes))
        self._moved.clear()
        self._doubted.clear()
        self._stale = False

    async def _leave(self) -> None:
        """Hang up on nodes that are gone."""
        for address in set(self._pools) - {*self._nodes, *self._seeds}:
            await self._pools.pop(address).disconnect()

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()


class Routed:
    """Calls to the nodes that hold their keys: each node's in one pipeline, all nodes at once."""

    def __init__(self, cluster: Cluster, timeout_s: float, replicas: int = 0) -> None:
        self._cluster, self._timeout_s, self._replicas = cluster, timeout_s, replicas

    async def __call__(self, calls: list[Call]) -> list[Any]:
        replies: list[Any] = [None] * len(calls)
        left: dict[int, Address | None] = dict.fromkeys(range(len(calls)))
        await self._cluster.learn(self._timeout_s)
        for _ in range(HOPS):
            for n, reply in await self._round(calls, left):
                replies[n] = reply
            left = {n: ask for n in left for ask in self._sent_on(replies[n])}
            if not left:
                break
        return replies

    async def _round(
        self, calls: list[Call], left: dict[int, Address | None]
    ) -> list[tuple[int, Any]]:
        groups: dict[tuple[Address, bool], list[int]] = defaultdict(list)
        answered: list[tuple[int, Any]] = []
        for n, ask in left.items():
            try:
                groups[ask or self._cluster.owner(calls[n].keys[0]), ask is not None].append(n)
            except ClusterDownError as error:
                answered.append((n, error))
        rounds = await asyncio.gather(
            *(
                self._at(address, [calls[n] for n in group], asking=asking)
                for (address, asking), group in groups.items()
            )
        )
        for group, replies in zip(groups.values(), rounds, strict=True):
            answered += zip(group, replies, strict=True)
        return answered

    async def _at(self, address: Address, calls: list[Call], *, asking: bool) -> list[Any]:
        pipeline = Pipeline(self._cluster.pool(address), self._timeout_s, self._replicas)
        try:
            replies = await pipeline(calls, asking=asking)
        except (RedisError, OSError) as error:
            replies = [error] * len(calls)
            self._cluster.doubt(address)
        if any(isinstance(reply, ClusterDownError) for reply in replies):
            self._cluster.doubt(address)
        return replies

    def _sent_on(self, reply: object) -> Iterator[Address | None]:
        """Where a call that was not run goes next: nothing, when it was."""
        if isinstance(reply, MovedError):
            self._cluster.moved(reply.slot_id, (reply.host, reply.port))
            yield None
        elif isinstance(reply, AskError):
            yield reply.host, reply.port
