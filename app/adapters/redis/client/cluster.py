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
from redis.exceptions import ConnectionError as RedisConnectionError

from app.adapters.redis.client.errors import translate_resets
from app.adapters.redis.client.link import Done
from app.adapters.redis.client.pipeline import NodePipeline, ScriptCall

Address = tuple[str, int]

MAX_REDIRECTS = 4
"""How often one call is sent on while the cluster rearranges itself."""


class ClusterTopology:
    """Which node holds which slots, asked for again after every sign that it changed. No connection
    is made before the first call."""

    def __init__(self, seeds: Sequence[Address], pool_to: Callable[..., ConnectionPool]) -> None:
        self._seeds, self._pool_to = tuple(seeds), pool_to
        self._pools: dict[Address, ConnectionPool] = {}
        self._slot_ranges: list[tuple[int, int, Address]] = []
        self._nodes: tuple[Address, ...] = ()
        self._moved_slots: dict[int, Address] = {}
        self._distrusted: set[Address] = set()
        self._stale = True

    def pool(self, address: Address) -> ConnectionPool:
        """The connections to a node, made when first needed."""
        if address not in self._pools:
            host, port = address
            self._pools[address] = self._pool_to(host=host, port=port)
        return self._pools[address]

    def primary_of(self, key: str) -> Address:
        """The primary that holds the key; `ClusterDownError` when nobody does."""
        hash_slot = key_slot(key.encode())
        if hash_slot in self._moved_slots:
            return self._moved_slots[hash_slot]
        for first, last, address in self._slot_ranges:
            if first <= hash_slot <= last:
                return address
        self._stale = True
        raise ClusterDownError(f"nobody holds slot {hash_slot}")

    def record_move(self, hash_slot: int, address: Address) -> None:
        """A node answered MOVED: the slot is there now, and the map is outdated. A node that does
        not know its own address leaves it out."""
        if address[0]:
            self._moved_slots[hash_slot] = address
        self._stale = True

    def distrust(self, address: Address) -> None:
        """The node does not answer or knows no cluster: ask the others for the map."""
        self._distrusted.add(address)
        self._stale = True

    async def refresh(self, timeout_s: float, *, force: bool = False) -> None:
        """Ask for the map if it may be outdated: all nodes at once, and the first answer counts.

        Raises `RedisError` or `OSError` when no node answers.
        """
        if not (self._stale or force):
            return
        known = dict.fromkeys((*self._nodes, *self._seeds))
        asked = [a for a in known if a not in self._distrusted] or list(known)
        asking = [asyncio.create_task(self._fetch_slots(address, timeout_s)) for address in asked]
        trouble: Exception = ClusterDownError("no node answers")
        try:
            for answer in asyncio.as_completed(asking):
                try:
                    self._load_slots(*await answer)
                    break
                except (RedisError, OSError) as error:
                    trouble = error
            else:
                self._distrusted.clear()
                raise trouble
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        await self._close_removed_nodes()

    async def _fetch_slots(self, address: Address, timeout_s: float) -> tuple[str, Any]:
        async with asyncio.timeout(timeout_s):
            rows = await _ask_for_slots(self.pool(address))
        if not rows:
            raise ClusterDownError(f"{address} belongs to no cluster")
        return address[0], rows

    def _load_slots(self, host: str, rows: Iterable[Any]) -> None:
        spans, nodes = [], []
        for first, last, *holders in rows:
            addresses = [(holder[0] or host, int(holder[1])) for holder in holders]
            spans.append((first, last, addresses[0]))
            nodes += addresses
        self._slot_ranges, self._nodes = spans, tuple(dict.fromkeys(nodes))
        self._moved_slots.clear()
        self._distrusted.clear()
        self._stale = False

    async def _close_removed_nodes(self) -> None:
        """Close the connections to nodes that left the cluster."""
        for address in set(self._pools) - {*self._nodes, *self._seeds}:
            await self._pools.pop(address).disconnect()

    async def aclose(self) -> None:
        for pool in self._pools.values():
            await pool.aclose()
        self._pools.clear()


