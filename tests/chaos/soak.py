"""The storm itself: a crowd calls, a killer kills, then everything must add up."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import httpx

from app.domain.job import Job
from app.domain.ledger import LedgerAudit
from app.domain.limits import Limits
from app.service.keys import IssuedKey
from app.wiring.operator import OperatorContext
from tests.chaos.calls import Call, End, Manner
from tests.chaos.crowd import GENERATE, Crowd, issue
from tests.chaos.gateways import Deployment
from tests.chaos.posts import Posts
from tests.chaos.verdict import Evidence

HONEST_FAULTS = (
    "429-int",
    "500",
    "502-html",
    "503-no-channel",
    "504",
    "close-after-accept",
    "hang=4",
    "reset-after-accept",
    "truncated-close",
    "moderation-400",
    "fewer",
    "task-failed",
    "404-after-submit",
    "poll-500",
    "poll-reset",
    "progress-backwards",
)
"""Whatever a provider may do without lying about its bill; not `more`, since nobody can presume
images beyond those asked for."""
QUIET_WITHIN_S = 60.0
REPLAYS = 20
T = TypeVar("T")


@dataclass(frozen=True)
class Storm:
    """How long and how hard. `pause_s`: the shortest and longest time between two kills."""

    seed: int
    for_s: float
    pause_s: tuple[float, float] = (1.0, 3.0)
    callers: int = 20
    fault_rate: float = 0.05
    faults: tuple[str, ...] = HONEST_FAULTS
    latency_s: float | None = None
    """How long every generation takes; None draws each one."""
    gently: bool = False
    """SIGTERM instead of SIGKILL."""
    tight: int = 40
    """Images a day of the user with a tight limit."""
    think_s: float = 0.3
    """The longest pause between two calls of one caller."""


def weather(deployment: Deployment, storm: Storm) -> Evidence:
    """Let the storm pass and come back with the evidence."""
    sandbox = deployment.sandbox
    sandbox.set(
        picture_style="plain",
        latency_s=storm.latency_s,
        fault_rate=storm.fault_rate,
        fault_names=list(storm.faults),
    )
    keys = deployment.koi.operate(lambda operator: _keys(operator, storm))
    urls = [gateway.url for gateway in deployment.gateways]
    crowd = Crowd(urls, keys, storm.seed, storm.callers, storm.think_s)
    posts = Posts(sandbox)
    asyncio.run(_pass(deployment, storm, crowd, posts))
    audit, left_open = quiet(deployment)
    posts.look()
    evidence = Evidence(
        calls=crowd.calls,
        entries=deployment.koi.entries(),
        audit=audit,
        posts=posts.by_prompt,
        posts_told=sandbox.posts,
        billed=sandbox.billed_images,
        limits={"tight": storm.tight},
        overdrawn=crowd.overdrawn,
        left_open=left_open,
        crashes=deployment.crashes(),
    )
    asyncio.run(_revisit(evidence.calls, urls))
    posts.look()
    return replace(evidence, posts_told=sandbox.posts, crashes=deployment.crashes())


def quiet(deployment: Deployment) -> tuple[LedgerAudit, list[Job]]:
    """The audit once no job is open, or after a while those that still are (I9)."""
    deadline = time.monotonic() + QUIET_WITHIN_S
    while (audit := deployment.koi.audit()).open_jobs and time.monotonic() < deadline:
        time.sleep(0.2)
    return audit, deployment.koi.operate(_open_jobs)


async def _open_jobs(operator: OperatorContext) -> list[Job]:
    users = await operator.keys.users()
    jobs = [await operator.ledger.list_jobs(user.name, 1000) for user in users]
    return [job for of_user in jobs for job in of_user if not job.state.terminal]


async def _keys(operator: OperatorContext, storm: Storm) -> dict[str, list[IssuedKey]]:
    count = round(storm.for_s * storm.callers) + storm.callers
    await operator.keys.create_user("tight", limits=Limits(images_per_day=storm.tight))
    return {
        "ann": await issue(operator, "ann", count),
        "tight": await issue(operator, "tight", count // 4),
    }


async def _pass(deployment: Deployment, storm: Storm, crowd: Crowd, posts: Posts) -> None:
    stop, over = asyncio.Event(), asyncio.Event()
    watching = asyncio.create_task(posts.watch(over))
    calling = asyncio.create_task(crowd.run(stop))
    await _kill(deployment, storm, calling)
    stop.set()
    await asyncio.to_thread(deployment.wait_until_ready)
    await calling
    over.set()
    await watching


async def _kill(deployment: Deployment, storm: Storm, calling: "asyncio.Task[None]") -> None:
    dice = random.Random(f"{storm.seed} killer")
    ends = time.monotonic() + storm.for_s
    while (left_s := ends - time.monotonic()) > 0 and not calling.done():
        await asyncio.sleep(min(dice.uniform(*storm.pause_s), left_s))
        if storm.gently:
            await asyncio.to_thread(deployment.wait_until_ready)
            await asyncio.to_thread(deployment.stop_one, dice)
            continue
        if deployment.variant.store_dies and dice.random() < 0.2:
            deployment.kill_the_store()
        await asyncio.to_thread(deployment.kill_one, dice)


async def _revisit(calls: list[Call], urls: list[str]) -> None:
    """Every link opens, and an Idempotency-Key gives the same pictures again (I12)."""
    async with httpx.AsyncClient(timeout=20) as client:
        links = [(call, link) for call in calls for link in call.links]
        await _one_by_one(links, lambda pair: _open(client, *pair))
        replayed = [c for c in calls if c.manner is Manner.KEYED and c.end is End.PICTURES]
        replayed = [call for call in replayed if call.links][:REPLAYS]
        await _one_by_one(replayed, lambda call: _repeat(client, call, urls))


async def _one_by_one(things: list[T], visit: Callable[[T], Awaitable[None]]) -> None:
    for thing in things:
        await visit(thing)


async def _open(client: httpx.AsyncClient, call: Call, link: str) -> None:
    answer = await client.get(link)
    if answer.status_code != 200 or not answer.headers["content-type"].startswith("image/"):
        call.complaints.append(f"a link answers {answer.status_code}")


async def _repeat(client: httpx.AsyncClient, call: Call, urls: list[str]) -> None:
    names = call.names
    with suppress(httpx.TransportError):
        answer = await client.post(urls[-1] + GENERATE, json=call.body, headers=call.headers)
        again = replace(call, links=[item["url"] for item in answer.json().get("data", [])])
        if again.names != names:
            call.complaints.append(f"I12: {answer.status_code}, {again.names} for {names}")
