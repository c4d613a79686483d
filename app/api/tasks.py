"""GET and DELETE /v1/tasks: a caller's own jobs."""

import re

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.answers import json_response, task_answer, task_object
from app.api.auth import caller
from app.api.queries import CUT, invalid, number, word
from app.api.running import exchange, running
from app.api.waiting import Waiting
from app.domain.errors import TaskNotFound
from app.domain.job import Job, TaskStatus
from app.domain.listing import PageQuery
from app.service.about import about_task

TASK_ID = re.compile(r"task_[0-9a-f]{32}", re.ASCII)
LONGEST_WAIT_S = 25
POLL_AGAIN_S = 3
DEFAULT_LIMIT = 20
MOST_TASKS = 100
TASKS_A_READING = 20
"""A list of so many tasks costs what reading one does; the first reading is counted on arrival."""


async def read(request: Request) -> Response:
    """One task; `?wait=N` (25 s at most) holds the answer until it ended."""
    principal = await caller(request)
    task_id = _task_id(request)
    wait_s = min(number(request.query_params, "wait", 0, CUT), LONGEST_WAIT_S)
    tasks = running(request).gateway.tasks
    if wait_s == 0:
        job = await tasks.read(principal, task_id)
    else:
        record = exchange(request)
        record.waited = True
        record.held.append(running(request).gateway.waiting.take(principal))
        async with Waiting(request.receive, tasks.read(principal, task_id, wait_s)) as waiting:
            await waiting.ready()
            job = waiting.result()
    return await _shown(request, job)


async def index(request: Request) -> Response:
    """The caller's own tasks, newest first; pictures as links whatever was asked."""
    principal = await caller(request)
    query = _page_query(request)
    gateway = running(request).gateway
    await gateway.pace.read(principal, max(query.limit / TASKS_A_READING - 1, 0))
    found = await gateway.tasks.list(principal, query)
    if found is None:
        raise invalid("after", "after must be the id of a task in your list.")
    page = {
        "object": "list",
        "data": [task_object(request, task) for task in found.tasks],
        "first_id": found.tasks[0].id if found.tasks else None,
        "last_id": found.tasks[-1].id if found.tasks else None,
        "has_more": found.more,
    }
    return json_response(orjson.dumps(page), {"cache-control": "no-store"})


async def cancel(request: Request) -> Response:
    """Cancel a task that was not sent to the provider yet."""
    principal = await caller(request)
    job = await running(request).gateway.tasks.cancel(principal, _task_id(request))
    return await _shown(request, job)


def task_headers(job: Job) -> dict[str, str]:
    """No cache may keep a task; a running one says when to ask again."""
    headers = {"cache-control": "no-store", "x-koi-task-id": job.id}
    return headers if job.ended else {**headers, "retry-after": str(POLL_AGAIN_S)}


async def _shown(request: Request, job: Job) -> Response:
    exchange(request).task_id = job.id
    return await task_answer(request, job, task_headers(job))


def _task_id(request: Request) -> str:
    task_id: str = request.path_params["task_id"]
    if TASK_ID.fullmatch(task_id) is None:
        raise TaskNotFound
    about_task(task_id)
    return task_id


def _page_query(request: Request) -> PageQuery:
    """`limit`, `after`, `order` and `status` as OpenAI's lists have them."""
    query = request.query_params
    after = query.get("after")
    if after is not None and TASK_ID.fullmatch(after) is None:
        raise invalid("after", "after must be a task id.")
    order = word(query, "order", ("desc", "asc"))
    status = word(query, "status", tuple(TaskStatus))
    return PageQuery(
        limit=min(max(number(query, "limit", DEFAULT_LIMIT, CUT), 1), MOST_TASKS),
        after=after,
        ascending=order == "asc",
        status=None if status is None else TaskStatus(status),
    )
