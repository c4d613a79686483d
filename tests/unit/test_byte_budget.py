"""The budget of bytes: who waits, who gives up waiting, and what is given back."""

import asyncio
from contextlib import AsyncExitStack

from app.domain.budget import MemoryBudget


async def _waits(budget: MemoryBudget, wanted: int) -> None:
    async with budget.reserve(wanted):
        await asyncio.sleep(0)


async def _all_over(*tasks: asyncio.Task[None]) -> None:
    await asyncio.wait(tasks, timeout=10)
    assert all(task.done() for task in tasks)


async def test_a_waiter_cancelled_as_bytes_are_given_back_costs_the_giver_nothing() -> None:
    budget = MemoryBudget(10)
    held = AsyncExitStack()
    await held.enter_async_context(budget.reserve(10))
    waiter = asyncio.create_task(_waits(budget, 10))
    await asyncio.sleep(0)

    waiter.cancel()
    await held.aclose()
    await _all_over(waiter)

    assert waiter.cancelled()
    assert budget.reserved_bytes == 0


async def test_a_cancelled_waiter_does_not_delay_the_next() -> None:
    budget = MemoryBudget(10)
    held, small = AsyncExitStack(), AsyncExitStack()
    await held.enter_async_context(budget.reserve(7))
    await small.enter_async_context(budget.reserve(3))
    large = asyncio.create_task(_waits(budget, 10))
    next_one = asyncio.create_task(_waits(budget, 3))
    await asyncio.sleep(0)

    large.cancel()
    await small.aclose()
    await _all_over(large, next_one)

    assert next_one.exception() is None
    await held.aclose()
    assert budget.reserved_bytes == 0


async def test_a_waiter_cancelled_after_it_was_served_gives_back_what_it_got() -> None:
    budget = MemoryBudget(10)
    held = AsyncExitStack()
    await held.enter_async_context(budget.reserve(10))
    waiter = asyncio.create_task(_waits(budget, 10))
    await asyncio.sleep(0)

    await held.aclose()
    waiter.cancel()
    await _all_over(waiter)

    assert waiter.cancelled()
    assert budget.reserved_bytes == 0
