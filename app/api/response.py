"""Answering a caller who waits: in silence or with heartbeats; `app.api.event_stream` sends events.

All of them notice when the caller hangs up and tell the gateway, so that the next identical request
joins the job and does not buy again. None of them changes the job itself.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.disconnect import DisconnectWatch, PeerState, SilentWork
from app.api.errors import abort_response
from app.api.request_headers import WaitPlan
from app.api.response_body import (
    JsonImagesResponse,
    build_images_response,
    json_response,
)
from app.api.response_headers import (
    FREE_HEADERS,
    add_incomplete_header,
    build_cache_headers,
    build_cost_header,
    build_limit_headers,
)
from app.api.state import (
    get_access_record,
    get_app_state,
    get_peer_state,
    get_scope_access_record,
    get_scope_peer,
)
from app.api.whole_response import send_whole
from app.domain.errors import GatewayError, GenerationFailed
from app.domain.images import ResponseFormat
from app.service.callers import HALF_CLOSED_S
from app.service.generation import FinishedJob, StartedJob
from app.service.wait import EndedJob

UNBUFFERED_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclass(frozen=True, slots=True)
class JobRecipient:
    """The caller who is to get an answer about a job, within a block of this: one that ends early
    leaves the caller without its answer, so the next identical request joins the job. If the job
    itself failed, there is nothing to join."""

    request: Request
    started: StartedJob

    async def __aenter__(self) -> None:
        """The block begins."""

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, GenerationFailed):
            await get_app_state(self.request).gateway.generate.abandon(self.started)

    async def raise_if_disconnected(self) -> None:
        """Raise `ClientDisconnect` when the caller is gone. Call it before the end of the answer is
        sent, because the server may close the connection itself after that."""
        for pause_s in (*HALF_CLOSED_S, 0.0):
            peer = get_peer_state(self.request)
            if peer is PeerState.CONNECTED:
                return
            if peer is PeerState.DISCONNECTED:
                break
            await asyncio.sleep(pause_s)
        raise ClientDisconnect

    async def send_response(self, answer: JsonImagesResponse, send: Send) -> None:
        """Send an answer; its end only while the caller is still there."""
        await self.raise_if_disconnected()
        if not get_access_record(self.request).status:
            if not answer.pictures:
                await send_whole(self.request.scope, send, 200, answer.raw_headers, answer.tail)
                return
            await answer.send_start(send)
        if answer.pictures:
            await answer.send_images(send)
            await self.raise_if_disconnected()
        await answer.send_end(send)

    def received(self) -> None:
        """Note that the whole answer was sent while the caller was there."""
        get_app_state(self.request).gateway.generate.received(self.started)


@dataclass(frozen=True, slots=True)
class PendingResponse(JobRecipient):
    """One caller waiting for one job. `headers` are known before the job has ended."""

    response_format: str
    wait_plan: WaitPlan
    headers: Mapping[str, str]
    began_s: float = field(default_factory=time.monotonic)

    @property
    def left_s(self) -> float:
        """What is left of the longest wait."""
        return max(self.began_s + self.wait_plan.wait_s - time.monotonic(), 0.0)

    @property
    def silence_s(self) -> float | None:
        """What is left of the silent time, which began when the request arrived."""
        if self.wait_plan.silence_s is None:
            return None
        passed_s = time.perf_counter() - get_access_record(self.request).started_s
        return max(self.wait_plan.silence_s - passed_s, 0.0)

    def wait_in_silence(self) -> Coroutine[Any, Any, EndedJob | None]:
        """Wait for the job's end, at most through the silent time."""
        wait_s = self.left_s if self.silence_s is None else min(self.silence_s, self.left_s)
        return get_app_state(self.request).gateway.generate.wait_for_end(self.started, wait_s)

    def is_at_hand(self, ended: EndedJob | None) -> bool:
        """Whether the answer needs no more time after this end. One with base64 may, and so may a
        job that failed: its caller may be given another one."""
        if ended is None or self.response_format != ResponseFormat.URL:
            return False
        return ended.job.failure is None

    async def wait_for_job(self) -> FinishedJob:
        generate = get_app_state(self.request).gateway.generate
        generated = await generate.wait_for_images(self.started, self.left_s)
        get_access_record(self.request).upstream_s = generated.upstream_s
        return generated

    async def build_response(self) -> JsonImagesResponse:
        """The images response for the finished job."""
        generated = await self.wait_for_job()
        headers = add_incomplete_header(
            {**self.headers, "x-koi-task-id": generated.job.id}, generated.job
        )
        headers |= build_limit_headers(generated.limit_snapshot)
        if not self.started.is_paid_before:
            headers |= build_cost_header(generated.job)
        return await build_images_response(
            self.request, generated.job, self.response_format, headers
        )


def build_started_headers(started: StartedJob, adjusted: Mapping[str, str]) -> dict[str, str]:
    headers = {"x-koi-task-id": started.job.id, **build_cache_headers(started), **adjusted}
    return headers | FREE_HEADERS if started.is_paid_before else headers


class ImmediateResponse(Response):
    """An answer about a job that has ended, or that the caller does not wait for."""

    def __init__(
        self, recipient: JobRecipient, answer: Callable[[], Awaitable[JsonImagesResponse]]
    ) -> None:
        self.recipient = recipient
        self.build_response = answer
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        async with self.recipient:
            await self.recipient.send_response(await self.build_response(), send)
        self.recipient.received()


class HeartbeatResponse(Response):
    """An images response that is sent when the job has ended.

    After some time the status 200 is sent, and white space keeps the connection alive. A failure
    after that cuts the connection, because SDKs repeat nothing else at that point.
    """

    def __init__(self, pending: PendingResponse) -> None:
        self.pending = pending
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pending = self.pending
        get_scope_access_record(scope).waited = True
        try:
            async with pending, DisconnectWatch(get_scope_peer(scope), receive):
                if pending.is_at_hand(await pending.wait_in_silence()):
                    answer = await pending.build_response()
                else:
                    answer = await self._build_with_heartbeats(send)
                await pending.send_response(answer, send)
        except GatewayError as error:
            if not get_scope_access_record(scope).status:
                raise
            abort_response(scope, error.note)
        else:
            pending.received()

    async def _build_with_heartbeats(self, send: Send) -> JsonImagesResponse:
        pending = self.pending
        with SilentWork(pending.build_response()) as work:
            if not await work.wait(pending.silence_s):
                limits = build_limit_headers(pending.started.limit_snapshot)
                head = json_response(b"", {**pending.headers, **limits, **UNBUFFERED_HEADERS})
                await send_start(send, head)
                await send_chunk(send, b" ")
                while not await work.wait(pending.wait_plan.heartbeat_interval_s):
                    await send_chunk(send, b" ")
            return work.result()


async def send_start(send: Send, head: Response) -> None:
    headers = [pair for pair in head.raw_headers if pair[0] != b"content-length"]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def send_chunk(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
