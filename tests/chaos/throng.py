"""Callers that are real clients: each driver is a process of its own, with several calls at once.

Every call has its own prompt and its own API key, so that POSTs, pictures and entries of the ledger
find their call; nothing else tells one call from another, as with clients in the wild.
"""

import asyncio
import itertools
import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from app.service.keys import IssuedKey
from tests.chaos.crowd import issue
from tests.clients.process import Driver, Said
from tests.harness import Koi

USER = "ann"
BATCH = 100
"""Keys that are issued together."""
ANSWER_WITHIN_S = 330
"""Three tries, and twice the longest `Retry-After` that a client waits (60 s). Each try may wait a
minute for pictures that are made and cannot be had: half of it until the other gateway hears of
that, and `KOI_COLLECT_WAIT_S`."""
HANGS_UP = 0.06
HASTY = 0.1
HASTY_S = 4.0
"""Longer than any generation takes here, shorter than its troubles."""


@dataclass
class ClientCall:
    """One call of one client, and what its user saw in the end."""

    prompt: str
    client: str
    key: IssuedKey
    options: dict[str, Any]
    said: Said = field(default_factory=dict)

    @property
    def has_picture(self) -> bool:
        return bool(self.said.get("ok") and (self.said["b64"] or self.said["urls"]))

    @property
    def end(self) -> str:
        return "picture" if self.has_picture else str(self.said.get("error", "no answer"))[:60]

    def __str__(self) -> str:
        return f"{self.client} {self.key.key.id} {self.prompt!r} {self.options} -> {self.end}"


@dataclass
class Throng:
    """`each` calls at once for each driver, a pause of up to `think_s` between two of them."""

    koi: Koi
    urls: Sequence[str]
    drivers: Sequence[Driver]
    seed: int
    each: int
    think_s: float
    calls: list[ClientCall] = field(default_factory=list)
    _keys: deque[IssuedKey] = field(default_factory=deque)
    _issuing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, stop: asyncio.Event) -> None:
        """Call until told to stop; then let what was begun end."""
        async with asyncio.TaskGroup() as group:
            for driver, number in itertools.product(self.drivers, range(self.each)):
                group.create_task(self._caller(driver, number, stop))

    async def _caller(self, driver: Driver, number: int, stop: asyncio.Event) -> None:
        name = driver.client.name
        dice = random.Random(f"{self.seed} {name} {number}")
        for turn in itertools.count():
            if stop.is_set():
                return
            key = await self._key()
            call = ClientCall(
                f"koi {self.seed} {name} {number} {turn}", name, key, _manners(dice, name)
            )
            self.calls.append(call)
            await self._finish(driver, call, dice.choice(self.urls))
            await asyncio.sleep(dice.uniform(0, self.think_s))

    async def _finish(self, driver: Driver, call: ClientCall, url: str) -> None:
        place = {"base_url": f"{url}/v1", "key": call.key.secret, "prompt": call.prompt}
        future = asyncio.wrap_future(driver.begin(**place, **call.options))
        try:
            call.said = await asyncio.wait_for(future, ANSWER_WITHIN_S)
        except TimeoutError:
            call.said = {"ok": False, "error": "hung"}

    async def _key(self) -> IssuedKey:
        async with self._issuing:
            if not self._keys:
                self._keys += await asyncio.to_thread(self._fresh_keys)
            return self._keys.popleft()

    def _fresh_keys(self) -> list[IssuedKey]:
        """The store may be slow under load, never away: it is not among the faults here."""
        return self.koi.operate(lambda operator: issue(operator, USER, BATCH))

    def ends(self) -> Counter[str]:
        return Counter(f"{call.client}: {call.end}" for call in self.calls)

    def tired(self) -> list[str]:
        return [f"hung: {call}" for call in self.calls if call.said.get("error") == "hung"]

    def shared(self) -> list[str]:
        """Callers who got the same picture although they asked for different ones."""
        owners: dict[str, ClientCall] = {}
        found = []
        for call in self.calls:
            for picture in call.said.get("b64", ()):
                other = owners.setdefault(picture["sha256"], call)
                if other is not call:
                    found.append(f"the same picture: {other} and {call}")
        return found


def _manners(dice: random.Random, client: str) -> dict[str, Any]:
    """Most calls are plain; some hang up and repeat at once, some announce little time."""
    luck = dice.random()
    if luck < HANGS_UP:
        return {"hang_up_after_s": dice.uniform(0.05, 1.0)}
    if luck < HANGS_UP + HASTY and not client.startswith("ai"):
        return {"timeout_s": HASTY_S}
    return {}
