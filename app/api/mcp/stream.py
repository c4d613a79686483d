"""Answering one tool call that may take minutes: as server-sent events with signs of life, or as
JSON to a client that takes nothing else.

A client that loses the stream connects again and says which event it saw last; the event's id says
which task it waits for, so that any worker of any gateway can go on.
"""

import base64
import binascii
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.disconnect import DisconnectWatch, SilentWork
from app.api.errors import record_late_failure
from app.api.mcp.messages import (
    Json,
    RequestId,
    encode_event,
    encode_progress,
    encode_result,
    is_request_id,
)
from app.api.mcp.protocol import EMPTY_EVENTS_SINCE
from app.api.mcp.results import build_failure_result
from app.api.response import UNBUFFERED_HEADERS, JobRecipient, send_chunk, send_start
from app.api.state import get_access_record, get_edge_settings, get_scope_peer
from app.api.task_stream import MEDIA_TYPE
from app.api.tasks import TASK_ID
from app.domain.errors import GatewayError, StillProcessing

COMMENT = b": koi\n\n"
RETRY = b"retry: 500\n"
"""After how many milliseconds a client that lost the stream connects again."""
PROGRESS_S = 2.0
MAX_EVENT_ID_CHARS = 4096


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call whose answer is under way: what its events need to say."""

    id: RequestId
    progress_token: RequestId | None
    task_id: str
    free: bool
    began_ms: int
    """By the clock, because progress must also grow from one connection to the next."""

    @property
    def event_id(self) -> str:
        """This call as text that a client sends back. It opens nothing to others: whoever sends it
        must have a key that may see the task."""
        packed = orjson.dumps(
            [self.task_id, self.id, self.progress_token, self.free, self.began_ms]
        )
        return base64.urlsafe_b64encode(packed).decode()


def parse_event_id(text: str) -> OpenCall | None:
    """None for what is no event id of ours."""
    try:
        match orjson.loads(base64.urlsafe_b64decode(text[:MAX_EVENT_ID_CHARS])):
            case [str(task_id), id, token, bool(free), int(began_ms)] if (
                TASK_ID.fullmatch(task_id)
                and is_request_id(id)
                and (token is None or is_request_id(token))
            ):
                return OpenCall(id, token, task_id, free, began_ms)
    except (binascii.Error, ValueError):
        pass
    return None


@dataclass(slots=True)
class CallResponse(Response):
    """`work` makes the result, and may raise any `GatewayError`. `recipient` waits for a job that
    this very request started or joined; None when it only asks for one."""

    request: Request
    call: OpenCall
    version: str
    work: Callable[[], Coroutine[Any, Any, Json]]
    recipient: JobRecipient | None = None
    background: None = None

    @property
    def streams(self) -> bool:
        return MEDIA_TYPE in self.request.headers.get("accept", "")

    @property
    def _pause_s(self) -> float:
        if self.call.progress_token is not None:
            return PROGRESS_S
        return get_edge_settings(self.request).comment_interval_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        get_access_record(self.request).waited = True
        recipient = self.recipient
        try:
            async with self._keep_job(), DisconnectWatch(get_scope_peer(scope), receive):
                await self._open(send)
                with SilentWork(self.work()) as work:
                    while not await work.wait(self._pause_s):
                        await self._send_sign_of_life(send)
                    await self._send_result(send, work.result())
                if recipient is not None:
                    await recipient.raise_if_disconnected()
            if recipient is not None:
                recipient.received()
        except GatewayError as error:
            await self._send_result(send, self._tell_failure(error))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _keep_job(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self.recipient is None else self.recipient

    async def _open(self, send: Send) -> None:
        if not self.streams:
            return
        await send_start(send, Response(b"", 200, {**UNBUFFERED_HEADERS}, MEDIA_TYPE))
        # Older clients take an event without data for a broken message.
        primed = self.version >= EMPTY_EVENTS_SINCE
        first = b"%sid: %s\ndata:\n\n" % (RETRY, self.call.event_id.encode())
        await send_chunk(send, first if primed else COMMENT)
        if self.call.progress_token is not None:
            await self._send_sign_of_life(send)

    async def _send_sign_of_life(self, send: Send) -> None:
        if not self.streams:
            return
        passed_s = get_edge_settings(self.request).now() - self.call.began_ms / 1000
        if self.call.progress_token is None:
            await send_chunk(send, COMMENT)
            return
        told = encode_progress(
            self.call.progress_token,
            round(passed_s, 3),
            f"The picture is being made, {passed_s:.0f} s so far.",
        )
        await send_chunk(send, encode_event(told, self.call.event_id))

    async def _send_result(self, send: Send, result: Json) -> None:
        encoded = encode_result(self.call.id, result)
        if self.streams:
            await send_chunk(send, encode_event(encoded, self.call.event_id))
            return
        await send_start(send, Response(b"", 200, None, "application/json"))
        await send_chunk(send, encoded)

    def _tell_failure(self, error: GatewayError) -> Json:
        record = get_access_record(self.request)
        if not isinstance(error, StillProcessing):
            record_late_failure(self.request.scope, error.note)
        return build_failure_result(error, record.moderation_code, self.call.task_id)
