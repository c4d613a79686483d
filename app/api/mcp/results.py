"""What tools answer: text for the model, pictures that fit, links, and failures with Koi's codes.

`generate_image` has no `structuredContent`: Claude Code and Codex show a model that alone where it
is given, and drop the pictures beside it.
"""

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import orjson
from starlette.requests import Request

from app.api.errors import build_error_object, get_task_id
from app.api.mcp.messages import Json
from app.api.mcp.protocol import RESOURCE_LINKS_SINCE
from app.api.response_body import acquire_answer_permit, build_image_link, build_task_object
from app.api.state import get_access_record, get_app_state, get_edge_settings
from app.domain.errors import GatewayError, StillProcessing
from app.domain.images import Picture
from app.domain.job import Job, TaskStatus, find_shortfall
from app.domain.limits import TooManyWaiting
from app.domain.media import ImageSlice, ImageStoreUnavailable, PreviewSize
from app.domain.money import format_micros

SHOWN_MEDIA_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""Pictures that models are shown; others are links only."""
COPIES = 4
"""How often a picture is in memory at once while an answer with it is made and sent."""


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """For whom a result is made. `version` is the protocol's revision; `free` says that this caller
    pays nothing for the job; `adjusted` are arguments that were coerced."""

    request: Request
    version: str
    free: bool = False
    adjusted: tuple[str, ...] = ()


def build_text_result(content: Json) -> Json:
    """An object, both as text and as itself."""
    text = orjson.dumps(content, option=orjson.OPT_INDENT_2).decode()
    return {"content": [_text(text)], "structuredContent": content, "isError": False}


async def build_pictures_result(answer: ToolAnswer, job: Job) -> Json:
    """The pictures of a job that ended well: as many as fit, and a link to each."""
    shown = [block async for block in _show_pictures(answer.request, job.pictures)]
    lines = [*_describe_job(answer, job), *_describe_links(answer, job, len(shown))]
    content: list[Json] = [_text("\n".join(lines)), *shown]
    if answer.version >= RESOURCE_LINKS_SINCE:
        content += [_link(answer.request, picture) for picture in job.pictures]
    return {"content": content, "isError": False}


async def build_task_result(answer: ToolAnswer, job: Job) -> Json:
    """A task as GET /v1/tasks/{id} shows it; once it is completed also its pictures."""
    task: Json = {**build_task_object(answer.request, job)}
    if job.status is not TaskStatus.COMPLETED:
        return build_text_result(task)
    made = await build_pictures_result(answer, job)
    made["content"].insert(0, _text(orjson.dumps(task).decode()))
    return made


def build_failure_result(error: GatewayError, moderation_code: str, task_id: str | None) -> Json:
    """A failure as a model reads it. A job that goes on is none."""
    if isinstance(error, StillProcessing):
        going_on = (
            f"The task {error.task_id} goes on and is paid for once. Call get_task with this "
            "task_id and wait 25 until it is completed, or repeat this very call."
        )
        return {"content": [_text(going_on)], "isError": False}
    note = error.note
    told: Json = {**build_error_object(note, moderation_code)}
    told |= {"task_id": get_task_id(error) or task_id, "should_retry": note.retryable}
    if note.retryable and note.retry_after_s is not None:
        told["retry_after_s"] = note.retry_after_s
    text = _text(f"{told['code']}: {told['message']}")
    return {"content": [text], "structuredContent": {"error": told}, "isError": True}


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def _link(request: Request, picture: Picture) -> Json:
    return {
        "type": "resource_link",
        "uri": build_image_link(request, picture),
        "name": picture.name,
        "mimeType": picture.media_type,
    }


def _describe_job(answer: ToolAnswer, job: Job) -> list[str]:
    count = len(job.pictures)
    lines = [
        f"{count} picture{'s' if count > 1 else ''} by {job.model}, {job.size}, {job.quality}",
        f"task: {job.id}",
        f"cost: {_describe_cost(answer, job)}",
    ]
    if answer.adjusted:
        lines.append(f"adjusted to what the model offers: {', '.join(answer.adjusted)}")
    missing = find_shortfall(job)
    if missing is not None:
        lines.append(f"{missing.delivered} of {missing.asked} came: {missing.reason}")
    return lines


def _describe_cost(answer: ToolAnswer, job: Job) -> str:
    currency = get_app_state(answer.request).gateway.catalog.currency
    if answer.free:
        return f"{format_micros(0)} {currency}"
    if job.unit_micros is None:
        return "unknown"
    return f"{format_micros(job.billed * job.unit_micros)} {currency}"


def _describe_links(answer: ToolAnswer, job: Job, shown: int) -> list[str]:
    hours = get_edge_settings(answer.request).link_ttl_s // 3600
    lines = [f"links, valid for {hours} hours:"]
    lines += [build_image_link(answer.request, picture) for picture in job.pictures]
    if shown < len(job.pictures):
        lines.append("Pictures that are too large to be shown here are at their links.")
    return lines


async def _show_pictures(request: Request, pictures: Sequence[Picture]) -> AsyncIterator[Json]:
    """Pictures from the first on, while all together are small enough; none while memory is short
    or the image store is away: there are the links."""
    left = get_edge_settings(request).mcp_image_bytes
    record, gateway = get_access_record(request), get_app_state(request).gateway
    held = ExitStack()
    record.cleanups.append(held.close)
    if not left or not held.enter_context(gateway.budget.try_reserve(COPIES * left)):
        return
    try:
        await acquire_answer_permit(request)
    except TooManyWaiting:
        return
    for picture in pictures:
        found = await _read(request, picture.name, left) or await _preview(request, picture, left)
        if found is not None and found.media_type in SHOWN_MEDIA_TYPES:
            left -= found.size
            data = base64.b64encode(found.body).decode()
            yield {"type": "image", "data": data, "mimeType": found.media_type}


async def _preview(request: Request, picture: Picture, most: int) -> ImageSlice | None:
    """A smaller copy of a picture that is too large, where the extra `thumbnails` makes such."""
    made = await get_app_state(request).gateway.previews.open(picture.name, PreviewSize.MEDIUM)
    return None if made is None else await _read(request, made[0], most)


async def _read(request: Request, name: str, most: int) -> ImageSlice | None:
    """A whole picture; None when it is not there or has more bytes."""
    if not most:
        return None
    try:
        found = await get_app_state(request).gateway.pictures.read(name, 0, most)
    except ImageStoreUnavailable:
        return None
    return None if found is None or len(found.body) < found.size else found
