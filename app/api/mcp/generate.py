"""The tool `generate_image`: the same way to a job as POST /v1/images/generations takes."""

from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from app.api.mcp.messages import Json, McpMessage, RequestId
from app.api.mcp.results import ToolAnswer, build_pictures_result
from app.api.mcp.stream import CallResponse, OpenCall
from app.api.mcp.tools import ToolCall, build_request_body, parse_max_cost
from app.api.parameters import invalid_value_error
from app.api.request import ParsedRequest, RawRequest, parse_request
from app.api.request_headers import (
    DEFAULT_WAIT_S,
    IDEMPOTENCY_KEY_FORMAT,
    RequestHeaders,
    WaitPlan,
)
from app.api.response import PendingResponse
from app.api.start_generation import choose_webhook, start_generation
from app.api.state import get_access_record, get_app_state, get_edge_settings
from app.domain.cache import CacheControl
from app.domain.errors import InvalidRequest, PriceUnknown
from app.domain.images import ResponseFormat
from app.domain.money import format_micros
from app.domain.principal import Principal

IDEMPOTENCY_META = "koi/idempotency-key"
"""Field of `_meta` in which a program may name its call, as REST callers do in a header."""
SHORT_WAIT_S = 50.0
"""The longest wait of a client that asked for no progress: many give up after 60 s."""


@dataclass(frozen=True, slots=True)
class ReceivedCall:
    """A call of this request. `id` is that of its message."""

    request: Request
    principal: Principal
    message: McpMessage
    id: RequestId
    version: str
    tool: ToolCall


async def generate_image(call: ReceivedCall) -> Response:
    """Raises what may refuse a generation before it is bought."""
    request, principal = call.request, call.principal
    gateway, record = get_app_state(request).gateway, get_access_record(request)
    await gateway.rate_limiter.check_recent_refusal(principal)
    record.cleanups.append(gateway.waiting_cap.take(principal))
    body, headers = build_request_body(call.tool, gateway.catalog, principal), _build_headers(call)
    raw = RawRequest(body, headers, principal, request_id=record.request_id)
    parsed = parse_request(raw, gateway.catalog, get_edge_settings(request))
    record.moderation_code = parsed.moderation_code
    _check_cost(call, parsed)
    started = await start_generation(
        request, principal, parsed, choose_webhook(request, principal, parsed)
    )
    pending = PendingResponse(request, started, ResponseFormat.URL, _plan_wait(call), {})
    answer = ToolAnswer(request, call.version, started.is_paid_before, parsed.adjusted)
    opened = OpenCall(
        call.id,
        call.message.progress_token,
        started.job.id,
        started.is_paid_before,
        int(get_edge_settings(request).now() * 1000),
    )
    return CallResponse(request, opened, call.version, partial(_make, answer, pending), pending)


async def _make(answer: ToolAnswer, pending: PendingResponse) -> Json:
    return await build_pictures_result(answer, (await pending.wait_for_job()).job)


def _check_cost(call: ReceivedCall, parsed: ParsedRequest) -> None:
    """Refuse what would cost more than the caller allows: by the price list, so that a picture that
    the cache has is refused too. Raises `InvalidRequest`, `PriceUnknown`."""
    bound = parse_max_cost(call.tool)
    if bound is None:
        return
    catalog, asked = get_app_state(call.request).gateway.catalog, parsed.ask.request
    unit = call.principal.resolve_model(catalog, asked.model).price(asked.size, asked.quality)
    if unit is None:
        raise PriceUnknown(
            "The price of this model is not known, so max_cost cannot be kept; nothing was bought."
        )
    if unit * asked.n > bound:
        raise invalid_value_error(
            "max_cost",
            f"This would cost {format_micros(unit * asked.n)} {catalog.currency}, more than "
            f"max_cost {format_micros(bound)}; nothing was bought.",
        )


def _build_headers(call: ReceivedCall) -> RequestHeaders:
    """Every call is taken for the repeat of one with the same arguments whose answer did not
    arrive, if there is one. Clients repeat under another message id and often in another session,
    and one that gives up may keep its connection open, so neither tells a repeat (decision 51)."""
    own = call.message.meta.get(IDEMPOTENCY_META)
    if own is not None and (
        not isinstance(own, str) or IDEMPOTENCY_KEY_FORMAT.fullmatch(own) is None
    ):
        raise InvalidRequest(
            "invalid_idempotency_key",
            f"{IDEMPOTENCY_META} must be 1 to 255 visible ASCII characters.",
        )
    return RequestHeaders(own, True, CacheControl(), None)


def _plan_wait(call: ReceivedCall) -> WaitPlan:
    settings = get_edge_settings(call.request)
    wait_s = settings.sync_wait_s or DEFAULT_WAIT_S
    if call.message.progress_token is None:
        wait_s = min(wait_s, SHORT_WAIT_S)
    return WaitPlan(wait_s, None, settings.comment_interval_s)
