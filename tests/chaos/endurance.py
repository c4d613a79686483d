"""Endurance: everything goes wrong now and then, for as long as asked, and nothing may grow."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import redis
from redis.exceptions import RedisError

from app.domain.errors import LedgerUnavailable
from app.domain.limits import Limits
from app.service.keys import IssuedKey
from app.wiring.operator import OperatorContext, open_operator_context
from tests.chaos.clerk import Clerk
from tests.chaos.crowd import TIGHT_SHARE, Crowd, issue
from tests.chaos.gateways import Deployment, children_of
from tests.chaos.posts import Posts
from tests.chaos.samples import Samples, outbox_size
from tests.chaos.soak import QUIET_WITHIN_S, Storm, quiet
from tests.chaos.verdict import Evidence
from tests.linkfaults import Way, black_hole, delay, freeze, lose_replies, reset, truncate

UPSTREAM_FAULTS = (
    reset(),
    lose_replies(),
    reset(after=150, way=Way.BACK),
    truncate(150),
    black_hole(),
    delay(0.2, jitter_s=0.8),
    delay(5),
)
"""The last one is longer than the gateway's patience."""
STORE_FAULTS = (reset(), lose_replies(), black_hole(), *[delay(0.05, jitter_s=0.15)] * 3)
FREEZE_S = (0.2, 1.5)
EVENTS = {"kill": 6, "kill a worker": 2, "stop": 2, "kill the store": 1}
"""What happens to processes, and its share."""
SPELLS = 3
"""Kills fall on one gateway for a spell and spare the other, so that lives are long enough to
tell growth from warming up."""
SECOND_LOOKS = 0.1


