"""How much of this process one caller may occupy, so that it cannot keep everybody else out."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from app.domain.principal import Principal
from app.domain.refusals import TooManyWaiting

Release = Callable[[], None]
"""Gives back what was taken. To be called once, also when the caller left."""

MOST_IN_LINE = 64
"""So many wait for a turn under one name; more are refused at once."""
AGAIN_S = 2


class WaitingShare:
    """At most `most` callers of one key, and of one user, wait here at once: for a generation, a
    stream, a slot or a task. None lets everybody wait."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._waiting: Counter[str] = Counter()

    def take(self, principal: Principal) -> Release:
        """Raises `TooManyWaiting`."""
        names = (f"key:{principal.key_id}", f"user:{principal.user}")
        for name in names:
            if self._most is not None and self._waiting[name] >= self._most:
                raise TooManyWaiting(
                    f"{self._most} requests of this {name.partition(':')[0]} are waiting at this "
                    "gateway already, its share. Nothing was spent; repeat this one a little "
                    "later. Those that wait go on.",
                    retry_after_s=AGAIN_S,
                )
        self._waiting.update(names)

        def release() -> None:
            for name in names:
                self._waiting[name] -= 1
                if not self._waiting[name]:
                    del self._waiting[name]

        return release


@dataclass(slots=True)
class _Gate:
    """`free` is a semaphore; `users` hold it or wait for it."""

    free: asyncio.Semaphore
    users: int = 0


class Turns:
    """At most `most` at once under each name; others wait in line, up to `wait_s` seconds."""

    def __init__(self, most: int, wait_s: float) -> None:
        self._most, self._wait_s = most, wait_s
        self._gates: dict[str, _Gate] = {}

    async def take(self, name: str, refusal: str) -> Release:
        """Raises `TooManyWaiting` with this sentence when no turn comes in time."""
        gate = self._gates.setdefault(name, _Gate(asyncio.Semaphore(self._most)))
        if gate.users >= self._most + MOST_IN_LINE:
            raise TooManyWaiting(refusal, retry_after_s=AGAIN_S)
        gate.users += 1
        taken = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._wait_s):
                    taken = await gate.free.acquire()
        finally:
            if not taken:
                self._leave(name, gate)
        if not taken:
            raise TooManyWaiting(refusal, retry_after_s=AGAIN_S)

        def release() -> None:
            gate.free.release()
            self._leave(name, gate)

        return release

    def _leave(self, name: str, gate: _Gate) -> None:
        gate.users -= 1
        if not gate.users:
            del self._gates[name]
