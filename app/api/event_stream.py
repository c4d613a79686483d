"""The pictures of a job as server-sent events, as the images API streams them."""

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.disconnect import DisconnectWatch, SilentWork
from app.api.errors import build_error_body, record_late_failure
from app.api.image_stream import open_image, send_image_base64
from app.api.response import UNBUFFERED_HEADERS, PendingResponse, send_chunk, send_start
from app.api.response_body import (
    JSON_PLACEHOLDER,
    PLACEHOLDER,
    acquire_answer_permit,
    describe_image,
    describe_incomplete,
)
from app.api.response_headers import build_limit_headers
from app.api.state import get_edge_settings, get_scope_access_record, get_scope_peer
from app.api.wire import COMPLETED_EVENT, EDITED_EVENT, ERROR_EVENT, NO_USAGE
from app.domain.errors import FailureNote, GatewayError
from app.domain.job import Job

EDITS_PATH = "/v1/images/edits"


class EventStreamResponse(Response):
    """Server-sent events: comments while waiting, one completed event per image.

    The provider has no partial images, so none are sent.
    """

    def __init__(self, pending: PendingResponse) -> None:
        self.pending = pending
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pending = self.pending
        get_scope_access_record(scope).waited = True
        headers = {
            **pending.headers,
            **build_limit_headers(pending.started.limit_snapshot),
            **UNBUFFERED_HEADERS,
        }
        try:
            async with pending, DisconnectWatch(get_scope_peer(scope), receive):
                await send_start(send, Response(b"", 200, headers, "text/event-stream"))
                await send_chunk(send, b": koi\n\n")
                pause_s = min(
                    get_edge_settings(pending.request).comment_interval_s,
                    pending.wait_plan.heartbeat_interval_s,
                )
                with SilentWork(self._wait_for_job()) as work:
                    while not await work.wait(pause_s):
                        await send_chunk(send, b": koi\n\n")
                    await self._send_events(work.result(), send)
                await pending.raise_if_disconnected()
            pending.received()
        except GatewayError as error:
            await send_chunk(send, _build_error_event(scope, error.note, pending.started.job.id))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _wait_for_job(self) -> Job:
        job = (await self.pending.wait_for_job()).job
        await acquire_answer_permit(self.pending.request)
        return job

    async def _send_events(self, job: Job, send: Send) -> None:
        is_edit = self.pending.request.scope["path"] == EDITS_PATH
        name = EDITED_EVENT if is_edit else COMPLETED_EVENT
        head, _, tail = _build_completed_event(name, job).partition(PLACEHOLDER)
        for picture in job.pictures:
            found = await open_image(self.pending.request, picture.name, job.id)
            await send_chunk(send, head)
            await send_image_base64(self.pending.request, send, found)
            await send_chunk(send, tail)


def _build_completed_event(name: str, job: Job) -> bytes:
    event = {
        "type": name,
        "created_at": job.created_ms // 1000,
        "quality": "auto",
        "output_format": "png",
        "background": "opaque",
        **describe_image(job),
        **describe_incomplete(job),
        "usage": NO_USAGE,
        "b64_json": JSON_PLACEHOLDER,
    }
    return encode_event(name, orjson.dumps(event))


def _build_error_event(scope: Scope, note: FailureNote, task_id: str) -> bytes:
    record_late_failure(scope, note)
    return encode_event(
        ERROR_EVENT, build_error_body(note, task_id, get_scope_access_record(scope).moderation_code)
    )


def encode_event(name: str, payload: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), payload)
