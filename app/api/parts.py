"""Stored pictures on their way out: in parts, each read when the reader has taken the last one.

A reader that stops costs one part, a small one while many others are served, and no task of its
own: nothing here waits for memory, so that a slow reader holds up nobody else.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Send

from app.api.errors import end_late
from app.api.running import cut, peer, running
from app.api.waiting import Peer
from app.domain.budget import ByteBudget
from app.domain.errors import FailureNote, GenerationFailed, Overloaded
from app.domain.media import SLICE, STORE_AWAY, ImageSlice, ImageStoreUnavailable

PART = 192 << 10
SMALL = SLICE - SLICE % 3
"""Bytes read at once, as a rule and while many are served: each read may be a request to a bucket,
and larger ones hold up the event loop. Multiples of three, so that parts of base64 join."""
FIRST = 48 << 10
"""Read before an answer begins, of each of its pictures: its size is known then."""
COPIES = 4
"""How often a part lies in memory on its way, base64 being a third longer."""
GONE = FailureNote(
    "image_unavailable", "The image was made, but its bytes are no longer stored.", charged=True
)


@dataclass(slots=True)
class Opened:
    """A stored picture whose first bytes were read; they are handed on once."""

    name: str
    first: ImageSlice

    @property
    def encoded_size(self) -> int:
        """Bytes of its base64 (RFC 4648, section 4)."""
        return (self.first.size + 2) // 3 * 4


async def opened(request: Request, name: str, task_id: str) -> Opened:
    """Raises `Overloaded` while the image store is away (a repeat gets the same pictures), and
    `GenerationFailed` when the bytes are gone for good."""
    try:
        first = await running(request).gateway.pictures.read(name, 0, FIRST)
    except ImageStoreUnavailable as error:
        raise Overloaded(STORE_AWAY) from error
    if first is None or not first.body:
        raise GenerationFailed(GONE, task_id=task_id)
    return Opened(name, first)


async def send_encoded(request: Request, send: Send, picture: Opened) -> None:
    """Send a picture as base64, in the middle of an answer. Raises as `send_picture`."""
    budget = running(request).gateway.budget
    await send_picture(request, send, picture, budget, base64.b64encode, COPIES)


async def send_picture(
    request: Request,
    send: Send,
    picture: Opened,
    budget: ByteBudget,
    form: Callable[[bytes], bytes] = bytes,
    copies: int = 1,
) -> None:
    """Send a picture; its larger parts are counted in `budget`, each so many times as it is in
    memory. Raises `ClientDisconnect` when the reader is gone, or when the bytes cannot be had any
    more: then the connection is cut, a beginning being no picture."""
    at, size = len(picture.first.body), picture.first.size
    body = form(picture.first.body)
    picture.first = ImageSlice(b"", picture.first.media_type, size)
    await _send_part(send, body)
    while at < size:
        del body
        if peer(request) is Peer.GONE:
            cut(request.scope)
            raise ClientDisconnect
        with budget.spare(copies * PART) as spare:
            body = await _read(request, picture.name, at, PART if spare else SMALL)
            at += len(body)
            body = form(body)
            await _send_part(send, body)


async def _read(request: Request, name: str, at: int, most: int) -> bytes:
    note = GONE
    try:
        part = await running(request).gateway.pictures.read(name, at, most)
    except ImageStoreUnavailable:
        part, note = None, Overloaded(STORE_AWAY).note
    if part is None or not part.body:
        end_late(request.scope, note)
        raise ClientDisconnect
    return part.body


async def _send_part(send: Send, body: bytes) -> None:
    """Done once the reader has taken most of it."""
    await send(body_message(body))
    await send(body_message(b""))


def body_message(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
