"""POST /v1/images/generations; edits and variations, which the provider does not offer."""

from dataclasses import replace
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.api.answers import task_answer
from app.api.auth import caller
from app.api.body import drain, read_json
from app.api.controls import Controls, read_controls
from app.api.delivery import Caller, Delivery, EventStream, Handed, Order, started_headers
from app.api.errors import ErrorResponse
from app.api.headers import adjusted_header, limit_headers
from app.api.running import edge, exchange, present, running
from app.api.tasks import task_headers
from app.api.wire import Asked, Understood, understand
from app.domain.errors import InvalidRequest, LedgerUnavailable, RateLimited, Refused
from app.domain.principal import Principal
from app.service.about import about_task
from app.service.repeats import CallerLeft
from app.service.started import Started


async def create(request: Request) -> Response:
    """Generate images: waited for, as a task (`async`), or as events (`stream`)."""
    principal = await caller(request)
    gateway = running(request).gateway
    await gateway.pace.generate(principal)
    exchange(request).held.append(gateway.waiting.take(principal))
    controls = read_controls(request.headers)
    body = await read_json(request)
    asked = Asked(body, controls, principal, exchange(request).deployment)
    understood = understand(asked, gateway.catalog, edge(request))
    record = exchange(request)
    record.moderation = understood.moderation
    if understood.steered:
        running(request).metrics.steered()
    try:
        there = partial(present, request)
        ask = replace(understood.ask, request_id=record.request_id)
        started = await gateway.generate.start(principal, ask, there)
    except Refused as refusal:
        return await _refused(request, principal, refusal)
    except CallerLeft:
        raise ClientDisconnect from None
    record.held.append(partial(gateway.generate.over, started))
    record.task_id, record.cache = started.job.id, str(started.cache)
    about_task(started.job.id)
    return await _answer(request, started, understood, controls)


async def unsupported(request: Request) -> Response:
    """Edits and variations: a clean refusal, once the upload is through (statement 86)."""
    await caller(request)
    await drain(request)
    raise InvalidRequest(
        "unsupported_endpoint",
        "The provider only generates images from text: POST a prompt to /v1/images/generations. "
        "Nothing was charged.",
    )


async def _answer(
    request: Request, started: Started, understood: Understood, controls: Controls
) -> Response:
    headers = started_headers(started, adjusted_header(understood.adjusted))
    if understood.asynchronous:
        headers |= {**limit_headers(started.standing), **task_headers(started.job)}
        task = partial(task_answer, request, started.job, headers)
        return Handed(Caller(request, started), task)
    patience = controls.patience(edge(request))
    order = Order(request, started, understood.ask.response_format, patience, headers)
    if understood.stream:
        return EventStream(order)
    if started.job.ended:
        return Handed(order, order.answer)
    return Delivery(order)


async def _refused(request: Request, principal: Principal, refusal: Refused) -> Response:
    """A refusal with the numbers behind it (statement 67), as long as they can be had."""
    gateway = running(request).gateway
    if type(refusal) is RateLimited:
        gateway.pace.refused(principal, refusal)
    try:
        limits = limit_headers(await gateway.usage.standing(principal))
    except LedgerUnavailable:
        limits = {}
    return ErrorResponse(refusal.note, headers=limits)
