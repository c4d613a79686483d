"""Far more callers than one process carries: the excess is refused at once
and says when to come back, those within are served, and nothing is paid that was not admitted."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from app.sandbox.server import Sandbox
from tests.chaos.crowd import GENERATE
from tests.chaos.gateways import Variant, deployed

BEATS_S = 0.1


@dataclass(frozen=True)
class Rush:
    """`overload` times as many calls a second as the process can carry, for `for_s`."""

    max_in_flight: int
    latency_s: float
    overload: float
    for_s: float

    @property
    def capacity(self) -> float:
        """Generations a second."""
        return self.max_in_flight / self.latency_s

    @property
    def gap_s(self) -> float:
        return 1 / (self.overload * self.capacity)


@dataclass(frozen=True)
class Reply:
    """One answer, and the seconds since the rush began at which it was asked for and given."""

    status: int
    headers: dict[str, str]
    body: bytes
    asked_s: float
    given_s: float

    @property
    def took_s(self) -> float:
        return self.given_s - self.asked_s


LONG = Rush(max_in_flight=200, latency_s=4, overload=5, for_s=8)
SHORT = Rush(max_in_flight=20, latency_s=1, overload=5, for_s=3)


@dataclass
class Toll:
    answers: list[Reply] = field(default_factory=list)
    beats: list[Reply] = field(default_factory=list)

    def of(self, status: int) -> list[Reply]:
        return [reply for reply in self.answers if reply.status == status]


@pytest.mark.chaos
def test_goodput_stays_at_capacity_and_the_excess_is_refused_fast(tmp_path: Path) -> None:
    toll = rushed(LONG, tmp_path)

    served, refused = toll.of(200), toll.of(503)
    carried = sum(min(reply.given_s, LONG.for_s) - reply.asked_s for reply in served)
    share = carried / LONG.for_s / LONG.max_in_flight
    print(
        f"overload calls={len(toll.answers)} served={len(served)} places_in_use={share:.0%} "
        f"served_p50={quantile(served, 0.5):.2f}s served_p99={quantile(served, 0.99):.2f}s "
        f"refused={len(refused)} refused_p50={quantile(refused, 0.5) * 1000:.0f}ms "
        f"refused_p99={quantile(refused, 0.99) * 1000:.0f}ms "
        f"livez_p50={quantile(toll.beats, 0.5) * 1000:.0f}ms "
        f"livez_p99={quantile(toll.beats, 0.99) * 1000:.0f}ms"
    )
    # A place that came free is soon taken again, and there are no more than that.
    assert 0.6 < share <= 1.05


def test_a_rush_is_served_or_told_to_come_back_and_the_ledger_balances(tmp_path: Path) -> None:
    toll = rushed(SHORT, tmp_path)

    assert len(toll.of(200)) >= SHORT.max_in_flight
    assert toll.of(503)


def rushed(rush: Rush, path: Path) -> Toll:
    """The rush, and what must hold after any."""
    settings = {
        "max_in_flight": rush.max_in_flight,
        "upstream_poll_interval_s": 1,
        "upstream_timeout_s": 60,
        "task_deadline_s": 120,
        "redis_timeout_ms": 10_000,
        "cache_policy": "off",
    }
    with (
        Sandbox() as sandbox,
        deployed(Variant("rush", ("auto",), settings=settings), sandbox, path) as deployment,
    ):
        sandbox.set(latency_s=rush.latency_s, api_latency=False, picture_style="plain")
        toll = asyncio.run(_rush(rush, deployment.koi.url, deployment.koi.key()))
        statuses = Counter(reply.status for reply in toll.answers)
        assert set(statuses) <= {200, 503}, statuses
        assert {beat.status for beat in toll.beats} == {200}
        for reply in toll.of(503):
            assert json.loads(reply.body)["error"]["code"] == "overloaded"
            assert 1 <= int(reply.headers["retry-after"]) <= 60
            assert reply.headers["x-should-retry"] == "true"
        assert sandbox.posts == statuses[200]
        deployment.koi.assert_ledger_matches_bill()
        assert deployment.crashes() == []
    return toll


async def _rush(rush: Rush, url: str, key: str) -> Toll:
    toll, began = Toll(), time.monotonic()
    beating = asyncio.create_task(_beat(url, began, toll))
    calls = []
    for n in range(round(rush.for_s / rush.gap_s)):
        await asyncio.sleep(max(began + n * rush.gap_s - time.monotonic(), 0))
        body = json.dumps({"model": "grok-imagine", "prompt": f"koi {n}"})
        head = f"POST {GENERATE} HTTP/1.1\r\nauthorization: Bearer {key}\r\n"
        calls.append(asyncio.create_task(ask(url, began, head, body)))
    toll.answers += await asyncio.gather(*calls)
    beating.cancel()
    await asyncio.gather(beating, return_exceptions=True)
    return toll


async def _beat(url: str, began: float, toll: Toll) -> None:
    """Liveness is never shed."""
    while True:
        toll.beats.append(await ask(url, began, "GET /livez HTTP/1.1\r\n"))
        await asyncio.sleep(BEATS_S)


async def ask(url: str, began: float, head: str, body: str = "") -> Reply:
    """One request on a connection of its own, by hand: a client library is slower than Koi."""
    asked_s = time.monotonic() - began
    host = url.removeprefix("http://")
    address, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(address, int(port))
    length = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
    with closing(writer):
        writer.write(f"{head}host: {host}\r\nconnection: close\r\n{length}\r\n{body}".encode())
        top, _, rest = (await reader.read()).partition(b"\r\n\r\n")
    status, *lines = top.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Reply(int(status.split()[1]), headers, rest, asked_s, time.monotonic() - began)


def quantile(replies: Sequence[Reply], share: float) -> float:
    return sorted(reply.took_s for reply in replies)[round(share * (len(replies) - 1))]
