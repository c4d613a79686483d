"""GET of a task, on the documented route and on those of compatible providers."""

import asyncio
from dataclasses import replace

from app.sandbox.contract import TaskView
from app.sandbox.exchange import Exchange
from app.sandbox.faults.row import Poll
from app.sandbox.generation import Generation
from app.sandbox.provider import Provider
from app.sandbox.results import make_result


async def poll(exchange: Exchange, provider: Provider, key: str, task_id: str) -> None:
    """Answers one poll of a task. Raises Refused for its key or rate."""
    provider.identify(key, buying=False)
    exchange.reply_headers.extend(provider.pace_headers(key))
    await asyncio.sleep(provider.pause_s(0.02, 0.08))
    generation = provider.task(task_id)
    if generation is None:
        await exchange.json(*provider.profile.missing(task_id, provider.switches))
        return
    generation.polls += 1
    view = generation.view(provider.now())
    if view.status == "completed":
        generation.polls_done += 1
        view = replace(view, result=await make_result(provider, generation))
    shown = await _after_fault(exchange, provider, generation, view)
    if shown is not None:
        await _show(exchange, provider, generation, shown)


async def _after_fault(
    exchange: Exchange, provider: Provider, generation: Generation, view: TaskView
) -> TaskView | None:
    use = generation.use
    if use is None or use.fault.task is None:
        return view
    missing = provider.profile.missing(generation.task_id, provider.switches)
    moment = Poll(
        exchange,
        provider.profile,
        view,
        generation.polls,
        generation.polls_done,
        use.arg,
        missing,
    )
    return await use.fault.task(moment)


async def _show(
    exchange: Exchange, provider: Provider, generation: Generation, view: TaskView
) -> None:
    body = provider.profile.poll(view, provider.switches)
    if provider.switches.created_as_text and "created" in body:
        body["created"] = str(body["created"])
    running = view.result is None and view.failure is None
    sent = await exchange.json(provider.profile.running_status if running else 200, body)
    if sent and view.result is not None:
        provider.delivered(generation, view.result.usable())
