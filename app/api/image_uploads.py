"""Pictures in the body of a request: taken out while the body arrives, checked by their own bytes.

What is left of the body has a short text in place of each picture, which nobody else can write.
"""

import asyncio
import hashlib
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starlette.requests import ClientDisconnect, Request

from app.api.image_inputs import too_many_error
from app.api.request_body import discard_oversized, get_content_length
from app.api.request_upload import discard_upload
from app.api.state import get_edge_settings
from app.domain.errors import GatewayError, InvalidRequest
from app.domain.formats import BufferedSource, ByteSource, StepBudget, detect_media
from app.domain.references import (
    MAX_REFERENCE_BYTES,
    MAX_REFERENCE_STEPS,
    MAX_REFERENCES_BYTES,
    REFERENCE_EXTENSIONS,
    Reference,
    ReferenceFile,
    upload_due_s,
)

MAX_BODY_BYTES = MAX_REFERENCES_BYTES // 3 * 4
"""Of pictures in a body, written as base64."""
MEGABYTE = 1 << 20
MAX_TAKEN_BYTES = 64 << 10
"""Of a body at once: between two pieces other requests have their turn."""


@dataclass(frozen=True, slots=True)
class UploadedImage:
    """Where a picture lies in the file of its request."""

    begin: int
    end: int
    content_digest: str


class ImageIntake:
    """Takes the pictures of one request, one after the other, at most `most` of them.

    Close it when all were read: their file is gone then, unless somebody holds a `Reference`.
    """

    def __init__(self, file: ReferenceFile, most: int) -> None:
        self._open_file: ReferenceFile | None = file
        self._most = most
        self._mark = f"data:image/koi;upload={secrets.token_hex(16)}"
        self._mark_of_one = re.compile(rf"{re.escape(self._mark)}/([0-9]+)")
        self._steps = StepBudget(MAX_REFERENCE_STEPS)
        self._images: list[UploadedImage] = []
        self._begin = 0
        self._hash = hashlib.sha256()

    @property
    def _file(self) -> ReferenceFile:
        if self._open_file is None:
            raise ValueError("the intake is closed")
        return self._open_file

    @property
    def has_images(self) -> bool:
        return bool(self._images)

    def close(self) -> None:
        self._open_file = None

    def announce(self, length: int) -> None:
        """A body of this length comes. Raises `GatewayOverloaded`."""
        self._file.announce(min(length, MAX_REFERENCES_BYTES))

    def begin(self) -> None:
        if len(self._images) >= self._most:
            raise too_many_error(self._most)
        self._begin, self._hash = self._file.size, hashlib.sha256()

    def add(self, data: bytes) -> None:
        """Raises `InvalidRequest` when the picture or all of them are too large."""
        size = self._file.size + len(data)
        if size - self._begin > MAX_REFERENCE_BYTES:
            raise InvalidRequest(
                "request_too_large",
                f"An image is larger than {MAX_REFERENCE_BYTES // MEGABYTE} MB. Nothing was "
                "charged; make it smaller.",
                param="image",
            )
        if size > MAX_REFERENCES_BYTES:
            raise _too_much_error()
        self._hash.update(data)
        self._file.add(data)

    def end(self) -> str:
        """The text that stands for the picture, for `find`."""
        self._images.append(UploadedImage(self._begin, self._file.size, self._hash.hexdigest()))
        return f"{self._mark}/{len(self._images) - 1}"

    async def flush(self) -> None:
        await self._file.flush()

    def stands_for_image(self, text: str) -> bool:
        return self._mark in text

    def name_contents(self, text: str) -> str:
        """The text with the digest of each picture in place of what stands for it, which is another
        one in every request: a repeat is told by what it holds."""
        return self._mark_of_one.sub(
            lambda found: f"data:image/koi;sha256={self._images[int(found[1])].content_digest}",
            text,
        )

    async def read(self, text: str) -> Reference | None:
        """The picture that a text stands for; None for any other text.

        Raises `InvalidRequest` when it is none, and `GatewayOverloaded`."""
        mark, _, number = text.rpartition("/")
        if mark != self._mark:
            return None
        image = self._images[int(number)]
        await self._file.flush(everything=True)
        content = self._file.span(image.begin, image.end)
        media_type = await self._file.examine(partial(check_image, content, self._steps))
        return Reference(image.content_digest, media_type=media_type, content=content)


def check_image(content: ByteSource, steps: StepBudget) -> str:
    """The media type of a whole picture that providers take, whatever its sender called it; reads
    it, which blocks, in at most so many steps. Raises `InvalidRequest`."""
    if content.size == 0:
        raise _bad_image_error("An image is empty.")
    media = detect_media(BufferedSource(content), steps)
    if media.extension not in REFERENCE_EXTENSIONS or media.width is None:
        raise _bad_image_error("An image is none of PNG, JPEG, WebP, GIF, BMP and TIFF.")
    if media.is_complete is False:
        raise _bad_image_error("An image is cut: it ends before its own end.")
    return media.media_type


async def receive_body(
    request: Request, take: Callable[[bytes], None], intake: ImageIntake
) -> None:
    """Give every piece of the body to `take`; what it adds to `intake` goes to the disk.

    Raises `InvalidRequest` when the body is too large or slow, or `take` does; `ClientDisconnect`;
    `GatewayOverloaded`. The client can read the refusal: the rest of its body is taken and dropped.
    """
    settings = get_edge_settings(request)
    most_bytes = MAX_BODY_BYTES + settings.max_body_bytes
    if get_content_length(request) > most_bytes:
        await discard_oversized(request)
        raise _too_much_error()
    pieces = BodyPieces(request)
    try:
        async with asyncio.timeout(settings.body_timeout_s) as deadline:
            end, clock = deadline.when() or 0.0, asyncio.get_running_loop().time
            intake.announce(get_content_length(request))
            while pieces.more:
                await _take_in_turns(await pieces.next(), take)
                if pieces.received > most_bytes:  # it had not said how long it is
                    raise _too_much_error()
                await intake.flush()
                deadline.reschedule(
                    upload_due_s(end, pieces.received, clock(), settings.body_timeout_s)
                )
    except TimeoutError:
        raise InvalidRequest(
            "request_timeout", "The request body did not arrive in time."
        ) from None
    except GatewayError:
        if pieces.more:
            await discard_upload(request)
        raise


async def _take_in_turns(piece: bytes, take: Callable[[bytes], None]) -> None:
    take(piece[:MAX_TAKEN_BYTES])
    for at in range(MAX_TAKEN_BYTES, len(piece), MAX_TAKEN_BYTES):
        await asyncio.sleep(0)
        take(piece[at : at + MAX_TAKEN_BYTES])


class BodyPieces:
    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self.received, self.more = 0, True

    async def next(self) -> bytes:
        """Raises `ClientDisconnect`."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        self.more = message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        self.received += len(piece)
        return piece


def _too_much_error() -> InvalidRequest:
    return InvalidRequest(
        "request_too_large",
        f"The images of a request are larger than {MAX_REFERENCES_BYTES // MEGABYTE} MB together. "
        "Nothing was charged.",
        param="image",
    )


def _bad_image_error(message: str) -> InvalidRequest:
    return InvalidRequest("invalid_value", f"{message} Nothing was charged.", param="image")
