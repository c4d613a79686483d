"""Stores whose servers change roles: slots on the move, dead neighbours, signals of ended jobs."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from store_rig import OpenStore, admission, delivered, eventually, ledger_on, listening, started

from app.adapters.redis import keyspace
from app.adapters.redis.client.connection import connect
from app.adapters.redis.client.scripts import build_script
from app.domain.errors import LedgerUnavailable
from tests.store_node import Node
from tests.topologies import Topology

WRITE = build_script("write", "#!lua\nreturn redis.call('INCR', KEYS[1])")
KEY = "koi:{on its way}"


def nodes_by_slot(topology: Topology, key: str) -> tuple[Node, list[Node]]:
    """The primary that holds a key, and the other primaries."""
    slot = key_slot(key.encode())
    primaries = [node for node in topology.nodes if node.primary]
    [span] = [s for s in primaries[0].ask("CLUSTER", "SLOTS") if s[0] <= slot <= s[1]]
    holder = next(node for node in primaries if node.port == span[2][1])
    return holder, [node for node in primaries if node is not holder]


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_a_slot_on_its_way_to_another_node_is_followed(
    topology: Topology, open_store: OpenStore
) -> None:
    """ASK while it travels, on the same connection as ASKING; MOVED when it has arrived."""
    holder, [target, *_] = nodes_by_slot(topology, KEY)
    slot, home, goal = (
        key_slot(KEY.encode()),
        holder.ask("CLUSTER MYID"),
        target.ask("CLUSTER MYID"),
    )
    store = open_store(topology.url, timeout_s=2)
    await store.run(WRITE, ("koi:other",))

    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", home)
    holder.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", goal)
    travelling = await asyncio.gather(*(store.run(WRITE, (KEY,)) for _ in range(20)))
    for node in (target, holder):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", goal)
    arrived = await store.run(WRITE, (KEY,))

    assert sorted(travelling) == list(range(1, 21))
    assert arrived == 21
    for node in (holder, target):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", goal)
    target.ask("FLUSHALL")
    for node in (holder, target):
        node.ask("CLUSTER", "SETSLOT", slot, "NODE", home)


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_a_ledger_that_is_being_moved_refuses_to_spend(
    topology: Topology, open_store: OpenStore
) -> None:
    """Its scripts name one key and touch many: halfway they cannot run, which is no bug of ours."""
    holder, [target, *_] = nodes_by_slot(topology, keyspace.LEDGER_ROUTE[0])
    home, goal = (node.ask("CLUSTER MYID") for node in (holder, target))
    slot = key_slot(keyspace.LEDGER_ROUTE[0].encode())
    ledger = ledger_on(open_store(topology.url, timeout_s=2))
    await ledger.admit(admission())

    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", home)
    holder.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", goal)
    try:
        with pytest.raises(LedgerUnavailable, match="clusterdown"):
            await ledger.admit(admission())
    finally:
        for node in (holder, target):
            node.ask("CLUSTER", "SETSLOT", slot, "STABLE")

    assert await ledger.admit(admission())


@pytest.mark.parametrize("topology", ["cluster"], indirect=True)
async def test_a_ledger_does_not_need_the_other_nodes(
    topology: Topology, open_store: OpenStore
) -> None:
    """Neither one it holds connections to, nor one that a newcomer asks for the map first."""
    ledger = ledger_on(open_store(topology.url, timeout_s=2))
    await ledger.admit(admission())
    # A primary that has missed most others for as long as the second would serve nobody.
    topology.configure(cluster_require_full_coverage="no", cluster_node_timeout=60_000)
    _, others = nodes_by_slot(topology, keyspace.LEDGER_ROUTE[0])
    for node in others:
        node.kill()

    try:
        assert await ledger.admit(admission())
        assert await ledger_on(open_store(topology.url, timeout_s=2)).admit(admission())
    finally:
        for node in topology.nodes:
            if node.alive:
                node.ask("CONFIG", "SET", "cluster-node-timeout", 2000)


@pytest.mark.parametrize(
    "topology", ["cluster", pytest.param("sentinel", marks=pytest.mark.chaos)], indirect=True
)
async def test_words_of_ended_jobs_come_from_the_promoted_node(
    topology: Topology, open_store: OpenStore
) -> None:
    heard: list[str | None] = []
    ledger = ledger_on(open_store(topology.url))
    job_id = await started(ledger, admission())
    async with listening(open_store(topology.url), heard, quiet_s=0.5):
        await eventually(lambda: heard == [None], 10)
        promoted = await asyncio.to_thread(topology.fail_over)
        await eventually(lambda: listens(promoted, topology), 30)

        await surely_settled(ledger_on(open_store(topology.url)), job_id)

        await eventually(lambda: heard[-1] == job_id, 10)
    assert heard[:2] == [None, None]


def listens(promoted: Node, topology: Topology) -> bool:
    """Somebody hears what is said: in a cluster anywhere, else at the primary."""
    nodes = [promoted] if topology.sentinels else [node for node in topology.nodes if node.alive]
    counts = [node.ask("PUBSUB NUMSUB", keyspace.ENDED_CHANNEL)[0][1] for node in nodes]
    return any(counts)


async def surely_settled(ledger: object, job_id: str) -> None:
    while True:
        try:
            await ledger.settle(job_id, delivered(1))  # type: ignore[attr-defined]
        except LedgerUnavailable:
            await asyncio.sleep(0.1)
        else:
            return


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
async def test_no_sentinel_is_forgotten_when_connections_are_made_together(
    topology: Topology,
) -> None:
    """The first one is dead, so that another comes to the front while several ask. One that is
    forgotten cannot help when the others are gone, and its connections are never closed."""

    def known(sentinels: list[Redis]) -> list[int]:
        return sorted(one.connection_pool.connection_kwargs["port"] for one in sentinels)

    client = connect(topology.url)
    assert isinstance(client, Redis)
    pool: Any = client.connection_pool
    named = known(pool.sentinel_manager.sentinels)
    async with client:
        await asyncio.gather(*(pool.get_master_address() for _ in range(3)))
        remembered = known(pool.sentinel_manager.sentinels)

    assert remembered == named
    assert len(set(named)) > 1
