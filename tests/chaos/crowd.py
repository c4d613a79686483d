"""A crowd of callers that behave like SDKs: they repeat what may be repeated until it ends."""

import asyncio
import itertools
import json
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from app.service.keys import IssuedKey
from app.wiring.operator import OperatorContext
from tests.chaos.calls import Call, End, Manner, drawn

GENERATE = "/v1/images/generations"
PATIENCE_S = 90.0
LONGEST_PAUSE_S = 2.0
"""A crowd in a hurry: it does not wait longer, whatever Retry-After says."""
ANSWER_WITHIN_S = 30.0
TIGHT_SHARE = 0.15
"""Calls of the user whose limit is soon used up."""
LEAST_PICTURE_BYTES = 1000
PASSING = frozenset(
    {"draining", "interrupted", "ledger_unavailable", "overloaded", "still_processing"}
)
"""Failures after which an event stream is asked for again; it has no header to say so."""


@dataclass
class Crowd:
    """`size` callers, each with a dice of its own; `keys` are handed out one for each call."""

    urls: Sequence[str]
    keys: dict[str, list[IssuedKey]]
    seed: int
    size: int
    think_s: float = 0.3
    """The longest pause between two calls of one caller."""
    second_looks: float = 0.0
    """The share of pictures that are opened and asked for again (I12)."""
    calls: list[Call] = field(default_factory=list)
    overdrawn: list[str] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Call until told to stop; then finish what was begun."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=2 * self.size)
        async with (
            httpx.AsyncClient(limits=limits, timeout=ANSWER_WITHIN_S) as client,
            asyncio.TaskGroup() as group,
        ):
            for number in range(self.size):
                dice = random.Random(f"{self.seed} caller {number}")
                group.create_task(self._caller(client, dice, number, stop))
            group.create_task(self._watch_limits(client, stop))

    async def _caller(
        self, client: httpx.AsyncClient, dice: random.Random, number: int, stop: asyncio.Event
    ) -> None:
        for turn in itertools.count():
            keys = self.keys["tight" if dice.random() < TIGHT_SHARE else "ann"]
            while not keys and not stop.is_set():
                await asyncio.sleep(0.1)
            if stop.is_set():
                return
            issued = keys.pop()
            prompt = f"koi {self.seed} {number} {turn}"
            call = drawn(dice, prompt, issued.key.user, issued.secret, issued.key.id)
            self.calls.append(call)
            await self.finish(client, call, dice)
            if call.end is End.PICTURES and dice.random() < self.second_looks:
                await self._look_again(client, call, dice)
            call.over_at = time.monotonic()
            await asyncio.sleep(dice.uniform(0, self.think_s))

    async def finish(self, client: httpx.AsyncClient, call: Call, dice: random.Random) -> None:
        """Make one call: repeat its request until it ends or patience runs out."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE_S):
                while call.end is End.OPEN:
                    await self._attempt(client, call, dice)
        except TimeoutError:
            call.end = End.TIRED
        call.took_s = time.monotonic() - began

    async def _attempt(self, client: httpx.AsyncClient, call: Call, dice: random.Random) -> None:
        hurry_s = call.hurry_s if call.attempts == 0 else None
        request = client.build_request(
            "POST", dice.choice(self.urls) + GENERATE, json=call.body, headers=call.headers
        )
        call.attempts += 1
        try:
            async with asyncio.timeout(hurry_s):
                answer = await client.send(request)
        except TimeoutError:
            call.trail.append("hung-up")
            if not call.comes_back:
                call.end = End.LEFT
            return
        except httpx.TransportError as error:
            call.trail.append(type(error).__name__)
            await asyncio.sleep(dice.uniform(0.05, 0.5))
            return
        pause_s = self._judge(call, answer)
        if call.end is End.OPEN and call.manner is Manner.TASK and answer.status_code == 200:
            await self._follow(client, call, answer.json()["id"], dice)
        elif call.end is End.OPEN:
            await asyncio.sleep(pause_s * dice.uniform(0.5, 1))

    def _judge(self, call: Call, answer: httpx.Response) -> float:
        """Take the pictures or the refusal; the seconds to wait when it asks for a repeat."""
        if "x-koi-task-id" in answer.headers:
            call.task_ids.add(answer.headers["x-koi-task-id"])
        if answer.status_code == 200:
            call.trail.append(f"200/{answer.headers.get('x-koi-cache')}")
            if call.streams:
                _listen(call, answer.text)
            elif call.manner is not Manner.TASK:
                _take(call, answer.json()["data"])
            return 0.5
        call.code = answer.json()["error"]["code"]
        call.trail.append(f"{answer.status_code}/{call.code}")
        match answer.headers.get("x-should-retry"):
            case "true":
                return min(float(answer.headers.get("retry-after", 0.5)), LONGEST_PAUSE_S)
            case "false":
                call.end = End.REFUSED
            case _:
                call.complaints.append(f"{call.code} does not say whether to retry")
                call.end = End.REFUSED
        return 0

    async def _follow(
        self, client: httpx.AsyncClient, call: Call, task_id: str, dice: random.Random
    ) -> None:
        """Poll a task at any gateway until it ended. Once told, its id must stay known."""
        if call.cancels:
            with suppress(httpx.TransportError):
                url = f"{dice.choice(self.urls)}/v1/tasks/{task_id}"
                answer = await client.delete(url, headers=call.headers)
                call.trail.append(f"cancel/{answer.status_code}")
        while call.end is End.OPEN:
            url = f"{dice.choice(self.urls)}/v1/tasks/{task_id}"
            wait = {"wait": str(dice.choice([0, 1, 3]))}
            try:
                answer = await client.get(url, params=wait, headers=call.headers)
            except httpx.TransportError:
                await asyncio.sleep(0.2)
                continue
            if answer.status_code == 404:
                call.complaints.append(f"{task_id} was promised and is unknown")
                call.end = End.REFUSED
            elif answer.status_code == 200:
                self._look(call, answer.json())
            await asyncio.sleep(dice.uniform(0.1, 0.4))

    def _look(self, call: Call, task: dict[str, Any]) -> None:
        if task["status"] == "completed":
            call.trail.append("completed")
            _take(call, task["data"])
        elif task["status"] == "failed":
            call.code = task["error"]["code"]
            call.trail.append(f"failed/{call.code}")
            call.end = End.REFUSED

    async def _look_again(self, client: httpx.AsyncClient, call: Call, dice: random.Random) -> None:
        """Every link opens, and an Idempotency-Key gives the same pictures again."""
        await asyncio.sleep(dice.uniform(0, 5))
        for link in call.links:
            with suppress(httpx.TransportError):
                answer = await client.get(link)
                if answer.status_code != 200:
                    call.complaints.append(f"a link answers {answer.status_code}")
        if call.manner is Manner.KEYED and call.links:
            again = replace(call, end=End.OPEN, hurry_s=None, links=[], trail=[], complaints=[])
            await self.finish(client, again, dice)
            if again.names != call.names:
                call.complaints.append(f"I12: {again} for {call.names}")

    async def _watch_limits(self, client: httpx.AsyncClient, stop: asyncio.Event) -> None:
        """I1 at every instant somebody looks: used and held never pass a limit."""
        watchers = [keys[0] for keys in self.keys.values()]
        while not stop.is_set():
            await asyncio.sleep(0.5)
            for issued in watchers:
                headers = {"authorization": f"Bearer {issued.secret}"}
                try:
                    answer = await client.get(f"{self.urls[0]}/v1/usage", headers=headers)
                except httpx.TransportError:
                    continue
                if answer.status_code == 200:
                    self.overdrawn += [
                        str(row)
                        for row in answer.json()["limits"]
                        if row["meter"] == "images"
                        and row["limit"] is not None
                        and row["used"] + row["held"] > row["limit"]
                    ]


def _listen(call: Call, stream: str) -> None:
    """The pictures of an event stream, or its one error."""
    events = [block.partition("data: ")[2] for block in stream.split("\n\n")]
    told = [json.loads(event) for event in events if event]
    failures = [event["error"]["code"] for event in told if "error" in event]
    if failures:
        call.code = failures[0]
        call.trail.append(f"event/{call.code}")
        call.end = End.OPEN if call.code in PASSING else End.REFUSED
    else:
        _take(call, told)


def _take(call: Call, items: list[dict[str, str]]) -> None:
    call.end, call.code = End.PICTURES, None
    call.pictures = len(items)
    call.links = [item["url"] for item in items if "url" in item]
    if not 1 <= len(items) <= call.n:
        call.complaints.append(f"{len(items)} pictures for n={call.n}")
    for item in items:
        if "url" not in item and len(item["b64_json"]) < LEAST_PICTURE_BYTES:
            call.complaints.append("a picture without bytes")


async def issue(operator: OperatorContext, user: str, count: int) -> list[IssuedKey]:
    """Fresh keys of one user, issued together so that they share round trips."""
    first = await operator.keys.issue(user)
    return [first, *await asyncio.gather(*(operator.keys.issue(user) for _ in range(count)))]
