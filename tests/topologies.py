"""Every kind of store Koi runs on, as real processes of the test's own, and what befalls them.

Four topologies: one server on a socket with the embedded store's engine and durability, one
Redis 7.0 on a port, a cluster of three primaries with a replica each, and a primary with two
replicas under three sentinels. The verbs befall every server that holds data; `fail_over` only
the one that holds the ledger.
"""

import contextlib
import itertools
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis.crc import key_slot

from app.adapters.redis import keyspace
from tests.store_node import Node, free_ports, programs, until

SERVICE = "koi"
PRIMARIES = 3
SLOTS = 16_384
KEPT = {
    "bind": "127.0.0.1",
    "daemonize": "no",
    "save": '""',
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
    "repl-diskless-sync-delay": "0",
    "repl-ping-replica-period": "1",
}
CLUSTERED = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": "2000",
    "cluster-replica-validity-factor": "0",
}
WATCHED = f"""sentinel monitor {SERVICE} 127.0.0.1 %d 2
sentinel down-after-milliseconds {SERVICE} 2000
sentinel failover-timeout {SERVICE} 6000
sentinel parallel-syncs {SERVICE} 2
"""


@dataclass
class Topology:
    """A running store. `nodes` hold data; `url` is what an operator would set."""

    name: str
    url: str
    nodes: list[Node]
    sentinels: list[Node] = field(default_factory=list)

    # What may befall it -------------------------------------------------------------------------

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def revive(self) -> None:
        """Thaw what is frozen, start what is dead, and wait until all is well."""
        for node in self.nodes:
            node.signal(signal.SIGCONT)
            if not node.alive:
                node.start()
        self.wait_until_well()

    def freeze(self) -> None:
        for node in self.nodes:
            node.signal(signal.SIGSTOP)

    def configure(self, **options: str | int) -> None:
        """The same `CONFIG SET` everywhere; names with `_` for `-`."""
        for node, (name, value) in itertools.product(self.nodes, options.items()):
            node.ask("CONFIG", "SET", name.replace("_", "-"), value)

    def demote(self) -> None:
        """Read-only: a replica of nobody."""
        self.ledger_node().ask("REPLICAOF", "127.0.0.1", "1")

    def promote(self) -> None:
        self.ledger_node().ask("REPLICAOF", "NO", "ONE")
        self.wait_until_well()

    def weigh_down(self) -> None:
        self.ledger_node().weigh_down("{ledger}:ballast:")

    def sever(self) -> None:
        """Let the replicas follow nobody."""
        for node in self.nodes:
            if not node.primary:
                node.ask("REPLICAOF", "127.0.0.1", "1")

    def load(self) -> None:
        """Restart into a load that takes minutes, once it is weighed down."""
        node = self.ledger_node()
        node.kill()
        node.start_slowly()

    def loaded(self) -> None:
        self.kill()
        self.revive()

    def forget_scripts(self) -> None:
        for node in self.nodes:
            node.ask("SCRIPT", "FLUSH")

    def empty(self) -> None:
        for node in self.nodes:
            if node.primary:
                node.ask("FLUSHALL")

    def fail_over(self) -> Node:
        """Kill the primary that holds the ledger; the one that was promoted in its place."""
        return self._replaced(Node.kill)

    def freeze_over(self) -> Node:
        """The same with a primary that lives, but answers nobody."""
        return self._replaced(lambda node: node.signal(signal.SIGSTOP))

    def hand_over(self) -> Node:
        """An orderly failover: the old primary lives on as a replica."""
        if self.sentinels:
            return self._replaced(lambda _: self.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE))
        return self._replaced(lambda old: self._replica_of(old).ask("CLUSTER", "FAILOVER"))

    def _replaced(self, strike: Callable[[Node], object]) -> Node:
        old = self.ledger_node()
        strike(old)
        until(lambda: self.ledger_node() is not old, "another primary holds the ledger")
        return self.ledger_node()

    # What it is like ----------------------------------------------------------------------------

    @property
    def replicated(self) -> bool:
        return len(self.nodes) > 1

    def ledger_node(self) -> Node:
        """The living primary that holds the ledger, or the one that did when it is down."""
        if not self.replicated:
            return self.nodes[0]
        found: list[int] = []
        look = self._port_by_sentinel if self.sentinels else self._port_by_cluster
        until(lambda: found.append(look()) or True, "somebody knows the ledger's primary")
        return self._on(found[-1])

    def _port_by_cluster(self) -> int:
        slot = key_slot(keyspace.LEDGER_ROUTE[0].encode())
        said = []
        for node in self.nodes:
            with contextlib.suppress(redis.RedisError, OSError):
                spans = node.ask("CLUSTER", "SLOTS")
                said += [owner[1] for first, last, owner, *_ in spans if first <= slot <= last]
        living = [port for port in said if self._on(port).alive]
        if not said:
            raise redis.ConnectionError("nobody answers")
        return int((living or said)[0])

    def _port_by_sentinel(self) -> int:
        for sentinel in self.sentinels:
            with contextlib.suppress(redis.RedisError, OSError):
                _, port = sentinel.ask("SENTINEL GET-MASTER-ADDR-BY-NAME", SERVICE)
                return int(port)
        raise redis.ConnectionError("no sentinel answers")

    def _on(self, port: int) -> Node:
        return next(node for node in self.nodes if node.port == port)

    def _replica_of(self, primary: Node) -> Node:
        for node in self.nodes:
            if node.facts("replication").get("master_port") == primary.port:
                return node
        raise AssertionError("it has no replica")

    def wait_until_well(self) -> None:
        """Every server up, every slot held, every replica in step."""
        for node in self.nodes:
            until(lambda node=node: node.well, f"port {node.port} is well")
            if not self.sentinels and self.replicated:
                until(
                    lambda node=node: node.ask("CLUSTER INFO")["cluster_state"] == "ok",
                    f"the cluster is well in the eyes of port {node.port}",
                )
        if self.sentinels:
            until(self._agreed, "the sentinels are content")

    def _agreed(self) -> bool:
        """All sentinels name one primary, it is one, and everybody else follows it."""
        for sentinel in self.sentinels:
            with sentinel.client() as admin:
                state = admin.sentinel_master(SERVICE)
                replicas = admin.sentinel_slaves(SERVICE)
            up = [r for r in replicas if not (r["is_sdown"] or r["is_disconnected"])]
            calm = state["is_master"] and not (state["is_sdown"] or state["is_odown"])
            if not calm or len(up) != len(self.nodes) - 1:
                return False
        primary = self.ledger_node()
        followers = [node for node in self.nodes if node is not primary]
        return primary.primary and all(
            node.facts("replication").get("master_port") == primary.port and node.well
            for node in followers
        )

    def heal(self) -> None:
        """Undo whatever befell it; empty and with its scripts forgotten."""
        self.revive()
        self.configure(maxmemory=0, min_replicas_to_write=0)
        self.empty()
        self.forget_scripts()


