"""A task as server-sent events: one for each of its changes, the last one for its end.

The data of an event is what a webhook of the task would say, so one handler reads both.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.auth import find_principal
from app.api.disconnect import DisconnectWatch
from app.api.event_stream import encode_event
from app.api.response import UNBUFFERED_HEADERS, send_chunk, send_start
from app.api.response_body import build_task_object
from app.api.state import get_access_record, get_app_state, get_scope_peer
from app.api.wire import TASK_COMPLETED_EVENT, TASK_FAILED_EVENT, TASK_UPDATED_EVENT
from app.domain.errors import GatewayError
from app.domain.job import Job, TaskStatus

MEDIA_TYPE = "text/event-stream"
PAUSE_S = 1.0
"""How often a task that runs elsewhere is looked at. Its end is known at once."""
MAX_STREAM_S = 600.0
"""After so long the client connects again, as event sources do by themselves."""
HEAD = b"retry: 3000\n\n"
COMMENT = b": koi\n\n"


def wants_events(request: Request) -> bool:
    return MEDIA_TYPE in request.headers.get("accept", "")


@dataclass(frozen=True, slots=True)
class TaskStream:
    """The changes of one task for one caller, `first` being what it is now."""

    request: Request
    first: Job
    changes: AsyncIterator[Job | None]


class TaskStreamResponse(Response):
    """Events until the task has ended, this process drains, or a long time went by."""

    def __init__(self, stream: TaskStream) -> None:
        self.stream = stream
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = self.stream.request
        record = get_access_record(request)
        record.waited = True
        headers = {**UNBUFFERED_HEADERS, "x-koi-task-id": self.stream.first.id}
        async with DisconnectWatch(get_scope_peer(scope), receive):
            await send_start(send, Response(b"", 200, headers, MEDIA_TYPE))
            await send_chunk(send, HEAD + _build_event(request, self.stream.first))
            try:
                await self._send_changes(send)
            except GatewayError as error:
                # The status line is sent; the client connects again and is told then.
                record.code = error.note.code
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_changes(self, send: Send) -> None:
        request = self.stream.request
        background = get_app_state(request).gateway.background
        ends_s = time.monotonic() + MAX_STREAM_S
        async for job in self.stream.changes:
            if job is not None:
                await find_principal(request)  # a key that was revoked meanwhile is told no more
            await send_chunk(send, COMMENT if job is None else _build_event(request, job))
            if background.is_draining or time.monotonic() > ends_s:
                return


def _build_event(request: Request, job: Job) -> bytes:
    name = TASK_UPDATED_EVENT
    if job.ended:
        completed = job.status is TaskStatus.COMPLETED
        name = TASK_COMPLETED_EVENT if completed else TASK_FAILED_EVENT
    body = {
        "type": name,
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "data": build_task_object(request, job),
    }
    return encode_event(name, orjson.dumps(body))
