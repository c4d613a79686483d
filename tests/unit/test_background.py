"""What runs in this process, and for whom."""

import asyncio

from app.service.background import BackgroundTasks, job_task_name


async def test_a_job_is_counted_until_the_last_of_its_works_ended() -> None:
    background, name = BackgroundTasks(lambda _name, _error: None), job_task_name("task_1")
    first, second = asyncio.Event(), asyncio.Event()
    background.launch(_until(first), name)
    background.launch(_until(second), name)
    assert background.unawaited_jobs == 1

    first.set()
    while background.in_flight > 1:
        await asyncio.sleep(0)
    assert background.unawaited_jobs == 1
    background.mark_awaited(name)
    assert background.unawaited_jobs == 0

    second.set()
    assert await background.wait_until_idle(10)
    assert background.unawaited_jobs == 0


async def test_who_waits_for_a_job_goes_on_waiting_when_one_of_its_works_ends() -> None:
    background, name = BackgroundTasks(lambda _name, _error: None), job_task_name("task_1")
    first, second = asyncio.Event(), asyncio.Event()
    background.launch(_until(first), name)
    background.launch(_until(second), name)
    background.mark_awaited(name)

    first.set()
    while background.in_flight > 1:
        await asyncio.sleep(0)
    assert background.unawaited_jobs == 0
    background.mark_unawaited(name)
    assert background.unawaited_jobs == 1

    second.set()
    assert await background.wait_until_idle(10)


async def _until(event: asyncio.Event) -> None:
    await event.wait()
