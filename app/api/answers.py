"""The bodies of successful answers: images responses, tasks, and prepared JSON responses."""

import asyncio
import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from app.api.errors import error_object
from app.api.running import edge, exchange, running
from app.domain.errors import FailureNote, GenerationFailed, Overloaded
from app.domain.images import Picture, ResponseFormat
from app.domain.incomplete import incomplete
from app.domain.job import Job, TaskStatus
from app.domain.media import STORE_AWAY, ImageStoreUnavailable
from app.domain.ports import ImageStore

SLICE = 192 << 10
"""A multiple of three, so that slices of base64 join; more would hold up the event loop."""
COPIES = 4
"""How often the bytes of a base64 answer lie in memory while it is made, base64 being a third
longer."""

QUALITIES = {
    "standard": "medium",
    "hd": "high",
    **{name: name for name in ("low", "medium", "high", "xhigh", "max")},
}
"""Catalog quality -> the words a strictly validating SDK accepts (statement 34)."""
OUTPUT_FORMATS = {"image/jpeg": "jpeg", "image/png": "png", "image/webp": "webp"}
NO_USAGE = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}
"""Clients read token counts from every images response; the provider counts images."""
ALMOST = 99
"""Progress of a task that only waits for its pictures."""
PIXELS = re.compile(r"[0-9]+x[0-9]+", re.ASCII)
GONE = FailureNote(
    "image_unavailable", "The image was made, but its bytes are no longer stored.", charged=True
)

ANSWERS_TAKEN = (
    "Too many answers in base64 are being sent to this API key. The pictures are kept: repeat the "
    "request, it pays nothing more, or ask for links (response_format url)."
)


def json_response(
    content: bytes, headers: Mapping[str, str] | None = None, status: int = 200
) -> Response:
    return Response(content, status, headers, "application/json")


def origin_of(request: Request) -> str:
    """Where links point: the configured public URL, or the address the client used itself."""
    public = edge(request).public_url
    if public is not None:
        # People paste the base_url of their SDK.
        return public.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{request.scope['scheme']}://{request.headers.get('host', 'localhost')}"


def link(request: Request, picture: Picture) -> str:
    query = running(request).gateway.links.sign(picture.name)
    return f"{origin_of(request)}/v1/images/{picture.name}?{query}"


async def images_content(request: Request, job: Job, response_format: str) -> bytes:
    """An OpenAI images response as JSON bytes; see `picture_bodies` for what it may raise."""
    data = await _items(request, job, response_format)
    body = {"created": job.created_ms // 1000, "data": data, **traits(job), "usage": NO_USAGE}
    return orjson.dumps({**body, **shortfall(job)})


async def task_content(request: Request, job: Job) -> bytes:
    """A task as its caller asked for it: with base64 if that was in the `response_format`."""
    task = task_object(request, job)
    wanted = job.response_format
    if task["data"] is not None and wanted in (ResponseFormat.B64_JSON, ResponseFormat.BOTH):
        task["data"] = await _items(request, job, wanted)
    return orjson.dumps(task)


def traits(job: Job) -> dict[str, str]:
    """Size, quality and format as OpenAI names them; what has no such name is left out."""
    first = job.pictures[0]
    seen = f"{first.width}x{first.height}" if first.width and first.height else None
    size = job.size if PIXELS.fullmatch(job.size) else seen
    named = {
        "size": size,
        "quality": QUALITIES.get(job.quality),
        "output_format": OUTPUT_FORMATS.get(first.media_type),
    }
    return {name: value for name, value in named.items() if value is not None}


def shortfall(job: Job) -> dict[str, Any]:
    """`incomplete`, when fewer images came than were asked for."""
    missing = incomplete(job)
    return {} if missing is None else {"incomplete": missing}


def _collecting(job: Job) -> dict[str, Any]:
    """What is still on its way while no picture is shown yet."""
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


def linked_items(request: Request, pictures: Sequence[Picture]) -> list[dict[str, str]]:
    return [_item({"url": link(request, picture)}, picture) for picture in pictures]


async def picture_bodies(request: Request, job: Job) -> list[bytes]:
    """Every picture's bytes. Raises `Overloaded` while the image store is away (a repeat gets
    the same pictures), `TooManyWaiting` while the key has too many such answers under way, and
    `GenerationFailed` when bytes are gone for good."""
    await _answer_turn(request)
    store = running(request).gateway.pictures
    try:
        images = await asyncio.gather(*(store.get(picture.name) for picture in job.pictures))
    except ImageStoreUnavailable as error:
        raise Overloaded(STORE_AWAY) from error
    bodies = [image.body for image in images if image is not None]
    if len(bodies) != len(job.pictures):
        raise GenerationFailed(GONE, task_id=job.id)
    return bodies


async def _answer_turn(request: Request) -> None:
    """Wait until the key may be sent one more answer that holds its pictures."""
    record, turns = exchange(request), running(request).gateway.answers
    record.held.append(await turns.take(record.key_id or "", ANSWERS_TAKEN))


async def _items(request: Request, job: Job, response_format: str) -> orjson.Fragment:
    if response_format == ResponseFormat.URL:
        return orjson.Fragment(orjson.dumps(linked_items(request, job.pictures)))
    both = response_format == ResponseFormat.BOTH
    items = [
        _item({"url": link(request, picture)} if both else {}, picture) for picture in job.pictures
    ]
    await _answer_turn(request)
    gateway = running(request).gateway
    try:
        firsts = [await gateway.pictures.read(picture.name, 0, SLICE) for picture in job.pictures]
        if None in firsts:
            raise GenerationFailed(GONE, task_id=job.id)
        weight = COPIES * sum(first.size for first in firsts if first is not None)
        async with gateway.budget.share(weight):
            return orjson.Fragment(await _encoded(gateway.pictures, job, items))
    except ImageStoreUnavailable as error:
        raise Overloaded(STORE_AWAY) from error


async def _encoded(store: ImageStore, job: Job, items: Sequence[Mapping[str, str]]) -> bytes:
    """The items as JSON with their pictures, read and encoded slice by slice: base64 needs no
    escapes."""
    out = bytearray(b"[")
    for number, (picture, item) in enumerate(zip(job.pictures, items, strict=True)):
        out += b',{"b64_json":"' if number else b'{"b64_json":"'
        at, size = 0, 1
        while at < size:
            part = await store.read(picture.name, at, SLICE)
            if part is None or not part.body:
                raise GenerationFailed(GONE, task_id=job.id)
            out += base64.b64encode(part.body)
            at, size = at + len(part.body), part.size
        out += b'",' + orjson.dumps(item)[1:] if item else b'"}'
    return bytes(out + b"]")


def _item(places: dict[str, str], picture: Picture) -> dict[str, str]:
    """Where the picture is, and the prompt it was made from."""
    if picture.revised_prompt is None:
        return places
    return {**places, "revised_prompt": picture.revised_prompt}


def task_object(request: Request, job: Job) -> dict[str, Any]:
    """The same keys in every state (openai-compat study, section 6); pictures as links. Beside them
    `collecting` or `incomplete`, where the task is so."""
    done = job.status is TaskStatus.COMPLETED
    progress = ALMOST if job.status is TaskStatus.COLLECTING else job.progress
    return {
        "id": job.id,
        "object": "task",
        "status": job.status,
        "progress": 100 if done else progress,
        "created": job.created_ms // 1000,
        "model": job.model,
        "data": linked_items(request, job.pictures) if done else None,
        "error": None if job.failure is None else error_object(job.failure),
        **_collecting(job),
        **shortfall(job),
    }
