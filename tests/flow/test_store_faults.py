"""The store's faults on every kind of store, seen through the front door.

Whatever the trouble: new work is refused and nothing is dispatched, a picture under way reaches
its caller and is settled once the store is back, and the ledger equals the provider's bill.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.domain.rebuild import RebuildRefused
from app.recovery.rebuild import rebuild_ledger
from app.sandbox.server import Sandbox
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi, gateway
from tests.linkfaults import black_hole, lose_replies, reset
from tests.store_node import until
from tests.topologies import Topology

Verb = Callable[[Topology], object]
TIMEOUT_MS = 600
GENEROUS_S = 5.0
"""Far above the store's timeout, far below what any retrying client below us would take."""


@dataclass(frozen=True)
class Fault:
    """One kind of trouble, how it comes and how it goes, and where it can happen."""

    name: str
    strike: Verb
    repair: Verb
    stores: tuple[str, ...] = ("embedded", "redis", "cluster", "sentinel")
    prepare: Verb = lambda _: None

    def __str__(self) -> str:
        return self.name


ALONE = ("embedded", "redis")
LINK = ("link",)
FAULTS = [
    Fault("refused", Topology.kill, Topology.revive),
    Fault("frozen", Topology.freeze, Topology.revive),
    Fault("oom", lambda t: t.configure(maxmemory=1), lambda t: t.configure(maxmemory=0)),
    Fault(
        "noreplicas",
        lambda t: t.configure(min_replicas_to_write=9),
        lambda t: t.configure(min_replicas_to_write=0),
    ),
    Fault("readonly", Topology.demote, Topology.promote, ALONE),
    Fault("reset", lambda t: t.suffer(reset()), Topology.revive, LINK),
    Fault("black-hole", lambda t: t.suffer(black_hole()), Topology.revive, LINK),
    Fault("lost-replies", lambda t: t.suffer(lose_replies()), Topology.revive, LINK),
    Fault("loading", Topology.load, Topology.loaded, ALONE, Topology.weigh_down),
]
SHORT = {
    ("redis", "refused"),
    ("redis", "frozen"),
    ("redis", "oom"),
    ("embedded", "readonly"),
    ("link", "lost-replies"),
    ("cluster", "frozen"),
    ("sentinel", "refused"),
}
CASES = [
    pytest.param(
        store,
        fault,
        id=f"{store}-{fault}",
        marks=() if (store, fault.name) in SHORT else pytest.mark.chaos,
    )
    for store in ("embedded", "redis", "link", "cluster", "sentinel")
    for fault in FAULTS
    if store in fault.stores
]


def post(client: httpx.Client, prompt: str) -> httpx.Response:
    return client.post(GENERATE, json={**KOI, "prompt": prompt})


def words(koi: Koi) -> dict[str, str]:
    answer = httpx.get(f"{koi.url}/readyz", timeout=GENEROUS_S)
    assert answer.status_code in (200, 503)
    return answer.json()


def spends(koi: Koi, client: httpx.Client) -> bool:
    """Whether a new picture can be bought, at the operator's hand where a failover lost writes
    that were acknowledged: to notice that is right, to spend on is not."""
    if words(koi)["ledger"] == "lost_data":
        with suppress(RebuildRefused):
            koi.operate(
                lambda operator: rebuild_ledger(
                    operator.scripts, operator.history(), operator.terms
                )
            )
    return post(client, "afterwards").status_code == 200


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.json()["error"]["code"] == "ledger_unavailable", answer.text
    assert answer.headers["x-should-retry"] == "true"
    assert answer.elapsed.total_seconds() < GENEROUS_S


@pytest.mark.parametrize(("topology", "fault"), CASES, indirect=["topology"])
def test_while_the_store_is_in_trouble_nothing_is_spent_and_no_picture_is_lost(
    topology: Topology, fault: Fault, sandbox: Sandbox, tmp_path: Path
) -> None:
    options = {"upstream_mode": "sync", "redis_timeout_ms": TIMEOUT_MS}
    with (
        gateway(sandbox, topology.url, tmp_path / "koi", **options) as koi,
        koi.client(koi.key()) as client,
        ThreadPoolExecutor(8) as crowd,
    ):
        fault.prepare(topology)
        sandbox.set(latency_s=1.2)
        under_way = crowd.submit(post, client, "under way")
        until(lambda: sandbox.posts == 1, "it was dispatched")

        fault.strike(topology)
        refused = list(crowd.map(lambda n: post(client, f"refused {n}"), range(7)))

        for answer in refused:
            assert_refused(answer)
        assert httpx.get(f"{koi.url}/livez").status_code == 200
        assert client.get("/v1/models").status_code == 200
        until(lambda: words(koi)["ledger"] == "unavailable", "readiness says so")
        delivered = under_way.result()
        assert delivered.status_code == 200, delivered.text
        assert httpx.get(delivered.json()["data"][0]["url"]).status_code == 200
        assert sandbox.posts == 1

        fault.repair(topology)
        sandbox.set(latency_s=0)
        until(lambda: spends(koi, client), "it spends again")
        until(lambda: words(koi)["ledger"] == "ok", "readiness says so")
        koi.assert_ledger_matches_bill()
        assert sandbox.posts == 2
        assert sorted(entry.images for entry in koi.entries()) == [1, 1]
