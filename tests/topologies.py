"""Every kind of store Koi runs on, as real processes of the test's own, and what befalls them.

`tests/store_plans.py` builds them. The verbs befall every server that holds data; `fail_over` and
its like only the one that holds the ledger.
"""

import contextlib
import itertools
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import redis
from redis.crc import key_slot

from app.adapters.redis import keyspace
from tests.faultproxy import FaultProxy
from tests.linkfaults import Fault as LinkFault
from tests.store_node import Node, until

SERVICE = "koi"


@dataclass
class Topology:
    """A running store. `nodes` hold data; `url` is what an operator would set."""

    name: str
    url: str
    nodes: list[Node]
    sentinels: list[Node] = field(default_factory=list)
    link: FaultProxy | None = None

    # What may befall it -------------------------------------------------------------------------

    def suffer(self, fault: LinkFault) -> None:
        """Something befalls the link to the store."""
        assert self.link is not None
        self.link.set(fault)

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def revive(self) -> None:
        """Thaw what is frozen, start what is dead, and wait until all is well."""
        if self.link is not None:
            self.link.heal()
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
