"""Real clients for half an hour, every fault at 2 %: `make soak-clients MINUTES=30`.

The AI SDK, which repeats whatever fails and marks nothing, beside official SDKs old and new; two
gateways on one store, killed with SIGKILL in turn; a provider that does what providers do.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.sandbox.faults import FAULTS as REGISTRY
from app.sandbox.server import Sandbox
from tests.chaos.aftermath import Aftermath
from tests.chaos.gateways import Deployment, Variant, deployed
from tests.chaos.posts import Posts
from tests.chaos.soak import quiet
from tests.chaos.throng import Throng
from tests.clients.catalog import HOUSE, Client, chosen
from tests.clients.process import Driver
from tests.linkfaults import Way, delay, lose_replies, reset, truncate

RATE = 0.02
"""Of each fault."""
FAULTS = (
    "500",
    "502-html",
    "503-no-channel",
    "429-html",
    "429-int",
    "reset-after-accept",
    "close-after-accept",
    "encoded",
    "task-failed",
    "moderation-400",
    "404-for-a-while=1",
    "completed-empty=1",
    "poll-500",
    "poll-reset",
    "cdn-404",
    "cdn-away",
    "cdn-cut",
    "cdn-flaky",
    "cdn-gzip",
    "cdn-shorter",
    "cdn-zeros",
)
LINK_FAULTS = (reset(), lose_replies(), reset(after=150, way=Way.BACK), truncate(150), delay(0.3))
"""On the way to the provider, at the same rate in all."""
SETTINGS = {"upstream_concurrency": 24, "upstream_queue_s": 10, "task_deadline_s": 10}
PAIR = Variant("clients", ("auto", "sync"), workers=(1, 2), linked=True, settings=SETTINGS)
CLIENTS = "ai-7,ai-6,ai-5,openai-python-1,openai-python-3,openai-node-6,litellm-router"
AT_ONCE = 3
"""Calls at once for each client."""
TELL_S = 60.0


@dataclass
class Soak:
    deployment: Deployment
    throng: Throng
    posts: Posts
    for_s: float
    pause_s: tuple[float, float]

    async def run(self) -> None:
        stop, over = asyncio.Event(), asyncio.Event()
        link = self.deployment.upstream_link
        assert link is not None
        link.random(RATE, f"{self.throng.seed} upstream", LINK_FAULTS)
        async with asyncio.TaskGroup() as group:
            calling = group.create_task(self.throng.run(stop))
            group.create_task(self.posts.watch(over))
            telling = group.create_task(self._tell())
            await self._kill()
            stop.set()
            await asyncio.to_thread(self.deployment.wait_until_ready)
            await calling
            link.heal()
            telling.cancel()
            over.set()

    async def _kill(self) -> None:
        dice = random.Random(f"{self.throng.seed} killer")
        ends = time.monotonic() + self.for_s
        while (left_s := ends - time.monotonic()) > 0:
            await asyncio.sleep(min(dice.uniform(*self.pause_s), left_s))
            await asyncio.to_thread(self.deployment.wait_until_ready)
            await asyncio.to_thread(self.deployment.kill_one, dice)

    async def _tell(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(TELL_S)
            minutes = (time.monotonic() - began) / 60
            told = (
                f"calls={len(self.throng.calls)} posts={self.posts.total} "
                f"billed={self.deployment.sandbox.billed_images} kills={self.deployment.kills}"
            )
            print(f"clients {minutes:.1f}min {told}", flush=True)


@contextmanager
def driven(clients: list[Client]) -> Iterator[list[Driver]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Driver(client)) for client in clients]


def soaked(
    clients: list[Client], seed: int, path: Path, for_s: float, pause_s: tuple[float, float]
) -> Aftermath:
    with (
        Sandbox(time_scale=0.05, seed=seed) as sandbox,
        deployed(PAIR, sandbox, path) as deployment,
        driven(clients) as drivers,
    ):
        known = [name for name in FAULTS if name.partition("=")[0] in REGISTRY]
        sandbox.set(picture_style="plain", fault_rate=RATE * len(known), fault_names=known)
        urls = [gateway.url for gateway in deployment.gateways]
        throng = Throng(deployment.koi, urls, drivers, seed, AT_ONCE, think_s=1.0)
        posts = Posts(sandbox)
        asyncio.run(Soak(deployment, throng, posts, for_s, pause_s).run())
        audit, left_open = quiet(deployment)
        posts.look()
        aftermath = Aftermath(
            throng,
            Counter(posts.by_prompt),
            sandbox.billed_images,
            deployment.koi.entries(),
            audit,
            left_open,
            deployment.crashes(),
            urls[0],
        )
        problems = aftermath.problems()
        report = "\n".join([f"seed={seed} kills={deployment.kills}", *aftermath.report()])
        print(report)
        assert not problems, "\n".join([f"{len(problems)} problems", report, *problems[:40]])
        return aftermath


@pytest.mark.chaos
def test_real_clients_buy_each_call_once_and_lose_nothing(
    seed: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    clients = chosen(CLIENTS)
    for client in clients:
        client.prepare()
    minutes = float(request.config.getoption("--chaos-minutes"))
    pause_s = (20.0, 45.0) if minutes > 3 else (10.0, 20.0)

    aftermath = soaked([HOUSE, *clients], seed, tmp_path, 60 * minutes, pause_s)

    assert aftermath.throng.calls
