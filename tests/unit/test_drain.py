"""What runs in this process, and for whom."""

import asyncio

from app.service.drain import Drain, job_name


async def test_a_job_is_counted_until_the_last_of_its_works_ended() -> None:
    drain, name = Drain(lambda _name, _error: None), job_name("task_1")
    first, second = asyncio.Event(), asyncio.Event()
    drain.launch(_until(first), name)
    drain.launch(_until(second), name)
    assert drain.unattended == 1

    first.set()
    while drain.in_flight > 1:
        await asyncio.sleep(0)
    assert drain.unattended == 1
    drain.attend(name)
    assert drain.unattended == 0

    second.set()
    assert await drain.settled(10)
    assert drain.unattended == 0


async def test_who_waits_for_a_job_goes_on_waiting_when_one_of_its_works_ends() -> None:
    drain, name = Drain(lambda _name, _error: None), job_name("task_1")
    first, second = asyncio.Event(), asyncio.Event()
    drain.launch(_until(first), name)
    drain.launch(_until(second), name)
    drain.attend(name)

    first.set()
    while drain.in_flight > 1:
        await asyncio.sleep(0)
    assert drain.unattended == 0
    drain.leave_alone(name)
    assert drain.unattended == 1

    second.set()
    assert await drain.settled(10)


async def _until(event: asyncio.Event) -> None:
    await event.wait()
