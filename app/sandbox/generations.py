"""POST /v1/images/generations: from the request to a picture, a task, or a fault."""

import asyncio

from app.sandbox.contract import Json, Problem
from app.sandbox.exchange import Exchange
from app.sandbox.faults.row import Staged
from app.sandbox.generation import FaultUse, Generation
from app.sandbox.provider import Provider
from app.sandbox.results import created_field, make_result


async def generate(exchange: Exchange, provider: Provider, key: str, body: bytes) -> None:
    """Answers one POST. Raises Refused, else accepts it, which adds a line to the bill."""
    provider.identify(key, buying=True)
    exchange.reply_headers.extend(provider.pace_headers(key))
    order = provider.understand(body)
    use = provider.next_fault(order.prompt)
    if not provider.counts(use):
        await _refuse(exchange, provider, use)
        return
    host = _host(exchange)
    generation = provider.accept(order, key, use, exchange.request_id, host)
    if use is not None and use.fault.reply is not None:
        await asyncio.sleep(provider.pause_s(0.1, 0.4))
        good, images = await _good_reply(provider, generation)
        if await use.fault.reply(_staged(exchange, provider, use, good)):
            provider.delivered(generation, images)
    elif order.answers_with_task:
        await asyncio.sleep(provider.pause_s(0.1, 0.4))
        await exchange.json(provider.switches.submit_status, _submitted(provider, generation))
    else:
        await _make_and_wait(exchange, provider, generation)


async def _refuse(exchange: Exchange, provider: Provider, use: FaultUse | None) -> None:
    await asyncio.sleep(provider.pause_s(0.1, 0.4))
    if use is not None and use.fault.reply is not None:
        await use.fault.reply(_staged(exchange, provider, use, {"created": 0, "data": []}))


def _staged(exchange: Exchange, provider: Provider, use: FaultUse, good: Json) -> Staged:
    cdn_url = f"http://{_host(exchange)}:{provider.cdn_port}"
    return Staged(exchange, provider.profile, good, use.arg, cdn_url, provider.now())


def _host(exchange: Exchange) -> str:
    """The host name that the caller used, since links with it work from there."""
    return (exchange.header("host") or "127.0.0.1").rpartition(":")[0] or "127.0.0.1"


async def _good_reply(provider: Provider, generation: Generation) -> tuple[Json, int]:
    if generation.order.answers_with_task:
        return _submitted(provider, generation), 0
    result = await make_result(provider, generation)
    created = created_field(provider, int(provider.now()))
    return provider.profile.images(created, result), result.usable()


def _submitted(provider: Provider, generation: Generation) -> Json:
    body = provider.profile.submit(generation.view(generation.accepted_at))
    use = generation.use
    if use is None or use.fault.submit is None:
        return body
    previous = provider.previous_id(generation)
    return use.fault.submit(body, generation.task_id, previous, use.arg)


async def _make_and_wait(exchange: Exchange, provider: Provider, generation: Generation) -> None:
    # A test may advance the clock during the wait, so it waits in short steps.
    while True:
        left = generation.finish_at - provider.now()
        if left <= 0:
            break
        await asyncio.sleep(min(left, 2.0))
    failure = generation.failure
    if failure is not None:
        status = 400 if failure.code == "content_policy_violation" else 500
        problem = Problem(status, failure.code, failure.message, "generation_error")
        await exchange.json(*provider.profile.error(problem))
        return
    good, images = await _good_reply(provider, generation)
    if await exchange.json(200, good):
        provider.delivered(generation, images)
