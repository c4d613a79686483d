"""The event of a caller: what `asyncio.Event` promises."""

import asyncio

from app.service.lean_event import LeanEvent


async def test_everybody_who_waits_is_woken() -> None:
    event = LeanEvent()
    waits = [asyncio.create_task(event.wait()) for _ in range(3)]
    await asyncio.sleep(0)

    event.set()

    assert await asyncio.gather(*waits) == [True, True, True]
    assert await event.wait()


async def test_a_cleared_event_is_waited_for_again() -> None:
    event = LeanEvent()
    event.set()
    event.clear()
    wait = asyncio.create_task(event.wait())
    await asyncio.sleep(0)

    assert not wait.done()
    event.set()
    assert await wait


async def test_a_cancelled_wait_leaves_the_others_alone() -> None:
    event = LeanEvent()
    first, second = asyncio.create_task(event.wait()), asyncio.create_task(event.wait())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)

    event.set()

    assert await second
    assert first.cancelled()
