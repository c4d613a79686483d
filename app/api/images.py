"""POST /v1/images/generations, and what every order of pictures over HTTP has in common."""

from functools import lru_cache, partial

from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import authenticate_request
from app.api.errors import ErrorResponse
from app.api.estimate import answer_dry_run, is_dry_run
from app.api.event_stream import EventStreamResponse
from app.api.references import ReadOrder, attach_references, read_generation
from app.api.request import ParsedRequest, RawRequest, parse_request
from app.api.request_headers import RequestHeaders, parse_request_headers
from app.api.response import (
    HeartbeatResponse,
    ImmediateResponse,
    JobRecipient,
    PendingResponse,
    build_started_headers,
)
from app.api.response_body import build_task_response
from app.api.response_headers import build_adjusted_header, build_limit_headers
from app.api.start_generation import choose_webhook, start_generation
from app.api.state import get_access_record, get_app_state, get_edge_settings
from app.api.tasks import build_task_headers
from app.domain.errors import AdmissionRefused, LedgerUnavailable
from app.domain.principal import Principal
from app.service.generation import StartedJob


async def create(request: Request) -> Response:
    """Generate images: wait for them, take a task (async), or read events (stream). `dry_run` says
    what it would cost and buys nothing."""
    return await order_images(request, read_generation)


async def order_images(request: Request, read_order: ReadOrder) -> Response:
    principal = await authenticate_request(request)
    dry_run = is_dry_run(request)
    gateway = get_app_state(request).gateway
    await gateway.rate_limiter.check_recent_refusal(principal)
    record = get_access_record(request)
    record.cleanups.append(gateway.waiting_cap.take(principal))
    request_headers = parse_request_headers(request.headers)
    order = await read_order(request)
    raw = RawRequest(
        order.body, request_headers, principal, record.deployment, record.request_id, order.inputs
    )
    parsed = parse_request(raw, gateway.catalog, get_edge_settings(request))
    parsed = await attach_references(parsed, order)
    record.moderation_code = parsed.moderation_code
    if parsed.egress_override:
        get_app_state(request).metrics.egress_override()
    target = choose_webhook(request, principal, parsed)
    if dry_run:
        return await answer_dry_run(request, principal, parsed)
    try:
        started = await start_generation(request, principal, parsed, target)
    except AdmissionRefused as refusal:
        return await _build_refusal(request, principal, refusal)
    return await _build_response(request, started, parsed, request_headers)


async def _build_response(
    request: Request, started: StartedJob, parsed: ParsedRequest, request_headers: RequestHeaders
) -> Response:
    headers = build_started_headers(started, build_adjusted_header(parsed.adjusted))
    if parsed.asynchronous:
        headers = {
            **build_limit_headers(started.limit_snapshot),
            **build_task_headers(started.job),
            **headers,
        }
        task = partial(build_task_response, request, started.job, headers)
        return ImmediateResponse(JobRecipient(request, started), task)
    patience = request_headers.plan_wait(get_edge_settings(request))
    pending = PendingResponse(request, started, parsed.ask.response_format, patience, headers)
    if parsed.stream:
        return EventStreamResponse(pending)
    if started.job.ended:
        return ImmediateResponse(pending, pending.build_response)
    return HeartbeatResponse(pending)


_limit_headers = lru_cache(maxsize=512)(build_limit_headers)
"""By the snapshot itself: refusals are told the same one for a second."""


async def _build_refusal(
    request: Request, principal: Principal, refusal: AdmissionRefused
) -> Response:
    """A refusal with the numbers behind it, unless the ledger cannot tell them now."""
    gateway = get_app_state(request).gateway
    try:
        limits = _limit_headers(await gateway.usage.recall_limits(principal))
    except LedgerUnavailable:
        limits = {}
    return ErrorResponse(refusal.note, headers=limits)
