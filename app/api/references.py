"""Reference images of a request: which fields hold them, what a model takes of them, and the
request with them."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request

from app.api.data_uris import DataUriExtractor, take_data_uri
from app.api.form import FormReader
from app.api.image_inputs import (
    ImageInput,
    is_blank,
    reject_image_inputs,
    take_references,
)
from app.api.image_uploads import ImageIntake, receive_body
from app.api.request import ParsedRequest
from app.api.request_body import (
    canonical_json,
    check_content_encoding,
    check_json_headers,
    get_content_length,
    parse_json_object,
    read_json,
)
from app.api.request_fields import SUPPORTED_FIELDS
from app.api.state import get_access_record, get_app_state, get_edge_settings
from app.domain.errors import InvalidRequest
from app.domain.images import digest
from app.domain.references import Reference, refer_to

MAX_URL_CHARS = 8192
WRAPPERS = ("image_url", "url")
"""Keys under which an object holds the URL of its picture, in OpenAI's and xAI's APIs."""


@dataclass(frozen=True, slots=True)
class ReceivedOrder:
    """A body without its reference images, and these as they were written."""

    body: Mapping[str, Any]
    inputs: tuple[ImageInput, ...] = ()
    intake: ImageIntake | None = field(default=None, repr=False)


ReadOrder = Callable[[Request], Awaitable[ReceivedOrder]]
"""Receives the body of a request that orders pictures. Raises as `receive_body` does."""


async def read_generation(request: Request) -> ReceivedOrder:
    """A JSON body. Long ones are taken only where some model takes reference images."""
    settings = get_edge_settings(request)
    if not settings.max_references:
        return ReceivedOrder(await read_json(request))
    is_long = get_content_length(request) > settings.max_body_bytes
    if is_long or "transfer-encoding" in request.headers:
        return await read_long_json(request)
    return separate(await read_json(request), open_intake(request))


async def read_long_json(request: Request) -> ReceivedOrder:
    check_json_headers(request)
    intake = open_intake(request)
    extractor = DataUriExtractor(intake, get_edge_settings(request).max_body_bytes)
    await receive_body(request, extractor.feed, intake)
    return separate(parse_json_object(bytes(extractor.rest)), intake)


async def read_form(request: Request) -> ReceivedOrder:
    check_content_encoding(request)
    intake = open_intake(request)
    form = FormReader(request, intake, get_edge_settings(request).max_body_bytes)
    await receive_body(request, form.feed, intake)
    return separate(form.finish(), intake)


def open_intake(request: Request) -> ImageIntake:
    record = get_access_record(request)
    file = get_app_state(request).gateway.references.open(record.user or "")
    intake = ImageIntake(file, get_edge_settings(request).max_references)
    record.cleanups.append(intake.close)
    return intake


def separate(body: dict[str, Any], intake: ImageIntake) -> ReceivedOrder:
    """Raises `InvalidRequest` when a picture stands where only text is read."""
    rest, inputs = take_references(body)
    if not intake.has_images:
        return ReceivedOrder(rest, inputs, intake)
    for name in SUPPORTED_FIELDS.intersection(rest):
        value = rest[name]
        if isinstance(value, str) and intake.stands_for_image(value):
            raise InvalidRequest("invalid_value", f"{name} must not be an image.", param=name)
    text = canonical_json(rest)
    if intake.stands_for_image(text):
        rest = json.loads(intake.name_contents(text))
    return ReceivedOrder(rest, inputs, intake)


async def attach_references(parsed: ParsedRequest, order: ReceivedOrder) -> ParsedRequest:
    """The request with its reference images. Repeats are told by their contents, too.

    Raises `InvalidRequest` for what is no picture, and `GatewayOverloaded`."""
    if not order.inputs or order.intake is None:
        return parsed
    found = [await _read_input(given, order.intake) for given in order.inputs]
    order.intake.close()
    request = replace(parsed.ask.request, references=tuple(found))
    keys = parsed.ask.dedup_keys
    body = digest(keys.body, *(reference.content_digest for reference in found))
    ask = replace(parsed.ask, request=request, dedup_keys=replace(keys, body=body))
    return replace(parsed, ask=ask)


async def _read_input(given: ImageInput, intake: ImageIntake) -> Reference:
    value = given.value
    for _ in WRAPPERS:
        if isinstance(value, dict):
            value = _unwrap(value, given.name)
    if not isinstance(value, str):
        raise _unreadable_error(given.name)
    text = take_data_uri(value, intake) or value.strip()
    reference = await intake.read(text)
    if reference is not None:
        return reference
    if not text.lower().startswith("https://") or len(text) > MAX_URL_CHARS or not text.isascii():
        raise _unreadable_error(given.name)
    if not text.isprintable() or " " in text:
        raise _unreadable_error(given.name)
    return refer_to(text)


def _unwrap(wrapper: dict[str, Any], name: str) -> Any:
    """What an object holds under one of its keys. Another picture beside it, as a mask of this one,
    would be ignored and paid for. Raises `InvalidRequest`."""
    given = [key for key in WRAPPERS if not is_blank(wrapper.get(key))]
    if len(given) != 1:
        raise _unreadable_error(name)
    reject_image_inputs(wrapper, given, takes_references=True)
    return wrapper[given[0]]


def _unreadable_error(name: str) -> InvalidRequest:
    return InvalidRequest(
        "invalid_value",
        f"{name} must hold images: files of a form, data URIs with base64, or https URLs that the "
        "provider can open. Nothing was charged.",
        param=name,
    )
