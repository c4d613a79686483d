"""How each topology is built and brought up: the command lines a deployment would use.

One server on a socket with the embedded store's engine and durability, one Redis 7.0 on a port, the
same behind a link that may fail, a cluster of three primaries with a replica each, and a primary
with two replicas under three sentinels.
"""

import contextlib
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faultproxy import FaultProxy
from tests.ports import free_ports
from tests.store_node import Node, programs, until
from tests.topologies import SERVICE, Topology

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
    "link": _redis,
    "cluster": _cluster,
    "sentinel": _sentinel,
}


@contextlib.contextmanager
def running_topology(name: str) -> Iterator[Topology]:
    """The topology of that name, well; at the end nothing of it is left."""
    with (
        tempfile.TemporaryDirectory(prefix="koi", ignore_cleanup_errors=True) as directory,
        contextlib.ExitStack() as links,
    ):
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
            if name == "link":
                topology.link = links.enter_context(FaultProxy(topology.url))
                topology.url = topology.link.url
            yield topology
        finally:
            for node in (*topology.sentinels, *topology.nodes):
                node.signal(signal.SIGCONT)
                node.kill()
