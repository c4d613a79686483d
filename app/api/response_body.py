"""The bodies of successful answers: images responses, tasks, and prepared JSON responses."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.errors import build_error_object
from app.api.image_stream import OpenedImage, build_body_message, open_image, send_image_base64
from app.api.state import get_access_record, get_app_state, get_edge_settings
from app.api.whole_response import WholeResponse, describe_body, send_whole
from app.api.wire import (
    NO_USAGE,
    CollectingObject,
    ImageItem,
    ImagesBody,
    IncompleteObject,
    TaskObject,
)
from app.domain.images import Picture, ResponseFormat
from app.domain.job import Job, TaskStatus, find_shortfall
from app.domain.ports import ImageLinks
from app.domain.task_words import CHINESE, ENGLISH, summarize

LinkTo = Callable[[Picture], str]

PLACEHOLDER = b"\0"
JSON_PLACEHOLDER: Any = orjson.Fragment(b'"\0"')
"""Where a picture goes in prepared JSON: a byte that JSON itself never holds."""

QUALITIES = {
    "standard": "medium",
    "hd": "high",
    **{name: name for name in ("low", "medium", "high", "xhigh", "max")},
}
"""Catalog quality -> the words that a strictly validating SDK accepts."""
OUTPUT_FORMATS = {"image/jpeg": "jpeg", "image/png": "png", "image/webp": "webp"}
MAX_OPEN_PROGRESS = 99
"""Progress of a task that only waits for its pictures."""
PIXEL_SIZE = re.compile(r"[0-9]+x[0-9]+", re.ASCII)
TOO_MANY_ANSWERS = (
    "Too many answers in base64 are being sent to this API key. The pictures are kept: repeat the "
    "request, it pays nothing more, or ask for links (response_format url)."
)


class ImageFacts(TypedDict, total=False):
    size: str
    quality: str
    output_format: str


class IncompleteFact(TypedDict, total=False):
    incomplete: IncompleteObject


class TagFact(TypedDict, total=False):
    tag: str


class CollectingFact(TypedDict, total=False):
    collecting: CollectingObject


def json_response(
    content: bytes, headers: Mapping[str, str] | None = None, status: int = 200
) -> Response:
    return WholeResponse(content, status, headers)


class JsonImagesResponse(Response):
    """JSON with pictures in base64, which are read and encoded while they are sent.

    It is sent in three steps: `send_start` the status, `send_images` the pictures, and `send_end`
    the last bytes, without which it is no JSON.
    """

    def __init__(
        self,
        request: Request,
        text: bytes,
        pictures: Sequence[OpenedImage] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        *self.texts, self.tail = text.split(PLACEHOLDER)
        self.request, self.pictures = request, pictures
        size = len(text) - len(pictures) + sum(picture.encoded_size for picture in pictures)
        self.raw_headers = describe_body(headers or {}, size, "application/json")
        self.background = None

    async def send_start(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)

    async def send_images(self, send: Send) -> None:
        """Raises `ClientDisconnect`, see `send_image`."""
        if self.request.method == "HEAD":
            return
        for text, picture in zip(self.texts, self.pictures, strict=True):
            await send(build_body_message(text))
            await send_image_base64(self.request, send, picture)

    async def send_end(self, send: Send) -> None:
        await send(build_body_message(self.tail, more=False))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        if not self.pictures:
            await send_whole(scope, send, 200, self.raw_headers, self.tail)
            return
        await self.send_start(send)
        await self.send_images(send)
        await self.send_end(send)


def get_public_origin(request: Request) -> str:
    """Where links point: the configured public URL, or the address that the client used."""
    public = get_edge_settings(request).public_url
    if public is not None:
        # Operators paste the base_url of their SDK, which ends in /v1.
        return public.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{request.scope['scheme']}://{request.headers.get('host', 'localhost')}"


def build_image_link(request: Request, picture: Picture) -> str:
    return sign_image_link(
        get_app_state(request).gateway.links, get_public_origin(request), picture
    )


def sign_image_link(links: ImageLinks, origin: str, picture: Picture) -> str:
    return f"{origin}/v1/images/{picture.name}?{links.sign(picture.name)}"


async def build_images_response(
    request: Request, job: Job, response_format: str, headers: Mapping[str, str]
) -> JsonImagesResponse:
    """An OpenAI images response; see `_open_images` for what it may raise."""
    encoded = response_format != ResponseFormat.URL
    body: ImagesBody = {
        "created": job.created_ms // 1000,
        "data": _build_items(partial(build_image_link, request), job.pictures, response_format),
        **describe_image(job),
        "usage": NO_USAGE,
        **describe_incomplete(job),
    }
    pictures = await _open_images(request, job, job.pictures) if encoded else ()
    return JsonImagesResponse(request, orjson.dumps(body), pictures, headers)


async def build_task_response(
    request: Request, job: Job, headers: Mapping[str, str]
) -> JsonImagesResponse:
    """A task as its caller asked for it: with base64 if that was in the `response_format`."""
    task = build_task_object(request, job)
    wanted = job.response_format
    pictures: tuple[OpenedImage, ...] = ()
    if task["data"] is not None and wanted in (ResponseFormat.B64_JSON, ResponseFormat.BOTH):
        shown = job.pictures_left if _is_owner(request, job) else job.pictures
        task["data"] = _build_items(partial(build_image_link, request), shown, wanted)
        pictures = await _open_images(request, job, shown)
    return JsonImagesResponse(request, orjson.dumps(task), pictures, headers)


def describe_image(job: Job) -> ImageFacts:
    """Size, quality and format in OpenAI's words; what has no such word is left out."""
    first = job.pictures[0]
    seen = f"{first.width}x{first.height}" if first.width and first.height else None
    size = job.size if PIXEL_SIZE.fullmatch(job.size) else seen
    facts: ImageFacts = {}
    if size is not None:
        facts["size"] = size
    if (quality := QUALITIES.get(job.quality)) is not None:
        facts["quality"] = quality
    if (output_format := OUTPUT_FORMATS.get(first.media_type)) is not None:
        facts["output_format"] = output_format
    return facts