class ClusterPipeline:
    """Calls to the nodes that hold their keys: each node's in one pipeline, all nodes at once."""

    is_serial = True

    def __init__(self, cluster: ClusterTopology, timeout_s: float, replicas: int = 0) -> None:
        self._cluster, self._timeout_s, self._replicas = cluster, timeout_s, replicas
        self._nodes: dict[Address, tuple[ConnectionPool, NodePipeline]] = {}
        self._sending: asyncio.Task[None] | None = None

    def send(self, calls: Sequence[ScriptCall], done: Done) -> None:
        self._sending = asyncio.create_task(self._send(calls, done), name="koi-store")

    async def aclose(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        for _, pipeline in self._nodes.values():
            await pipeline.aclose()

    async def _send(self, calls: Sequence[ScriptCall], done: Done) -> None:
        outcome: list[Any] | Exception = RedisConnectionError("this process hung up")
        try:
            outcome = await self._follow(calls)
        except (RedisError, OSError) as error:
            outcome = error
        finally:
            done(outcome)

    async def _follow(self, calls: Sequence[ScriptCall]) -> list[Any]:
        """The replies, wherever the cluster sends a call on to."""
        replies: list[Any] = [None] * len(calls)
        unsent: dict[int, Address | None] = dict.fromkeys(range(len(calls)))
        await self._cluster.refresh(self._timeout_s)
        for _ in range(MAX_REDIRECTS):
            for n, reply in await self._send_round(calls, unsent):
                replies[n] = reply
            unsent = {n: redirect for n in unsent for redirect in self._redirects(replies[n])}
            if not unsent:
                break
        return replies

    async def _send_round(
        self, calls: Sequence[ScriptCall], unsent: dict[int, Address | None]
    ) -> list[tuple[int, Any]]:
        groups: dict[tuple[Address, bool], list[int]] = defaultdict(list)
        answered: list[tuple[int, Any]] = []
        for n, redirect in unsent.items():
            try:
                groups[
                    redirect or self._cluster.primary_of(calls[n].keys[0]), redirect is not None
                ].append(n)
            except ClusterDownError as error:
                answered.append((n, error))
        rounds = await asyncio.gather(
            *(
                self._send_to_node(address, [calls[n] for n in group], asking=asking)
                for (address, asking), group in groups.items()
            )
        )
        for group, replies in zip(groups.values(), rounds, strict=True):
            answered += zip(group, replies, strict=True)
        return answered

    async def _send_to_node(
        self, address: Address, calls: list[ScriptCall], *, asking: bool
    ) -> list[Any]:
        try:
            replies = await self._pipeline(address).ask(calls, asking=asking)
        except (RedisError, OSError) as error:
            replies = [error] * len(calls)
            self._cluster.distrust(address)
        if any(isinstance(reply, ClusterDownError) for reply in replies):
            self._cluster.distrust(address)
        return replies

    def _pipeline(self, address: Address) -> NodePipeline:
        pool = self._cluster.pool(address)
        known = self._nodes.get(address)
        if known is None or known[0] is not pool:
            known = pool, NodePipeline(pool, self._timeout_s, self._replicas)
            self._nodes[address] = known
        return known[1]

    def _redirects(self, reply: object) -> Iterator[Address | None]:
        """Where a call that was not run goes next; nothing when it was run."""
        if isinstance(reply, MovedError):
            self._cluster.record_move(reply.slot_id, (reply.host, reply.port))
            yield None
        elif isinstance(reply, AskError):
            yield reply.host, reply.port


async def _ask_for_slots(pool: ConnectionPool) -> Any:
    connection = await pool.get_connection()  # type: ignore[no-untyped-call]
    try:
        with translate_resets():
            await connection.send_command("CLUSTER", "SLOTS")
            return await connection.read_response()
    except BaseException:
        # A reply under way must never reach the next caller.
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
