"""A process that stood still past its deadline reads what arrived before it judges the time."""

import asyncio
import json
import os
import signal
import sys
import time

import pytest

from app.domain.upstream import TaskImages
from tests.adapters.upstream_script import (
    DONE,
    KOI,
    Exchange,
    hang,
    head,
    listening,
    refused,
    reply,
    scripted,
)

CALLS = 20
WITHIN_S = 4.0


async def until(condition: object, within_s: float = 60) -> None:
    assert callable(condition)
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("pieces", [1, 3])
async def test_answers_that_lie_in_the_sockets_are_read_after_a_stop(pieces: int) -> None:
    stopped = asyncio.Event()
    answered = 0
    body = json.dumps(DONE).encode()

    async def answer(exchange: Exchange) -> None:
        nonlocal answered
        await stopped.wait()
        whole = head(200, f"Content-Length: {len(body)}") + body
        size = -(-len(whole) // pieces)
        await exchange.send(*(whole[at : at + size] for at in range(0, len(whole), size)))
        answered += 1

    async with listening(answer) as upstream:
        caller = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.adapters.frozen_caller",
            f"http://127.0.0.1:{upstream.port}/v1", str(CALLS), str(WITHIN_S),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await until(lambda: len(upstream.asked) == CALLS)
        os.kill(caller.pid, signal.SIGSTOP)
        try:
            stopped.set()
            await until(lambda: answered == CALLS)
            await asyncio.sleep(WITHIN_S + 1)
        finally:
            os.kill(caller.pid, signal.SIGCONT)
        printed, _ = await asyncio.wait_for(caller.communicate(), 60)

    assert json.loads(printed.splitlines()[-1]) == ["finished"] * CALLS
    assert upstream.posts == CALLS / 2


async def test_a_connection_made_while_the_loop_stood_still_is_used() -> None:
    async with scripted(reply(200, DONE), connect_timeout_s=0.3) as (provider, upstream):
        call = asyncio.create_task(provider.dispatch(KOI, asynchronous=False))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(1)  # the whole process, not only this test
        answer = await call

    assert isinstance(answer, TaskImages)
    assert (upstream.posts, upstream.connections) == (1, 1)


async def test_an_answer_that_never_came_is_given_up_soon_after_a_stop() -> None:
    async with scripted(hang, timeout_s=1) as (provider, upstream):
        call = asyncio.create_task(refused(provider))
        await until(lambda: upstream.asked)
        time.sleep(1.2)
        started = time.monotonic()
        failed = await call

    assert failed.reason == "upstream_timeout"
    assert time.monotonic() - started < 60
