"""The primary that holds the ledger goes away under load, and a replica takes its place.

Replication is asynchronous: what the old primary had acknowledged may be gone. Either nothing is,
and the ledger equals the bill, or the gateway says that the store lost its data and spends nothing
until an operator has seen to it. A quota silently refilled is never right. With
`KOI_REDIS_REPLICAS` nothing is lost.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.sandbox.server import Sandbox
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi, gateway
from tests.store_node import until
from tests.topologies import Topology

CALLERS = 4
PATIENCE_S = 60
LOST = "lost its data"
SETTINGS = {
    "upstream_poll_interval_s": 0.1,
    "upstream_queue_s": 0,
    "redis_timeout_ms": 600,
    "cache_policy": "off",
}


@dataclass
class Crowd:
    """Callers that ask for one new picture after the other, and repeat as the SDKs do."""

    client: httpx.Client
    stop: threading.Event = field(default_factory=threading.Event)
    pictures: list[tuple[str, float]] = field(default_factory=list)
    """Prompts that were answered with a picture, and when."""
    complaints: list[str] = field(default_factory=list)
    data_loss: threading.Event = field(default_factory=threading.Event)

    def run(self, caller: int) -> None:
        n = 0
        while not (self.stop.is_set() or self.data_loss.is_set()):
            n += 1
            self.call(f"caller {caller} picture {n}")

    def call(self, prompt: str) -> None:
        """One logical call: repeated while the answers say so."""
        deadline = time.monotonic() + PATIENCE_S
        attempt = 0
        while not self.data_loss.is_set():
            headers = {"x-stainless-retry-count": str(attempt)} if attempt else {}
            answer = self.client.post(GENERATE, json={**KOI, "prompt": prompt}, headers=headers)
            attempt += 1
            if answer.status_code == 200:
                self.pictures.append((prompt, time.monotonic()))
                return
            error = answer.json()["error"]
            if LOST in error["message"]:
                self.data_loss.set()
            elif answer.status_code == 500 or answer.headers["x-should-retry"] != "true":
                self.complaints.append(f"{prompt}: {answer.status_code} {answer.text}")
                return
            elif time.monotonic() > deadline:
                self.complaints.append(f"{prompt} never ended: {answer.text}")
                return
            time.sleep(0.2)

    def since(self, moment: float) -> int:
        return sum(at > moment for _, at in self.pictures)


@contextmanager
def asking(client: httpx.Client) -> Iterator[Crowd]:
    crowd = Crowd(client)
    threads = [threading.Thread(target=crowd.run, args=(n,)) for n in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield crowd
    finally:
        crowd.stop.set()
        for thread in threads:
            thread.join(2 * PATIENCE_S)


def assert_one_post_each(koi: Koi, crowd: Crowd) -> None:
    """No call was bought twice, and nothing was bought that nobody asked for."""
    assert crowd.complaints == []
    asked = [json.loads(r.body)["prompt"] for r in koi.sandbox.requests if r.method == "POST"]
    assert sorted(asked) == sorted(set(asked))
    assert {prompt for prompt, _ in crowd.pictures} <= set(asked)


def forgotten(client: httpx.Client) -> bool:
    """Whether the gateway noticed that acknowledged writes are gone: then it stays at that."""
    said = []

    def clear() -> bool:
        answer = client.post(GENERATE, json={**KOI, "prompt": "afterwards"})
        said.append(LOST in answer.text)
        return said[-1] or answer.status_code == 200

    until(clear, "it spends, or says why it never will")
    return said[-1]


Verb = Callable[[Topology], Any]


HOW: dict[str, Verb] = {
    "killed": Topology.fail_over,
    "frozen": Topology.freeze_over,
    "demoted": Topology.hand_over,
}
CASES = [
    pytest.param(
        store, how, marks=() if (store, how) == ("cluster", "killed") else pytest.mark.chaos
    )
    for store in ("cluster", "sentinel")
    for how in HOW
]


@pytest.mark.parametrize(("topology", "how"), CASES, indirect=["topology"])
def test_spending_resumes_by_itself_and_nothing_is_bought_twice(
    topology: Topology, how: str, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.set(latency_s=0.4)
    with ExitStack() as stack:
        koi = stack.enter_context(gateway(sandbox, topology.url, tmp_path / "koi", **SETTINGS))
        client = stack.enter_context(koi.client(koi.key()))
        with asking(client) as crowd:
            until(lambda: len(crowd.pictures) >= CALLERS, "the crowd is served")
            HOW[how](topology)
            promoted = time.monotonic()
            until(
                lambda: crowd.data_loss.is_set() or crowd.since(promoted) >= 2 * CALLERS,
                "spending resumes, or the loss is noticed",
            )
        topology.revive()
        assert_one_post_each(koi, crowd)
        if not forgotten(client):
            koi.settled(within_s=PATIENCE_S)
            koi.assert_ledger_matches_bill()


def sever(topology: Topology) -> None:
    """Replicas that follow nobody any more, and then the primary dies: what it acknowledged in
    between is nowhere else."""
    topology.sever()
    time.sleep(0.5)
    topology.fail_over()


@pytest.mark.parametrize("topology", ["sentinel"], indirect=True)
@pytest.mark.parametrize("replicas", [pytest.param(0, marks=pytest.mark.chaos), 1])
def test_what_counts_only_on_a_replica_cannot_be_lost_with_the_primary(
    topology: Topology, replicas: int, sandbox: Sandbox, tmp_path: Path
) -> None:
    """`KOI_REDIS_REPLICAS`: without it the loss is noticed, with it there is none."""
    settings = {**SETTINGS, "redis_replicas": replicas, "upstream_mode": "sync"}
    with ExitStack() as stack:
        koi = stack.enter_context(gateway(sandbox, topology.url, tmp_path / "koi", **settings))
        client = stack.enter_context(koi.client(koi.key()))
        with asking(client) as crowd:
            until(lambda: len(crowd.pictures) >= 2 * CALLERS, "the crowd is served")
            sever(topology)
            promoted = time.monotonic()
            until(
                lambda: crowd.data_loss.is_set() or crowd.since(promoted) >= CALLERS,
                "spending resumes, or the loss is noticed",
            )
        topology.revive()
        assert_one_post_each(koi, crowd)
        assert forgotten(client) is (replicas == 0)
        if replicas:
            koi.settled(within_s=PATIENCE_S)
            koi.assert_ledger_matches_bill()


@pytest.mark.parametrize(
    "topology",
    [
        "cluster",
        *(pytest.param(store, marks=pytest.mark.chaos) for store in ("redis", "sentinel")),
    ],
    indirect=True,
)
def test_an_emptied_store_refills_no_quota_and_keeps_no_picture_from_its_caller(
    topology: Topology, sandbox: Sandbox, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "upstream_mode": "sync"}
    with (
        gateway(sandbox, topology.url, tmp_path / "koi", **settings) as koi,
        koi.client(koi.key()) as client,
        ThreadPoolExecutor(1) as caller,
    ):
        sandbox.set(latency_s=1)
        under_way = caller.submit(client.post, GENERATE, json=KOI)
        until(lambda: sandbox.posts == 1, "it was dispatched")
        topology.empty()

        refused = client.post(GENERATE, json={**KOI, "prompt": "free of charge"})

        assert (refused.status_code, LOST in refused.text) == (503, True), refused.text
        assert under_way.result().status_code == 200
        assert sandbox.posts == 1
        until(lambda: httpx.get(f"{koi.url}/readyz").status_code == 503, "readiness says so")