@dataclass
class Endurance:
    """One run. `settle_s`: see `Clerk`; `sample_s`, `tell_s`: how often it looks and prints."""

    deployment: Deployment
    storm: Storm
    samples: Samples
    keys: int = 750
    """More than calls that wait for their verdict."""
    settle_s: float = 30.0
    sample_s: float = 10.0
    tell_s: float = 60.0
    events: Counter[str] = field(default_factory=Counter)

    def run(self) -> list[str]:
        """Let it pass; what contradicts an invariant or grew, in words."""
        deployment, storm, koi = self.deployment, self.storm, self.deployment.koi
        deployment.sandbox.set(
            picture_style="plain", fault_rate=storm.fault_rate, fault_names=list(storm.faults)
        )
        keys = koi.operate(lambda operator: _issued(operator, storm, self.keys))
        urls = [gateway.url for gateway in deployment.gateways]
        self.crowd = Crowd(
            urls, keys, storm.seed, storm.callers, storm.think_s, second_looks=SECOND_LOOKS
        )
        self.clerk = Clerk(self.crowd, Posts(deployment.sandbox), self.settle_s)
        self.server = redis.Redis.from_url(str(koi.settings.redis_url), decode_responses=True)
        with self.server:
            asyncio.run(self._pass())
            audit, left_open = quiet(deployment)
            koi.operate(lambda operator: self.clerk.look(operator, self.server, finally_=True))
        self.evidence = Evidence(
            calls=[],
            entries=koi.entries(),
            audit=audit,
            posts=self.clerk.posts.by_prompt,
            posts_told=deployment.sandbox.posts,
            billed=deployment.sandbox.billed_images,
            limits={"tight": storm.tight},
            overdrawn=self.crowd.overdrawn,
            left_open=left_open,
            crashes=deployment.crashes(),
        )
        left = [f"never judged: {call}" for call in self.crowd.calls]
        if undelivered := self._undelivered():
            left.append(f"{undelivered} settlements are still in the outbox")
        return [*self.clerk.problems, *left, *self.evidence.problems(), *self.samples.grown()]

    def _undelivered(self) -> int:
        """Settlements on disk, once the processes had time to deliver them."""
        deadline = time.monotonic() + QUIET_WITHIN_S
        while (undelivered := outbox_size(self.deployment.koi.settings.data_dir)) > 0:
            if time.monotonic() > deadline:
                break
            time.sleep(0.2)
        return undelivered

    async def _pass(self) -> None:
        stop, over = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            calling = group.create_task(self.crowd.run(stop))
            group.create_task(self._trouble(stop))
            for watcher in (self.clerk.posts.watch, self._look, self._tell):
                group.create_task(watcher(over))
            await self._strike()
            stop.set()
            await asyncio.to_thread(self.deployment.wait_until_ready)
            await calling
            over.set()

    async def _trouble(self, stop: asyncio.Event) -> None:
        """Each exchange has its own luck; twice as often as somebody is killed, the way to the
        store freezes for a moment."""
        seed, rate, pause_s = self.storm.seed, self.storm.fault_rate, self.storm.pause_s
        upstream, store = self.deployment.upstream_link, self.deployment.store_link
        assert upstream is not None
        assert store is not None
        dice = random.Random(f"{seed} trouble")
        upstream.random(rate, f"{seed} upstream", UPSTREAM_FAULTS)
        store.random(rate, f"{seed} store", STORE_FAULTS)
        while not await _over(stop, dice.uniform(*pause_s) / 2):
            store.set(freeze())
            await asyncio.sleep(dice.uniform(*FREEZE_S))
            store.random(rate, dice.random(), STORE_FAULTS)
            self.events["freeze"] += 1
        upstream.heal()
        store.heal()

    async def _strike(self) -> None:
        dice = random.Random(f"{self.storm.seed} killer")
        began, for_s = time.monotonic(), self.storm.for_s
        gateways = self.deployment.gateways
        while (left_s := began + for_s - time.monotonic()) > 0:
            await asyncio.sleep(min(dice.uniform(*self.storm.pause_s), left_s))
            spell = int(SPELLS * (time.monotonic() - began) / for_s)
            (event,) = dice.choices(list(EVENTS), list(EVENTS.values()))
            await asyncio.to_thread(self._befall, event, (spell + 1) % len(gateways))

    def _befall(self, event: str, number: int) -> None:
        victim = self.deployment.gateways[number]
        victim.wait_until_ready(within_s=120)
        workers = children_of(victim.pid)
        if event == "kill a worker" and not workers:
            event = "kill"
        self.events[event] += 1
        match event:
            case "kill":
                victim.kill()
                victim.start()
            case "kill a worker":
                victim.kill_a_worker()
            case "stop":
                self.deployment.exit_codes.append(victim.stop())
                victim.start()
            case "kill the store":
                self.deployment.kill_the_store()

    async def _look(self, over: asyncio.Event) -> None:
        """Judge calls and take samples; a store that is away for the moment is looked at later."""
        while True:
            try:
                async with open_operator_context(self.deployment.koi.settings) as operator:
                    while True:
                        await self.clerk.look(operator, self.server)
                        stats = await operator.ledger.open_job_stats()
                        self.samples.take(self.deployment, self.server, stats)
                        if await _over(over, self.sample_s):
                            return
            except (RedisError, LedgerUnavailable):
                if await _over(over, min(self.sample_s, 1)):
                    return

    async def _tell(self, over: asyncio.Event) -> None:
        began = time.monotonic()
        while not await _over(over, self.tell_s):
            minutes = (time.monotonic() - began) / 60
            print(f"soak {minutes:.1f}min {self.progress()} | {self.samples.now()}", flush=True)

    def progress(self) -> str:
        clerk, sandbox = self.clerk, self.deployment.sandbox
        told = {
            "judged": clerk.judged,
            "waiting": len(self.crowd.calls),
            "posts": sandbox.posts,
            "billed": sandbox.billed_images,
            "problems": len(clerk.problems),
            **{event.replace(" ", "-"): times for event, times in sorted(self.events.items())},
        }
        return " ".join(f"{name}={value}" for name, value in told.items())

    def report(self) -> list[str]:
        clerk, evidence = self.clerk, self.evidence
        links = [self.deployment.upstream_link, self.deployment.store_link]
        drawn = [dict(link.drawn) if link is not None else {} for link in links]
        return [
            f"soak seed={self.storm.seed} {self.storm.for_s / 60:.1f}min {self.progress()}",
            f"  ends {dict(clerk.ends)} attempts={clerk.attempts}",
            f"  codes {dict(clerk.codes)}",
            f"  ledger metered={evidence.metered} presumed={evidence.presumed} "
            f"billed={evidence.billed} entries={len(evidence.entries)} "
            f"difference={evidence.audit.difference} open={evidence.audit.open_jobs} "
            f"store_kb_per_entry={self.samples.store_kb() / max(len(evidence.entries), 1):.1f} "
            f"longest_open={clerk.longest_open_s:.0f}s exits={self.deployment.exit_codes}",
            f"  upstream link {drawn[0]}; store link {drawn[1]}",
            *(f"  took {took_s:.1f}s: {story}" for took_s, story in reversed(clerk.slowest)),
            *self.samples.report(),
        ]


async def _issued(
    operator: OperatorContext, storm: Storm, count: int
) -> dict[str, list[IssuedKey]]:
    await operator.keys.create_user("tight", limits=Limits(images_per_day=storm.tight))
    tight = round(TIGHT_SHARE * count)
    return {
        "ann": await issue(operator, "ann", count - tight),
        "tight": await issue(operator, "tight", tight),
    }


async def _over(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
