"""Turning a request that was read into a job; what every way to order pictures has in common."""

from dataclasses import replace
from functools import partial

from starlette.requests import ClientDisconnect, Request

from app.api.attribution import read_attribution
from app.api.request import ParsedRequest
from app.api.response_body import get_public_origin
from app.api.state import get_access_record, get_app_state, is_client_connected
from app.domain.errors import RateLimited
from app.domain.principal import Principal
from app.domain.webhooks import WebhookTarget
from app.service.dedup import CallerDisconnected
from app.service.generation import StartedJob
from app.service.log_context import bind_task_id


def choose_webhook(
    request: Request, principal: Principal, parsed: ParsedRequest
) -> WebhookTarget | None:
    """Who is told of the end. Most requests tell nobody."""
    if parsed.webhook is None and principal.webhook is None:
        return None
    return get_app_state(request).gateway.webhooks.choose_target(
        principal, parsed.webhook, parsed.webhook_events, get_public_origin(request)
    )


async def start_generation(
    request: Request,
    principal: Principal,
    parsed: ParsedRequest,
    target: WebhookTarget | None,
) -> StartedJob:
    """Open a job for this caller or join the one it repeats; raises as `GenerateImages.start`, and
    `ClientDisconnect` when the caller left before there was a job, `InvalidRequest` for its tag."""
    gateway, record = get_app_state(request).gateway, get_access_record(request)
    command, attribution = parsed.ask, read_attribution(request, principal, parsed.end_user)
    if target is not None or attribution is not None:
        command = replace(command, webhook=target, attribution=attribution)
    try:
        is_connected = partial(is_client_connected, request)
        started = await gateway.generate.start(principal, command, is_connected)
    except RateLimited as refusal:
        if type(refusal) is RateLimited:
            gateway.rate_limiter.remember_refusal(principal, refusal)
        raise
    except CallerDisconnected:
        raise ClientDisconnect from None
    record.cleanups.append(partial(gateway.generate.close, started))
    record.task_id, record.cache = started.job.id, str(started.cache)
    bind_task_id(started.job.id)
    if target is not None:
        asked = parsed.asynchronous or parsed.webhook is not None
        await gateway.webhooks.tell_of(started, command, asked=asked)
    return started
