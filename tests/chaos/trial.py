"""One call that outlives its gateways: it is made at a mortal one and repeated at the next."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import redis
from openai import OpenAI

from app.adapters.redis import keyspace
from app.domain.ledger import Entry, EntryKind, LedgerAudit
from app.settings import Settings
from app.wiring.operator import OperatorContext, open_operator_context
from tests.chaos.calls import Manner
from tests.chaos.crowd import GENERATE
from tests.chaos.forks import Fork, reserve
from tests.chaos.steps import Fate
from tests.harness import operator_settings

KILLED = -9
DEAD_WITHIN_S = 45.0
"""A reservation lapses after ten seconds, and so does a silent dispatch."""
QUIET_WITHIN_S = 60.0
FREE_WITHIN_S = 30.0
REPEATS = 30
SETTLED = {"after-settle", "before-keep", "after-keep", "before-release", "after-release"}
"""The store has told whoever waits: the caller may have its answer, and after it the death."""
SLOTS = next(key.name for key in keyspace.KEYS if key.noun == "busy")


@dataclass(frozen=True)
class Trial:
    """`chain`: where each gateway dies, one after the other; the next one lives.

    Only the first has a caller from the start. `manner` is MARKED for OpenAI's SDK, which marks
    its retries by itself, or KEYED for a plain client with an Idempotency-Key.
    """

    chain: tuple[str, ...]
    mode: str
    manner: Manner
    fate: Fate
    n: int = 1

    def __str__(self) -> str:
        return f"{self.mode} {self.manner} {' then '.join(self.chain)}"

    @property
    def prompt(self) -> str:
        return f"koi: {self}"


@dataclass
class Told:
    """What the caller was told in the end: pictures, or the code of a failure that is final."""

    pictures: list[bytes] = field(default_factory=list)
    code: str | None = None
    again: bool = False
    """It was still being told to repeat when its patience ran out."""


class Succession(httpx.BaseTransport):
    """The one address that a caller knows: behind it, whichever gateway lives now.

    When the first gateway cuts the caller off, its successors come up before the failure is told.
    """

    def __init__(self, trial: Trial, settings: Mapping[str, Any], path: Path) -> None:
        self.problems: list[str] = []
        self._trial, self._settings, self._path = trial, settings, path
        self._inner = httpx.HTTPTransport()
        self._place = reserve()
        self._now = self._fork(trial.chain[0])
        self._first = True

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(host="127.0.0.1", port=self._now.port)
        if not self._first:
            return self._inner.handle_request(request)
        self._first = False
        try:
            answer = self._inner.handle_request(request)
        except httpx.TransportError:
            self._succeed()
            raise
        if self._trial.chain[0] not in SETTLED:
            self.problems.append(f"{self._trial.chain[0]} was never passed")
            self._now.kill()
        answer.read()
        self._succeed()
        return answer

    def close(self) -> None:
        self._now.kill()
        self._place.close()
        self._inner.close()

    def _succeed(self) -> None:
        self._see_it_die(self._trial.chain[0])
        for step in self._trial.chain[1:]:
            self._now = self._fork(step)
            self._see_it_die(step)
        self._now = self._fork(None)

    def _see_it_die(self, step: str) -> None:
        code = self._now.ended(DEAD_WITHIN_S)
        if code != KILLED:
            self.problems.append(f"at {step} it ended with {code}: {self._now.log.read_text()}")
            self._now.kill()

    def _fork(self, crash_at: str | None) -> Fork:
        log = self._path / f"{crash_at or 'healthy'}.log"
        return Fork(self._settings, log, crash_at, self._place)


def undergo(trial: Trial, settings: Mapping[str, Any], path: Path) -> list[str]:
    """Make the call until it ends, wait until every job is settled, and judge: the problems."""
    path.mkdir(parents=True)
    with redis.Redis.from_url(settings["redis_url"]) as store:
        store.flushdb()
        as_operator = operator_settings(**settings)
        secret = asyncio.run(_key(as_operator))
        succession = Succession(trial, settings, path)
        try:
            with httpx.Client(transport=succession, base_url="http://koi", timeout=60) as client:
                call = _by_sdk if trial.manner is Manner.MARKED else _by_key
                told = call(trial, client, secret)
                audit, entries = asyncio.run(_settled_ledger(as_operator))
                left = _slots_taken(store)
        finally:
            succession.close()
    found = [*succession.problems, *_judge(trial, told, audit, entries)]
    if left:
        found.append("a slot at the provider is still taken")
    return [f"{trial}: {problem}" for problem in found]


def _slots_taken(store: "redis.Redis") -> bool:
    deadline = time.monotonic() + FREE_WITHIN_S
    while store.zcard(SLOTS):
        if time.monotonic() > deadline:
            return True
        time.sleep(0.05)
    return False


def _by_sdk(trial: Trial, client: httpx.Client, secret: str) -> Told:
    sdk = OpenAI(base_url="http://koi/v1", api_key=secret, http_client=client, max_retries=REPEATS)
    try:
        answer = sdk.images.generate(model="grok-imagine", prompt=trial.prompt, n=trial.n)
    except openai.APIStatusError as error:
        again = error.response.headers.get("x-should-retry") != "false"
        return Told(code=error.code, again=again)
    return Told([client.get(image.url or "").content for image in answer.data or []])


def _by_key(trial: Trial, client: httpx.Client, secret: str) -> Told:
    headers = {"authorization": f"Bearer {secret}", "idempotency-key": str(trial).replace(" ", "-")}
    body = {"model": "grok-imagine", "prompt": trial.prompt, "n": trial.n}
    for _ in range(REPEATS):
        with suppress(httpx.TransportError):
            answer = client.post(GENERATE, json=body, headers=headers)
            if answer.status_code == 200:
                return Told([client.get(item["url"]).content for item in answer.json()["data"]])
            if answer.headers.get("x-should-retry") == "false":
                return Told(code=answer.json()["error"]["code"])
            time.sleep(float(answer.headers.get("retry-after", 0)))
    return Told(again=True)


def _judge(trial: Trial, told: Told, audit: LedgerAudit, entries: list[Entry]) -> Iterator[str]:
    charges = [entry for entry in entries if entry.kind is EntryKind.SETTLE]
    if audit.open_jobs or audit.difference:
        yield f"I3, I9: {audit.open_jobs} jobs are open, {audit.differences}"
    if told.again:
        yield f"no end in sight: {told.code}"
    if len(charges) != 1:
        yield f"I7: charged {len(charges)} times"
    if any(entry.proof != "P0" for entry in entries if entry not in charges):
        yield "I6: released without proof"
    lost = sum(entry.presumed for entry in charges)
    if lost not in trial.fate.lost:
        yield f"I5: {lost} presumed"
    charged = [(entry.images, entry.delivered) for entry in charges]
    if charged != [(trial.n, trial.n - lost)]:
        yield f"I5: charged and delivered are {charged}"
    yield from _judge_delivery(told, trial.n - lost)


def _judge_delivery(told: Told, due: int) -> Iterator[str]:
    if len(told.pictures) != due or not all(map(_is_picture, told.pictures)):
        yield f"I12: it was told {told.code} and has {len(told.pictures)} pictures, not {due}"
    if not due and told.code != "upstream_timeout":
        yield f"it was told {told.code}"


def _is_picture(body: bytes) -> bool:
    return body.startswith((b"\xff\xd8\xff", b"\x89PNG"))


async def _key(settings: Settings) -> str:
    async with open_operator_context(settings) as operator:
        return (await operator.keys.issue("ann")).secret


async def _settled_ledger(settings: Settings) -> tuple[LedgerAudit, list[Entry]]:
    async with open_operator_context(settings) as operator:
        audit = await _audit(operator)
        return audit, [entry async for entry in operator.ledger.entries()]


async def _audit(operator: OperatorContext) -> LedgerAudit:
    deadline = time.monotonic() + QUIET_WITHIN_S
    while (audit := await operator.ledger.audit()).open_jobs and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    return audit
