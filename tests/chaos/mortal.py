"""`CRASH_AT=after-admit python -m tests.chaos.mortal serve`: `koi serve` that dies at a step.

The steps are those of `tests.chaos.steps`; `CRASH_AT=after-record:2` dies at the second passing.
The adapters are wrapped in this process only: the app has no hook for it. The death is SIGKILL,
so that nothing is flushed, closed or told.
"""

import asyncio
import functools
import importlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

from app.adapters.http.client import HttpClient
from app.adapters.http.messages import HttpRequest
from app.adapters.http.send_state import SendStage, SendState
from app.cli import main
from tests.chaos.steps import DURING_POST, place_of

Method = Callable[..., Awaitable[Any]]


def arm(crash_at: str) -> None:
    """Wrap the method that passes this step, so that the given passing is the last."""
    step, _, nth = crash_at.partition(":")
    fuse = Fuse(int(nth or 1))
    if step == DURING_POST:
        HttpClient.send = _cut_off(HttpClient.send, fuse)  # type: ignore[method-assign]
        return
    moment, place = place_of(step)
    owner_name, _, method = place.method.partition(".")
    owner = getattr(importlib.import_module(place.module), owner_name)
    wrapped = _before if moment == "before" else _after
    setattr(owner, method, wrapped(getattr(owner, method), fuse))


class Fuse:
    def __init__(self, passings: int) -> None:
        self._left = passings

    def burn(self) -> None:
        self._left -= 1
        if self._left == 0:
            die()


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _before(original: Method, fuse: Fuse) -> Method:
    @functools.wraps(original)
    async def method(*args: Any, **options: Any) -> Any:
        fuse.burn()
        return await original(*args, **options)

    return method


def _after(original: Method, fuse: Fuse) -> Method:
    @functools.wraps(original)
    async def method(*args: Any, **options: Any) -> Any:
        result = await original(*args, **options)
        # A look that found nothing (no job is due) passes nothing.
        if result != []:
            fuse.burn()
        return result

    return method


def _cut_off(original: Method, fuse: Fuse) -> Method:
    """Die when the bytes of a POST are on their way and its answer is not read."""

    @functools.wraps(original)
    async def method(self: HttpClient, request: HttpRequest, send_state: SendState) -> Any:
        if request.method != "POST":
            return await original(self, request, send_state)
        exchange = asyncio.ensure_future(original(self, request, send_state))
        while send_state.stage is not SendStage.SENT:
            await asyncio.sleep(0.001)
        await asyncio.sleep(SENT_WITHIN_S)
        fuse.burn()
        return await exchange

    return method


SENT_WITHIN_S = 0.1
"""From the first byte to the last, on this machine."""


def live(environment: dict[str, str], log: str, words: Sequence[str] = ("serve",)) -> None:
    """What a forked process does: become `koi` with these words and this environment."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv = ["koi", *words]
    begin()


def begin() -> None:
    crash_at = os.environ.pop("CRASH_AT", "")
    if crash_at:
        arm(crash_at)
    main()


if __name__ == "__main__":
    begin()