def _embedded(directory: Path) -> Topology:
    [port] = free_ports(1)
    options = {**KEPT, "unixsocket": str(directory / "s")}
    node = Node.planned(programs()["valkey"], directory / "0", port, options)
    return Topology("embedded", f"unix://{directory / 's'}", [node])


def _redis(directory: Path) -> Topology:
    [port] = free_ports(1)
    node = Node.planned(programs()["redis"], directory / "0", port, KEPT)
    return Topology("redis", f"redis://127.0.0.1:{port}", [node])


def _watcher(program: Path, directory: Path, port: int, primary: int) -> Node:
    return Node.planned(program, directory, port, {"bind": "127.0.0.1"}, rest=WATCHED % primary)


def _sentinel(directory: Path) -> Topology:
    """The first sentinel of the URL is dead: nobody may depend on it."""
    program = programs()["valkey"]
    dead, first, *others = free_ports(7)
    nodes = [Node.planned(program, directory / "0", first, KEPT)]
    for n, port in enumerate(others[:2], start=1):
        options = {**KEPT, "replicaof": f"127.0.0.1 {first}"}
        nodes.append(Node.planned(program, directory / str(n), port, options))
    sentinels = [_watcher(program, directory / f"s{port}", port, first) for port in others[2:]]
    hosts = ",".join(f"127.0.0.1:{port}" for port in (dead, *others[2:]))
    return Topology("sentinel", f"redis+sentinel://{hosts}/{SERVICE}", nodes, sentinels)


def _cluster(directory: Path) -> Topology:
    ports = free_ports(4 * PRIMARIES)
    nodes = []
    for n, (port, bus) in enumerate(zip(ports[::2], ports[1::2], strict=True)):
        options = {**KEPT, **CLUSTERED, "cluster-port": str(bus)}
        nodes.append(Node.planned(programs()["valkey"], directory / str(n), port, options, bus=bus))
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes[:2])
    return Topology("cluster", f"redis+cluster://{hosts}", nodes)


def _form(nodes: list[Node]) -> None:
    """What `redis-cli --cluster create` does."""
    primaries, replicas = nodes[:PRIMARIES], nodes[PRIMARIES:]
    for node in nodes[1:]:
        nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)
    for n, primary in enumerate(primaries):
        first, after = SLOTS * n // PRIMARIES, SLOTS * (n + 1) // PRIMARIES
        primary.ask("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
    for primary, replica in zip(primaries, replicas, strict=True):
        id = primary.ask("CLUSTER", "MYID")
        until(lambda n=replica, id=id: n.ask("CLUSTER", "REPLICATE", id), "they have met")


PLANS: dict[str, Callable[[Path], Topology]] = {
    "embedded": _embedded,
    "redis": _redis,
    "cluster": _cluster,
    "sentinel": _sentinel,
}


@contextlib.contextmanager
def running_topology(name: str) -> Iterator[Topology]:
    """The topology of that name, well; at the end nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="koi", ignore_cleanup_errors=True) as directory:
        topology = PLANS[name](Path(directory))
        try:
            for node in topology.nodes:
                node.start()
            for node in topology.nodes:
                until(lambda node=node: node.ask("PING"), f"port {node.port} answers")
            if name == "cluster":
                _form(topology.nodes)
            for sentinel in topology.sentinels:
                sentinel.start()
                until(
                    lambda s=sentinel: s.ask("SENTINEL", "DEBUG", "info-period", 500),
                    "the sentinel answers",
                )
            topology.wait_until_well()
            yield topology
        finally:
            for node in (*topology.sentinels, *topology.nodes):
                node.signal(signal.SIGCONT)
                node.kill()
