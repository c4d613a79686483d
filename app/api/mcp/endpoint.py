"""/mcp: one message of the Model Context Protocol in each POST (streamable HTTP)."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import authenticate_request
from app.api.disconnect import DisconnectWatch
from app.api.errors import ErrorResponse, record_late_failure, unknown_url_error, wrong_method_error
from app.api.mcp.generate import ReceivedCall, generate_image
from app.api.mcp.messages import (
    METHOD_NOT_FOUND,
    Json,
    McpMessage,
    ProtocolError,
    encode_error,
    encode_result,
    parse_message,
)
from app.api.mcp.protocol import (
    SESSION_HEADER,
    check_origin,
    get_session_id,
    get_version,
    negotiate,
    new_session_id,
)
from app.api.mcp.results import (
    ToolAnswer,
    build_failure_result,
    build_pictures_result,
    build_task_result,
    build_text_result,
)
from app.api.mcp.stream import CallResponse, OpenCall, parse_event_id
from app.api.mcp.tools import (
    GENERATE,
    GET_TASK,
    GET_USAGE,
    list_tools,
    parse_call,
    parse_task_read,
)
from app.api.parameters import invalid_value_error
from app.api.request_body import read_json
from app.api.request_headers import DEFAULT_WAIT_S
from app.api.response_body import json_response
from app.api.state import get_access_record, get_app_state, get_edge_settings, get_scope_peer
from app.api.usage import describe_usage
from app.domain.errors import GatewayError, GenerationFailed, StillProcessing
from app.domain.job import Job
from app.domain.principal import Principal

LAST_EVENT = "last-event-id"
METHODS = "POST, DELETE"
NO_STORE = {"cache-control": "no-store"}


async def receive(request: Request) -> Response:
    """One message of the Model Context Protocol: a call of a tool, or what a client asks before.
    Tools: `generate_image`, `get_task`, `get_usage`. `KOI_MCP=on` opens it."""
    principal = await _open(request)
    message = parse_message(await read_json(request))
    session = get_session_id(request)
    if message.id is None:
        # Cancelling is ignored: what was ordered is paid for, and the repeat joins it.
        return Response(b"", 202)
    try:
        if message.method == "initialize":
            result = negotiate(message, get_edge_settings(request).version)
            headers = {SESSION_HEADER: session or new_session_id()}
            return json_response(encode_result(message.id, result), {**NO_STORE, **headers})
        return await _answer(request, principal, message, get_version(request))
    except ProtocolError as error:
        status = 400 if error.data else 200
        return json_response(encode_error(message.id, error), NO_STORE, status)


async def resume(request: Request) -> Response:
    """Go on with the answer to a call whose stream broke, from its `Last-Event-ID`. Koi sends
    nothing unasked, so a GET without one is a 405."""
    principal = await _open(request)
    last = request.headers.get(LAST_EVENT)
    if last is None:
        return ErrorResponse(wrong_method_error().note, headers={"allow": METHODS})
    call = parse_event_id(last)
    if call is None:
        raise invalid_value_error("Last-Event-ID", "Last-Event-ID is none that was sent from here.")
    gateway, record = get_app_state(request).gateway, get_access_record(request)
    await gateway.tasks.read(principal, call.task_id)
    record.cleanups.append(gateway.waiting_cap.take(principal))
    record.task_id = call.task_id
    version = request.headers.get("mcp-protocol-version", "")
    work = partial(_finish, principal, call, ToolAnswer(request, version, call.free))
    return CallResponse(request, call, version, work)


async def end(request: Request) -> Response:
    """A client needs its session no more. Nothing was kept for it, and tasks go on."""
    await _open(request)
    get_session_id(request)
    return Response(b"", 204)


async def _open(request: Request) -> Principal:
    principal = await authenticate_request(request)
    if not get_edge_settings(request).mcp:
        raise unknown_url_error()
    check_origin(request)
    return principal


async def _answer(
    request: Request, principal: Principal, message: McpMessage, version: str
) -> Response:
    assert message.id is not None
    if message.method == "tools/call":
        return await _call_tool(request, principal, message, version)
    if message.method == "ping":
        result: Json = {}
    elif message.method == "tools/list":
        catalog = get_app_state(request).gateway.catalog
        result = list_tools(catalog, principal, get_edge_settings(request).max_images)
    else:
        raise ProtocolError(METHOD_NOT_FOUND, "Method not found: Koi offers tools only.")
    return json_response(encode_result(message.id, result), NO_STORE)


async def _call_tool(
    request: Request, principal: Principal, message: McpMessage, version: str
) -> Response:
    """A failure is an answer too, which a model can read and act on."""
    assert message.id is not None
    try:
        tool = parse_call(message)
        received = ReceivedCall(request, principal, message, message.id, version, tool)
        return await TOOLS[tool.name](received)
    except GatewayError as error:
        record = get_access_record(request)
        record_late_failure(request.scope, error.note)
        result = build_failure_result(error, record.moderation_code, record.task_id)
        return json_response(encode_result(message.id, result), NO_STORE)


async def _get_task(call: ReceivedCall) -> Response:
    request, principal = call.request, call.principal
    task_id, wait_s = parse_task_read(call.tool)
    gateway, record = get_app_state(request).gateway, get_access_record(request)
    await gateway.rate_limiter.check_read_rate(principal)
    if wait_s:
        record.waited = True
        record.cleanups.append(gateway.waiting_cap.take(principal))
    async with DisconnectWatch(get_scope_peer(request.scope), request.receive):
        job = await gateway.tasks.read(principal, task_id, wait_s)
    record.task_id = job.id
    result = await build_task_result(ToolAnswer(request, call.version), job)
    return json_response(encode_result(call.id, result), NO_STORE)


async def _get_usage(call: ReceivedCall) -> Response:
    gateway = get_app_state(call.request).gateway
    await gateway.rate_limiter.check_read_rate(call.principal)
    snapshot = await gateway.usage.read_limits(call.principal)
    now = datetime.fromtimestamp(get_edge_settings(call.request).now(), UTC)
    content: Json = {**describe_usage(call.principal, snapshot, gateway.catalog.currency, now)}
    return json_response(encode_result(call.id, build_text_result(content)), NO_STORE)


async def _finish(principal: Principal, call: OpenCall, answer: ToolAnswer) -> Json:
    """Wait for the end of a task that an earlier request began to wait for."""
    wait_s = get_edge_settings(answer.request).sync_wait_s or DEFAULT_WAIT_S
    job: Job = await get_app_state(answer.request).gateway.tasks.read(
        principal, call.task_id, wait_s
    )
    if job.failure is not None:
        raise GenerationFailed(job.failure, task_id=job.id)
    if not job.ended:
        raise StillProcessing("The generation goes on.", task_id=job.id)
    return await build_pictures_result(answer, job)


TOOLS: Mapping[str, Callable[[ReceivedCall], Awaitable[Response]]] = {
    GENERATE: generate_image,
    GET_TASK: _get_task,
    GET_USAGE: _get_usage,
}