def describe_incomplete(job: Job) -> IncompleteFact:
    """What is missing, when fewer images came than were asked for."""
    missing = find_shortfall(job)
    if missing is None:
        return {}
    return {
        "incomplete": {
            "asked": missing.asked,
            "delivered": missing.delivered,
            "pending": missing.pending,
            "reason": missing.reason,
        }
    }


def _describe_collecting(job: Job) -> CollectingFact:
    """What is still to be downloaded while no picture is shown yet."""
    if job.status is not TaskStatus.COLLECTING:
        return {}
    so_far = job.collecting
    return {
        "collecting": {
            "missing": len(job.pending),
            "tries": 0 if so_far is None else so_far.tries,
            "last_error": None if so_far is None else so_far.last_error,
        }
    }


def _build_items(
    link: LinkTo, pictures: Sequence[Picture], response_format: str | None
) -> list[ImageItem]:
    """Where each picture is, and the prompt it was made from."""
    items: list[ImageItem] = []
    for picture in pictures:
        item: ImageItem = {}
        if response_format != ResponseFormat.URL:
            item["b64_json"] = JSON_PLACEHOLDER
        if response_format != ResponseFormat.B64_JSON:
            item["url"] = link(picture)
        if picture.revised_prompt is not None:
            item["revised_prompt"] = picture.revised_prompt
        items.append(item)
    return items


async def _open_images(
    request: Request, job: Job, pictures: Sequence[Picture]
) -> tuple[OpenedImage, ...]:
    """Pictures of a job. Raises as `open_image` does, and `TooManyWaiting` while the key has too
    many such answers under way."""
    await acquire_answer_permit(request)
    return tuple([await open_image(request, picture.name, job.id) for picture in pictures])


async def acquire_answer_permit(request: Request) -> None:
    """Wait until the key may be sent one more answer that holds its pictures."""
    record, permits = get_access_record(request), get_app_state(request).gateway.answers
    record.cleanups.append(await permits.take(record.key_id or "", TOO_MANY_ANSWERS))


def build_task_object(request: Request, job: Job) -> TaskObject:
    """A task for whoever asks, in their language (RFC 9110, section 12.5.4): English or Chinese."""
    first = request.headers.get("accept-language", "").strip().lower()
    language = CHINESE if first.startswith(CHINESE) else ENGLISH
    link = partial(build_image_link, request)
    return describe_task(job, link, language, for_owner=_is_owner(request, job))


def _is_owner(request: Request, job: Job) -> bool:
    """Whether the task is the caller's own, and not one of a shared pool."""
    return get_access_record(request).user == job.user


def describe_task(
    job: Job, link: LinkTo, language: str = ENGLISH, *, for_owner: bool = True
) -> TaskObject:
    """The same keys in every state, pictures as links; beside them `collecting` while pictures are
    downloaded, and `incomplete` when some are missing. Its owner sees no picture they deleted."""
    shown = job.pictures_left if for_owner else job.pictures
    done = job.status is TaskStatus.COMPLETED
    progress = MAX_OPEN_PROGRESS if job.status is TaskStatus.COLLECTING else job.progress
    return {
        "id": job.id,
        "object": "task",
        "status": job.status,
        "progress": 100 if done else progress,
        "created": job.created_ms // 1000,
        "model": job.model,
        "summary": summarize(job, language),
        "data": _build_items(link, shown, ResponseFormat.URL) if done else None,
        "error": None if job.failure is None else build_error_object(job.failure),
        **_describe_collecting(job),
        **describe_incomplete(job),
        **_describe_tag(job),
    }


def _describe_tag(job: Job) -> TagFact:
    """The word by which its caller wants to find it again."""
    if job.attribution is None or job.attribution.tag is None:
        return {}
    return {"tag": job.attribution.tag}
