"""The store goes away while a poll's answer is written down."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from app.adapters.embedded.store import EmbeddedStore
from app.adapters.redis.client.scripts import load_scripts
from app.sandbox.server import Sandbox
from tests.faultproxy import FaultProxy
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, PRICED, gateway
from tests.linkfaults import PASS, Fault, reset


def test_a_store_that_misses_one_renewal_cuts_no_download(sandbox: Sandbox, tmp_path: Path) -> None:
    with (
        EmbeddedStore(tmp_path / "store") as store,
        FaultProxy(store.url) as link,
        gateway(sandbox, link.url, tmp_path / "koi") as koi,
        koi.client() as client,
    ):
        sandbox.set(cdn_status=503)
        sandbox.script("cdn-slow=6")
        task_id = client.post(GENERATE, json={**KOI, "async": True}).json()["id"]
        wait_until(lambda: status(client, task_id) == "collecting")
        wait_until(lambda: fetched(sandbox) > 4)
        before = fetched(sandbox)
        sandbox.set(cdn_status=None)
        wait_until(lambda: fetched(sandbox) > before)
        with away_from(link, load_scripts("ledger")["record_collection"].sha.encode(), b"") as hit:
            wait_until(lambda: bool(hit))
            time.sleep(1)  # longer than the client of the store repeats by itself
        wait_until(lambda: status(client, task_id) == "completed")

        assert fetched(sandbox) == before + 1


def status(client: httpx.Client, task_id: str) -> str | None:
    found: str | None = client.get(f"/v1/tasks/{task_id}").json().get("status")
    return found


def fetched(sandbox: Sandbox) -> int:
    return sum(request.server == "cdn" for request in sandbox.requests)


def wait_until(check: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def away_from(link: FaultProxy, script: bytes, saying: bytes) -> Iterator[list[bytes]]:
    """The store is away from the first request that runs this script with these words."""
    hit: list[bytes] = []

    def fault_of(request: bytes) -> Fault:
        if script in request and saying in request:
            hit.append(request)
        return reset() if hit else PASS

    link.choose(fault_of)
    yield hit
    link.heal()


def test_a_result_the_store_could_not_be_told_stays_in_the_outbox_although_the_task_fails_later(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(PRICED.read_text().replace("max_n = 10", "max_n = 2", 1))
    owed = tmp_path / "koi" / "journal" / "owed"
    with (
        EmbeddedStore(tmp_path / "store") as store,
        FaultProxy(store.url) as link,
        gateway(
            sandbox, link.url, tmp_path / "koi",
            catalog=catalog, task_deadline_s=30, upstream_poll_interval_s=2,
        ) as koi,
        koi.client() as client,
    ):  # fmt: skip
        sandbox.set(latency_s=1)
        sandbox.script("success-then-failed", "404-after-submit=1")
        with away_from(
            link, load_scripts("ledger")["record_part"].sha.encode(), b'"result"'
        ) as hit:
            task_id = client.post(GENERATE, json={**KOI, "n": 4, "async": True}).json()["id"]
            deadline = time.monotonic() + 20
            while not hit:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            while not list(owed.glob("task_*.json")) and time.monotonic() < deadline - 15:
                time.sleep(0.01)
            time.sleep(0.5)
        while (task := client.get(f"/v1/tasks/{task_id}").json()).get("status") != "completed":
            assert time.monotonic() < deadline, task
            time.sleep(0.05)

        assert len(task["data"]) == 4
        assert [(e.images, e.presumed) for e in koi.entries()] == [(4, 0)]
        koi.assert_ledger_matches_bill()
