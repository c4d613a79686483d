"""GET and DELETE /v1/tasks: a caller's own jobs."""

import re
from dataclasses import replace

import orjson
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from app.api.auth import authenticate_request
from app.api.disconnect import DisconnectWatch
from app.api.parameters import (
    CLAMPED_INTEGER,
    INTEGER,
    describe_query,
    invalid_value_error,
    parse_query_choice,
    parse_query_integer,
)
from app.api.response_body import build_task_object, build_task_response, json_response
from app.api.response_headers import build_cost_header
from app.api.state import get_access_record, get_app_state, get_scope_peer
from app.api.task_stream import PAUSE_S, TaskStream, TaskStreamResponse, wants_events
from app.api.wire import TaskListBody
from app.domain.errors import TaskNotFound
from app.domain.job import Job, TaskStatus
from app.domain.principal import Principal
from app.domain.queries import TaskQuery
from app.service.log_context import bind_task_id

TASK_ID = re.compile(r"task_[0-9a-f]{32}", re.ASCII)
MAX_WAIT_S = 25
TASK_RETRY_AFTER_S = 3
DEFAULT_LIMIT = 20
MAX_TASKS = 100
TASKS_PER_READ = 20
"""How many tasks of a list cost as much of the key's rate as reading one task. The first read is
counted when the key is checked."""


READ_PARAMETERS = [
    describe_query(
        "wait", {**INTEGER, "default": 0}, f"Seconds to wait for its end, {MAX_WAIT_S} at most."
    )
]
ORDERS = ("desc", "asc")
LIST_PARAMETERS = [
    describe_query(
        "limit", {**INTEGER, "default": DEFAULT_LIMIT}, f"Cut to 1 at least, {MAX_TASKS} at most."
    ),
    describe_query(
        "after", {"type": "string", "pattern": f"^{TASK_ID.pattern}$"}, "The last id you have."
    ),
    describe_query("order", {"type": "string", "enum": [*ORDERS]}, "By time of creation."),
    describe_query("status", {"type": "string", "enum": [*TaskStatus]}, "Only these tasks."),
]


async def read(request: Request) -> Response:
    """One of your tasks; `wait` holds the answer back until the task has ended. With
    `Accept: text/event-stream` its changes are sent as they come."""
    principal = await authenticate_request(request)
    task_id = _parse_task_id(request)
    if wants_events(request):
        return await _follow(request, principal, task_id)
    wait_s = min(parse_query_integer(request.query_params, "wait", 0, CLAMPED_INTEGER), MAX_WAIT_S)
    tasks = get_app_state(request).gateway.tasks
    if wait_s == 0:
        job = await tasks.read(principal, task_id)
    else:
        record = get_access_record(request)
        record.waited = True
        record.cleanups.append(get_app_state(request).gateway.waiting_cap.take(principal))
        async with DisconnectWatch(get_scope_peer(request.scope), request.receive):
            job = await tasks.read(principal, task_id, wait_s)
    return await _build_response(request, job)


async def _follow(request: Request, principal: Principal, task_id: str) -> Response:
    gateway, record = get_app_state(request).gateway, get_access_record(request)
    record.cleanups.append(gateway.waiting_cap.take(principal))
    changes = gateway.tasks.follow(principal, task_id, PAUSE_S)
    first = await anext(changes)
    assert first is not None, "A task is told before the first pause."
    record.task_id = task_id
    return TaskStreamResponse(TaskStream(request, first, changes))


async def index(request: Request) -> Response:
    """Your tasks, newest first; pictures as links, whatever their request asked for."""
    principal = await authenticate_request(request)
    query = _parse_query(request.query_params)
    gateway = get_app_state(request).gateway
    await gateway.rate_limiter.check_read_rate(principal, max(query.limit / TASKS_PER_READ - 1, 0))
    found = await gateway.tasks.list(principal, query)
    if found is None:
        raise invalid_value_error("after", "after must be the id of a task in your list.")
    page: TaskListBody = {
        "object": "list",
        "data": [build_task_object(request, task) for task in found.tasks],
        "first_id": found.tasks[0].id if found.tasks else None,
        "last_id": found.tasks[-1].id if found.tasks else None,
        "has_more": found.more,
    }
    return json_response(orjson.dumps(page), {"cache-control": "no-store"})


async def cancel(request: Request) -> Response:
    """Cancel a task that was not sent to the provider yet. Nothing is charged for it."""
    principal = await authenticate_request(request)
    job = await get_app_state(request).gateway.tasks.cancel(principal, _parse_task_id(request))
    return await _build_response(request, job)


def build_task_headers(job: Job) -> dict[str, str]:
    """No cache may keep a task; one that has not ended says when to ask again."""
    headers = {"cache-control": "no-store", "x-koi-task-id": job.id}
    if job.ended:
        return {**headers, **build_cost_header(job)}
    return {**headers, "retry-after": str(TASK_RETRY_AFTER_S)}


async def _build_response(request: Request, job: Job) -> Response:
    get_access_record(request).task_id = job.id
    return await build_task_response(request, job, build_task_headers(job))


def _parse_task_id(request: Request) -> str:
    task_id: str = request.path_params["task_id"]
    if TASK_ID.fullmatch(task_id) is None:
        raise TaskNotFound
    bind_task_id(task_id)
    return task_id


def parse_page(query: QueryParams) -> TaskQuery:
    """`limit` and `after` as OpenAI's lists have them."""
    after = query.get("after")
    if after is not None and TASK_ID.fullmatch(after) is None:
        raise invalid_value_error("after", "after must be a task id.")
    limit = parse_query_integer(query, "limit", DEFAULT_LIMIT, CLAMPED_INTEGER)
    return TaskQuery(min(max(limit, 1), MAX_TASKS), after)


def _parse_query(query: QueryParams) -> TaskQuery:
    order = parse_query_choice(query, "order", ORDERS)
    status = parse_query_choice(query, "status", tuple(TaskStatus))
    return replace(
        parse_page(query),
        ascending=order == "asc",
        status=None if status is None else TaskStatus(status),
    )
