"""Answering a caller who waits: in silence, with heartbeats, or as a stream of events.

All three watch for the caller hanging up and tell the gateway about it, so that the next
identical request joins the job instead of buying again. None ever touches the job itself.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.answers import (
    HERE,
    HOLE,
    NO_USAGE,
    Answer,
    answer_turn,
    images_answer,
    json_response,
    shortfall,
    traits,
)
from app.api.controls import Patience
from app.api.errors import end_late, error_body, record_late
from app.api.headers import cache_headers, limit_headers, with_shortfall
from app.api.parts import opened, send_encoded
from app.api.running import edge, exchange, exchange_of, peer, present, running
from app.api.waiting import Peer, Waiting
from app.domain.errors import FailureNote, GatewayError, GenerationFailed
from app.domain.job import Job
from app.service.callers import HALF_CLOSED_S
from app.service.started import Generated, Started

UNBUFFERED = {"cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is to get an answer about a job."""

    request: Request
    started: Started

    @asynccontextmanager
    async def owed(self) -> AsyncIterator[None]:
        """Whatever ends this block early left the caller without its answer: the next identical
        request joins the job. Where the job itself failed, there is nothing to join."""
        try:
            yield
        except GenerationFailed:
            raise
        except BaseException:
            await running(self.request).gateway.generate.abandon(self.started)
            raise

    async def check(self) -> None:
        """Raise `ClientDisconnect` when the caller is gone; before the last of the answer is sent,
        because the server may hang up itself then."""
        for pause_s in HALF_CLOSED_S:
            if peer(self.request) is Peer.SILENT:
                await asyncio.sleep(pause_s)
        if not present(self.request):
            raise ClientDisconnect

    async def hand(self, answer: Answer, send: Send) -> None:
        """Send an answer, and the end of it only to a caller who is still there."""
        await self.check()
        if not exchange(self.request).status:
            await answer.begin(send)
        if answer.pictures:
            await answer.pour(send)
            await self.check()
        await answer.end(send)

    def received(self) -> None:
        """The whole answer was sent to a caller who was there."""
        running(self.request).gateway.generate.received(self.started)


@dataclass(frozen=True, slots=True)
class Order(Caller):
    """One caller waiting for one job. `headers` are those known before the job ended."""

    response_format: str
    patience: Patience
    headers: Mapping[str, str]

    @property
    def quiet_s(self) -> float | None:
        """What is left of the silence, which began when the request came."""
        if self.patience.quiet_s is None:
            return None
        passed_s = time.perf_counter() - exchange(self.request).started_s
        return max(self.patience.quiet_s - passed_s, 0.0)

    async def generated(self) -> Generated:
        generate = running(self.request).gateway.generate
        generated = await generate.finish(self.started, self.patience.wait_s)
        exchange(self.request).upstream_s = generated.upstream_s
        return generated

    async def answer(self) -> Answer:
        """The images response about the finished job."""
        generated = await self.generated()
        headers = with_shortfall({**self.headers, "x-koi-task-id": generated.job.id}, generated.job)
        headers |= limit_headers(generated.standing)
        return await images_answer(self.request, generated.job, self.response_format, headers)


def started_headers(started: Started, adjusted: Mapping[str, str]) -> dict[str, str]:
    return {"x-koi-task-id": started.job.id, **cache_headers(started), **adjusted}


class Handed(Response):
    """An answer about a job that has ended, or that nobody waits for."""

    def __init__(self, caller: Caller, answer: Callable[[], Awaitable[Answer]]) -> None:
        self.caller = caller
        self.answer = answer
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        async with self.caller.owed():
            await self.caller.hand(await self.answer(), send)
        self.caller.received()


class Delivery(Response):
    """An images response that is written when the job has ended.

    After a silence the status is committed and white space keeps the connection
    alive; a failure after that cuts the connection, the only thing SDKs repeat (openai-compat
    study, section 5).
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        order = self.order
        exchange_of(scope).waited = True
        try:
            async with order.owed(), Waiting(receive, order.answer()) as waiting:
                if not await waiting.ready(order.quiet_s):
                    await self._beat(waiting, send)
                await order.hand(waiting.result(), send)
                waiting.check()
        except GatewayError as error:
            if not exchange_of(scope).status:
                raise
            end_late(scope, error.note)
        else:
            order.received()

    async def _beat(self, waiting: Waiting[Answer], send: Send) -> None:
        limits = limit_headers(self.order.started.standing)
        shell = json_response(b"", {**self.order.headers, **limits, **UNBUFFERED})
        await _start(send, shell)
        await _write(send, b" ")
        while not await waiting.ready(self.order.patience.beat_s):
            await _write(send, b" ")


class EventStream(Response):
    """Server-sent events: comments while waiting, one completed event per image.

    The provider has no partial images, so none are sent (openai-compat study, section 7).
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        order = self.order
        exchange_of(scope).waited = True
        headers = {**order.headers, **limit_headers(order.started.standing), **UNBUFFERED}
        try:
            async with order.owed(), Waiting(receive, self._job()) as waiting:
                await _start(send, Response(b"", 200, headers, "text/event-stream"))
                await _write(send, b": koi\n\n")
                pause_s = min(edge(order.request).comment_s, order.patience.beat_s)
                while not await waiting.ready(pause_s):
                    await _write(send, b": koi\n\n")
                await self._events(waiting.result(), send)
                await order.check()
                waiting.check()
            order.received()
        except GatewayError as error:
            await _write(send, _failed(scope, error.note, order.started.job.id))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _job(self) -> Job:
        job = (await self.order.generated()).job
        await answer_turn(self.order.request)
        return job

    async def _events(self, job: Job, send: Send) -> None:
        head, _, tail = _completed(job).partition(HERE)
        for picture in job.pictures:
            found = await opened(self.order.request, picture.name, job.id)
            await _write(send, head)
            await send_encoded(self.order.request, send, found)
            await _write(send, tail)


def _completed(job: Job) -> bytes:
    event = {
        "type": "image_generation.completed",
        "created_at": job.created_ms // 1000,
        "quality": "auto",
        "output_format": "png",
        "background": "opaque",
        **traits(job),
        **shortfall(job),
        "usage": NO_USAGE,
        "b64_json": HOLE,
    }
    return _event("image_generation.completed", orjson.dumps(event))


def _failed(scope: Scope, note: FailureNote, task_id: str) -> bytes:
    record_late(scope, note)
    return _event("error", error_body(note, task_id, exchange_of(scope).moderation))


def _event(name: str, payload: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), payload)


async def _start(send: Send, shell: Response) -> None:
    headers = [pair for pair in shell.raw_headers if pair[0] != b"content-length"]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _write(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
