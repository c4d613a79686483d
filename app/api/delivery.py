"""Answering a caller who waits: in silence, with heartbeats, or as a stream of events.

All three watch for the caller hanging up and tell the gateway about it, so that the next
identical request joins the job instead of buying again. None ever touches the job itself.
"""

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.answers import (
    NO_USAGE,
    images_content,
    json_response,
    picture_bodies,
    shortfall,
    traits,
)
from app.api.controls import Patience
from app.api.errors import error_body, status_of
from app.api.headers import cache_headers, limit_headers, with_shortfall
from app.api.running import cut, edge, exchange, exchange_of, peer, present, running
from app.api.waiting import Peer, Waiting
from app.domain.errors import FailureNote, GatewayError, GenerationFailed
from app.domain.images import Picture
from app.domain.job import Job
from app.service.started import Generated, Started

SILENT_S = (0.01, 0.04, 0.1, 0.15)
"""A caller that has just closed its own side is given time to turn out to read on."""
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
        for pause_s in SILENT_S:
            if peer(self.request) is Peer.SILENT:
                await asyncio.sleep(pause_s)
        if not present(self.request):
            raise ClientDisconnect

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

    async def answer(self) -> Response:
        """The finished images response, bytes and all."""
        generated = await self.generated()
        content = await images_content(self.request, generated.job, self.response_format)
        headers = with_shortfall({**self.headers, "x-koi-task-id": generated.job.id}, generated.job)
        return json_response(content, {**headers, **limit_headers(generated.standing)})


def started_headers(started: Started, adjusted: Mapping[str, str]) -> dict[str, str]:
    return {"x-koi-task-id": started.job.id, **cache_headers(started), **adjusted}


class Handed(Response):
    """An answer about a job that has ended, or that nobody waits for."""

    def __init__(self, caller: Caller, answer: Callable[[], Awaitable[Response]]) -> None:
        self.caller = caller
        self.answer = answer
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.caller.owed():
            answer = await self.answer()
            await self.caller.check()
            await answer(scope, receive, send)
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
                if await waiting.ready(order.quiet_s):
                    answer = waiting.result()
                    await order.check()
                    await answer(scope, receive, send)
                else:
                    await self._beat(waiting, send)
                waiting.check()
        except GatewayError as error:
            if not exchange_of(scope).status:
                raise
            _record(scope, error.note)
            cut(scope)
        else:
            order.received()

    async def _beat(self, waiting: Waiting[Response], send: Send) -> None:
        limits = limit_headers(self.order.started.standing)
        shell = json_response(b"", {**self.order.headers, **limits, **UNBUFFERED})
        await _start(send, shell)
        await _write(send, b" ")
        while not await waiting.ready(self.order.patience.beat_s):
            await _write(send, b" ")
        body = bytes(waiting.result().body)
        await self.order.check()
        await send({"type": "http.response.body", "body": body, "more_body": False})


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
            async with order.owed(), Waiting(receive, self._events()) as waiting:
                await _start(send, Response(b"", 200, headers, "text/event-stream"))
                await _write(send, b": koi\n\n")
                pause_s = min(edge(order.request).comment_s, order.patience.beat_s)
                while not await waiting.ready(pause_s):
                    await _write(send, b": koi\n\n")
                for event in waiting.result():
                    await _write(send, event)
                await order.check()
                waiting.check()
            order.received()
        except GatewayError as error:
            await _write(send, _failed(scope, error.note, order.started.job.id))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _events(self) -> list[bytes]:
        job = (await self.order.generated()).job
        bodies = await picture_bodies(self.order.request, job)
        return await asyncio.to_thread(_completed, job, bodies)


def _completed(job: Job, bodies: Sequence[bytes]) -> list[bytes]:
    pairs: zip[tuple[Picture, bytes]] = zip(job.pictures, bodies, strict=True)
    event = {
        "type": "image_generation.completed",
        "created_at": job.created_ms // 1000,
        "quality": "auto",
        "output_format": "png",
        "background": "opaque",
        **traits(job),
        **shortfall(job),
        "usage": NO_USAGE,
    }
    return [
        _event(
            "image_generation.completed",
            orjson.dumps({**event, "b64_json": base64.b64encode(body).decode("ascii")}),
        )
        for _, body in pairs
    ]


def _failed(scope: Scope, note: FailureNote, task_id: str) -> bytes:
    _record(scope, note)
    return _event("error", error_body(note, task_id, exchange_of(scope).moderation))


def _event(name: str, payload: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), payload)


def _record(scope: Scope, note: FailureNote) -> None:
    record = exchange_of(scope)
    record.code, record.verdict = note.code, status_of(note.code)


async def _start(send: Send, shell: Response) -> None:
    headers = [pair for pair in shell.raw_headers if pair[0] != b"content-length"]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _write(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
