"""Ten images are ten, whatever five hundred calls want of four processes at once."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from app.adapters.embedded.store import EmbeddedStore
from app.domain.limits import Limits
from app.wiring.operator import OperatorContext
from tests.chaos.crowd import GENERATE
from tests.chaos.forks import Fork
from tests.harness import PRICED, Koi, operator_settings, quick_sandbox

PROCESSES = 4
CALLS = 500
LIMIT = 10
REFUNDED = ("500", "moderation-400", "429-int")
"""What the provider does not bill: the images go back and are given to somebody else."""


@contextmanager
def deployed(path: Path) -> Iterator[tuple[list[str], Koi]]:
    with ExitStack() as stack:
        sandbox = stack.enter_context(quick_sandbox())
        store = stack.enter_context(EmbeddedStore(path / "store"))
        settings: dict[str, Any] = {
            "upstream_base_url": sandbox.url,
            "upstream_api_key": sandbox.key,
            "upstream_poll_interval_s": 0.05,
            "redis_url": store.url,
            "redis_timeout_ms": 20_000,
            "data_dir": path / "koi",
            "catalog": PRICED,
            "cache_policy": "off",
            "log_level": "error",
        }
        urls = []
        for number in range(PROCESSES):
            fork = Fork(settings, path / f"{number}.log")
            stack.callback(fork.place.close)
            stack.callback(fork.kill)
            urls.append(fork.url)
        yield urls, Koi(urls[0], sandbox, operator_settings(**settings))


async def limited(operator: OperatorContext) -> str:
    await operator.keys.create_user("ann", limits=Limits(images_per_day=LIMIT))
    return (await operator.keys.issue("ann")).secret


async def crowd(client: httpx.AsyncClient, urls: list[str]) -> list[httpx.Response]:
    return await asyncio.gather(
        *(
            client.post(
                urls[number % PROCESSES] + GENERATE,
                json={"model": "grok-imagine", "prompt": f"koi {number}", "n": 1 + number % 3},
            )
            for number in range(CALLS)
        )
    )


async def watch(client: httpx.AsyncClient, url: str, seen: list[int]) -> None:
    """What is used and held of the limit, as often as it can be asked."""
    while True:
        answer = await client.get(f"{url}/v1/usage")
        seen += [
            row["used"] + row["held"]
            for row in answer.json()["limits"]
            if row["meter"] == "images" and row["limit"] == LIMIT
        ]
        await asyncio.sleep(0.02)


async def ask_for_the_rest(client: httpx.AsyncClient, url: str) -> int:
    """One image after the other until it is refused: how many there were."""
    for number in range(LIMIT + 1):
        body = {"model": "grok-imagine", "prompt": f"koi, please {number}"}
        answer = await client.post(url + GENERATE, json=body)
        if answer.status_code != 200:
            assert answer.json()["error"]["code"] == "insufficient_quota"
            return number
    raise AssertionError("no limit at all")


async def test_500_parallel_calls_of_1_to_3_images_at_4_processes_get_10_images(
    tmp_path: Path,
) -> None:
    seen: list[int] = []
    with deployed(tmp_path) as (urls, koi):
        secret = await asyncio.to_thread(koi.operate, limited)
        koi.sandbox.set(fault_rate=0.3, fault_names=REFUNDED, latency_s=0.3)
        async with httpx.AsyncClient(
            headers={"authorization": f"Bearer {secret}"},
            limits=httpx.Limits(max_connections=None),
            timeout=120,
        ) as client:
            watching = asyncio.create_task(watch(client, urls[0], seen))
            answers = await crowd(client, urls)
            watching.cancel()
            koi.sandbox.set(fault_rate=0.0)
            await asyncio.to_thread(koi.settled, 30)
            rest = await ask_for_the_rest(client, urls[-1])
        await asyncio.to_thread(koi.assert_ledger_matches_bill)
        entries = await asyncio.to_thread(koi.entries)

    delivered = sum(len(answer.json()["data"]) for answer in answers if answer.status_code == 200)
    refused = {answer.json()["error"]["code"] for answer in answers if answer.status_code != 200}
    assert "insufficient_quota" in refused
    assert not refused & {"internal_error", "ledger_unavailable"}
    assert seen
    assert max(seen) <= LIMIT
    assert delivered + rest == LIMIT
    assert sum(entry.images for entry in entries) == LIMIT == koi.sandbox.billed_images
