"""Sending stored pictures in parts: each is read when the client has taken the one before.

A client that stops reading costs the memory of one part, and of a small one while many pictures
are being sent. Nothing here waits for memory, so a slow client delays no other.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Send

from app.api.disconnect import PeerState
from app.api.errors import abort_response
from app.api.state import abort_connection, get_app_state, get_peer_state
from app.domain.budget import MemoryBudget
from app.domain.errors import FailureNote, GatewayOverloaded, GenerationFailed
from app.domain.media import (
    IMAGE_STORE_UNAVAILABLE_MESSAGE,
    SLICE_BYTES,
    ImageSlice,
    ImageStoreUnavailable,
)

PART_BYTES = 384 << 10
SMALL_PART_BYTES = SLICE_BYTES - SLICE_BYTES % 3
"""Bytes read at once: usually, and while many pictures are sent. Each read may be a request to a
bucket, so small parts are slow; larger ones would hold up the event loop. Both are multiples of
three, so that encoded parts join to valid base64."""
FIRST_PART_BYTES = 48 << 10
"""Read of each picture before an answer begins, because its size must be known then."""
COPIES_PER_PART = 4
"""How often a part is in memory at once while it is encoded and sent."""
IMAGE_GONE = FailureNote(
    "image_unavailable", "The image was made, but its bytes are no longer stored.", charged=True
)


@dataclass(slots=True)
class OpenedImage:
    """A stored picture whose first bytes have been read; `send_image` sends and drops them."""

    name: str
    first: ImageSlice

    @property
    def encoded_size(self) -> int:
        """Bytes of its base64 (RFC 4648, section 4)."""
        return (self.first.size + 2) // 3 * 4


async def open_image(request: Request, name: str, task_id: str) -> OpenedImage:
    """Raises `GatewayOverloaded` while the image store is unavailable (a repeat of the request gets
    the same pictures), and `GenerationFailed` when the bytes no longer exist."""
    try:
        first = await get_app_state(request).gateway.pictures.read(name, 0, FIRST_PART_BYTES)
    except ImageStoreUnavailable as error:
        raise GatewayOverloaded(IMAGE_STORE_UNAVAILABLE_MESSAGE) from error
    if first is None or not first.body:
        raise GenerationFailed(IMAGE_GONE, task_id=task_id)
    return OpenedImage(name, first)


async def send_image_base64(request: Request, send: Send, picture: OpenedImage) -> None:
    """Send a picture as base64, in the middle of an answer. Raises as `send_image`."""
    budget = get_app_state(request).gateway.budget
    await send_image(request, send, picture, budget, base64.b64encode, COPIES_PER_PART)


async def send_image(
    request: Request,
    send: Send,
    picture: OpenedImage,
    budget: MemoryBudget,
    encode: Callable[[bytes], bytes] = bytes,
    copies: int = 1,
) -> None:
    """Send a picture. Its larger parts are counted in `budget`, `copies` times each.

    Raises `ClientDisconnect` when the client is gone. It also does so when the rest of the bytes
    cannot be read: the connection is cut then, so that nobody takes the beginning for a picture.
    """
    offset, size = len(picture.first.body), picture.first.size
    body = encode(picture.first.body)
    picture.first = ImageSlice(b"", picture.first.media_type, size)
    await _send_part(send, body)
    while offset < size:
        del body
        if get_peer_state(request) is PeerState.DISCONNECTED:
            abort_connection(request.scope)
            raise ClientDisconnect
        with budget.try_reserve(copies * PART_BYTES) as reserved:
            body = await _read_part(
                request, picture.name, offset, PART_BYTES if reserved else SMALL_PART_BYTES
            )
            offset += len(body)
            body = encode(body)
            await _send_part(send, body)


async def _read_part(request: Request, name: str, offset: int, most: int) -> bytes:
    note = IMAGE_GONE
    try:
        part = await get_app_state(request).gateway.pictures.read(name, offset, most)
    except ImageStoreUnavailable:
        part, note = None, GatewayOverloaded(IMAGE_STORE_UNAVAILABLE_MESSAGE).note
    if part is None or not part.body:
        abort_response(request.scope, note)
        raise ClientDisconnect
    return part.body


async def _send_part(send: Send, body: bytes) -> None:
    """Returns once the client has taken most of it."""
    await send(build_body_message(body))
    await send(build_body_message(b""))


def build_body_message(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
