"""The provider's documented answers, read directly: a task that runs, or images.

Most answers are these, to the letter. Whatever differs in anything (an unknown key, a key twice,
JSON that is not quite JSON) is left to the tolerant reader in `wire`, which means the same for all
that is read here. A test compares the two.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.adapters.upstream.image_extraction import (
    MAX_IMAGES,
    MIN_IMAGE_BYTES,
    find_in_item,
    find_revised_prompt,
)
from app.adapters.upstream.wire import ProviderReply, ReplyParser
from app.domain.images import ProviderImage
from app.domain.job import TaskStatus
from app.domain.media import BASE64_SLICE_CHARS, decode_base64_slices
from app.domain.upstream import TaskImages, TaskPending, UpstreamAnswer
from app.domain.upstream_ids import is_task_id

MAX_SMALL_BYTES = 64 << 10
"""A longer answer holds pictures, which are cut out before it is parsed as JSON."""
MAX_CREATED = 10**15

TASK_KEYS = frozenset({"id", "status", "progress"})
IMAGES_KEYS = TASK_KEYS | {"created", "data"}
ITEM_KEYS = frozenset({"url", "b64_json", "revised_prompt"})
RUNNING = {"queued": TaskStatus.QUEUED, "processing": TaskStatus.PROCESSING}
RUNNING_TASK = re.compile(
    rb'[ \t\r\n]*+{[ \t\r\n]*+"id"[ \t\r\n]*+:[ \t\r\n]*+"([A-Za-z0-9_-][A-Za-z0-9_.-]{0,127})"'
    rb'[ \t\r\n]*+,[ \t\r\n]*+"status"[ \t\r\n]*+:[ \t\r\n]*+"(queued|processing)"[ \t\r\n]*+'
    rb'(?:,[ \t\r\n]*+"progress"[ \t\r\n]*+:[ \t\r\n]*+(0|[1-9][0-9]?|100)[ \t\r\n]*+)?}[ \t\r\n]*+'
)
"""What nearly every poll is answered."""
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
BASE64_KEY = b'"b64_json"'
BASE64_START = re.compile(rb'"b64_json"[ \t\r\n]*+:[ \t\r\n]*+"')


class _Undocumented(Exception):
    """Something is not as documented."""


@dataclass(frozen=True, slots=True)
class AnswerReader:
    """Turns replies into answers as the tolerant `ReplyParser` does, the usual ones faster."""

    tolerant: ReplyParser

    def read_submit(self, reply: ProviderReply, prompt: str) -> UpstreamAnswer:
        """See `ReplyParser.parse_submit_reply`."""
        return self._read(reply) or self.tolerant.parse_submit_reply(reply, prompt)

    def read_poll(self, reply: ProviderReply, upstream_id: str) -> UpstreamAnswer:
        """See `ReplyParser.parse_poll_reply`."""
        answer = self._read(reply)
        if isinstance(answer, TaskPending) and answer.upstream_id != upstream_id:
            return replace(answer, upstream_id=upstream_id)
        return answer or self.tolerant.parse_poll_reply(reply, upstream_id)

    def _read(self, reply: ProviderReply) -> UpstreamAnswer | None:
        if reply.body is None or not 200 <= reply.status < 300:
            return None
        return read_documented(reply.body, self.tolerant.site)


def read_documented(body: bytes | bytearray, site: str) -> UpstreamAnswer | None:
    """A task or images; None for anything else. `site` as for `extract_images`."""
    running = RUNNING_TASK.fullmatch(body)
    if running is not None:
        return _read_running(*running.groups())
    try:
        if len(body) <= MAX_SMALL_BYTES:
            return _read(_parse(bytes(body)), site, ())
        cut = _cut_base64(body)
        pictures = [_decode(body, place) for place in cut.places]
        return _read(_parse(cut.rest), site, pictures)
    except (_Undocumented, ValueError, RecursionError):
        return None


def _read_running(id: bytes, status: bytes, progress: bytes | None) -> TaskPending:
    done = None if progress is None else min(int(progress), 99)
    return TaskPending(id.decode(), RUNNING[status.decode()], done)


def _read(
    fields: Mapping[str, Any], site: str, pictures: Sequence[bytes | bytearray]
) -> TaskPending | TaskImages | None:
    keys = fields.keys()
    name, status, progress = fields.get("id"), fields.get("status"), fields.get("progress")
    if progress is not None and (type(progress) is not int or not 0 <= progress <= 100):
        return None
    if keys <= TASK_KEYS:
        known = RUNNING.get(status) if isinstance(status, str) else None
        if known is None or not isinstance(name, str) or not is_task_id(name):
            return None
        return TaskPending(name, known, None if progress is None else min(progress, 99))
    if not keys <= IMAGES_KEYS or status not in (None, "completed"):
        return None
    created = fields.get("created", 0)
    if type(created) is not int or not 0 <= created < MAX_CREATED:
        return None
    if name is not None and not isinstance(name, str):
        return None
    images = tuple(_images(fields.get("data"), site, pictures))
    return TaskImages(images) if images else None


def _images(
    items: Any, site: str, pictures: Sequence[bytes | bytearray]
) -> Iterator[ProviderImage]:
    if not isinstance(items, list) or len(items) > MAX_IMAGES:
        raise _Undocumented
    used = 0
    for item in items:
        if not isinstance(item, dict) or not item.keys() <= ITEM_KEYS:
            raise _Undocumented
        if not all(value is None or isinstance(value, str) for value in item.values()):
            raise _Undocumented
        if pictures and item.get("b64_json") is not None:
            if used == len(pictures) or item["b64_json"] != _mark(used):
                raise _Undocumented
            yield ProviderImage(body=pictures[used], revised_prompt=find_revised_prompt(item))
            used += 1
        else:
            yield from find_in_item(item, site, 2)
    if used != len(pictures):
        raise _Undocumented


def _parse(body: bytes) -> dict[str, Any]:
    """An object as every JSON reader takes it. Raises `_Undocumented`, `ValueError`."""
    text = body.decode()
    if SURROGATE_ESCAPE.search(text) is not None:
        raise _Undocumented
    value = _STRICT.decode(text)
    if not isinstance(value, dict):
        raise _Undocumented
    return value


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise _Undocumented
    return fields


def _refuse(_constant: str) -> None:
    raise _Undocumented


_STRICT = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse)


@dataclass(frozen=True, slots=True)
class _CutReply:
    """A reply without the base64 in it: `rest` has marks instead; `places` are begin and end."""

    rest: bytes
    places: Sequence[tuple[int, int]]


def _mark(number: int) -> str:
    return f"@{number}"


def _cut_base64(body: bytes | bytearray) -> _CutReply:
    """Take each text of a `b64_json` out of a reply. That the rest is JSON, with the marks where
    pictures belong, shows that these really were such texts."""
    rest: list[bytes] = []
    places: list[tuple[int, int]] = []
    at = 0
    while (key := body.find(BASE64_KEY, at)) >= 0:
        start = BASE64_START.match(body, key)
        if start is None:
            rest.append(bytes(body[at : key + len(BASE64_KEY)]))
            at = key + len(BASE64_KEY)
            continue
        begin, end = start.end(), body.find(b'"', start.end())
        if end < 0 or len(places) == MAX_IMAGES:
            raise _Undocumented
        rest += [bytes(body[at:begin]), _mark(len(places)).encode()]
        places.append((begin, end))
        at = end
    rest.append(bytes(body[at:]))
    if not places or sum(map(len, rest)) > MAX_SMALL_BYTES:
        raise _Undocumented
    return _CutReply(b"".join(rest), places)


def _decode(body: bytes | bytearray, place: tuple[int, int]) -> bytes | bytearray:
    """Raises `_Undocumented` for what is no plain base64, or would be no JSON."""

    def slices() -> Iterator[bytes]:
        begin, end = place
        for at in range(begin, end, BASE64_SLICE_CHARS):
            part = bytes(body[at : min(at + BASE64_SLICE_CHARS, end)])
            if any(sign in part for sign in (b"\\", b"\t", b"\r", b"\n")):
                raise _Undocumented
            yield part
            time.sleep(0)  # when this runs in a thread, the others get their turn

    picture = decode_base64_slices(slices())
    if picture is None or len(picture) < MIN_IMAGE_BYTES:
        raise _Undocumented
    return picture
