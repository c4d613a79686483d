"""The fast reader of documented answers means what the tolerant one means, whatever comes."""

import asyncio
import base64
import binascii
import json
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.adapters.upstream.documented import MAX_SMALL_BYTES, AnswerReader, read_documented
from app.adapters.upstream.error_mapping import ErrorMapper, MessageSanitizer
from app.adapters.upstream.image_extraction import PLAIN_LINK
from app.adapters.upstream.wire import ProviderReply, ReplyParser
from app.domain.errors import UpstreamError
from app.domain.media import decode_base64, strip_data_uri
from app.domain.upstream import PollInconclusive, TaskImages, TaskPending
from tests.adapters.upstream_script import DONE, KOI, LINK, TASK, reply, scripted

SITE = "https://provider.example/v1/"
PICTURE = b"\x89PNG\r\n\x1a\n" + os.urandom(90_000)
DIGITS = base64.b64encode(PICTURE).decode()
LONG = base64.b64encode(os.urandom(400_001)).decode()


def readers() -> tuple[AnswerReader, ReplyParser, list[str]]:
    observed: list[str] = []
    parser = ReplyParser(SITE, ErrorMapper(MessageSanitizer(())), lambda: 0.0, observed.append)
    return AnswerReader(parser), parser, observed


def meaning(read: Callable[[], object], observed: list[str]) -> object:
    observed.clear()
    try:
        meant: object = read()
    except UpstreamError as error:
        meant = ("failed", error.reason, error.message, error.proof)
    except PollInconclusive as trouble:
        meant = ("unclear", str(trouble), trouble.missing, trouble.empty, trouble.throttled)
    return meant, tuple(observed)


def agree(body: bytes, status: int = 200) -> None:
    fast, tolerant, observed = readers()
    reply = ProviderReply(status, {}, body)
    assert meaning(lambda: fast.read_submit(reply, "koi"), observed) == meaning(
        lambda: tolerant.parse_submit_reply(reply, "koi"), observed
    )
    assert meaning(lambda: fast.read_poll(reply, "task_0"), observed) == meaning(
        lambda: tolerant.parse_poll_reply(reply, "task_0"), observed
    )


def dumped(body: Any) -> bytes:
    return json.dumps(body).encode()


DOCUMENTED: dict[str, Any] = {
    "queued": {"id": TASK, "status": "queued", "progress": 0},
    "processing": {"id": TASK, "status": "processing", "progress": 100},
    "without progress": {"id": TASK, "status": "processing"},
    "keys in another order": {"progress": 7, "status": "queued", "id": TASK},
    "id with dots": {"id": "a.b..c", "status": "queued", "progress": 10},
    "id of words": {"id": "鲤 /?", "status": "queued"},
    "no progress yet": {"id": TASK, "status": "queued", "progress": None},
    "images": DONE,
    "without prompt": {"created": 1, "data": [{"url": LINK}]},
    "several": {"created": 1, "data": [{"url": f"{LINK}?{n}"} for n in range(10)]},
    "ended task": {"id": TASK, "status": "completed", "progress": 100, **DONE},
    "small picture": {"created": 1, "data": [{"b64_json": DIGITS[:4000]}]},
    "picture": {"created": 1, "data": [{"b64_json": DIGITS, "revised_prompt": "鲤 \n"}]},
    "pictures": {"created": 1, "data": [{"b64_json": DIGITS}, {"url": LINK}, {"b64_json": LONG}]},
}


@pytest.mark.parametrize("row", DOCUMENTED)
def test_a_documented_answer_is_read_directly_and_means_the_same(row: str) -> None:
    body = dumped(DOCUMENTED[row])

    assert isinstance(read_documented(body, SITE), TaskPending | TaskImages)
    agree(body)
    agree(bytes(bytearray(body)), 202)


ODD: dict[str, bytes] = {
    "extra key": dumped({**DONE, "code": 0}),
    "failed": dumped({"id": TASK, "status": "failed", "error": {"code": "x", "message": "no"}}),
    "unknown word": dumped({"id": TASK, "status": "pondering"}),
    "another case": dumped({"id": TASK, "status": "Queued"}),
    "id of dots": dumped({"id": "..", "status": "queued"}),
    "number as id": dumped({"id": 7, "status": "queued"}),
    "true as progress": dumped({"id": TASK, "status": "queued", "progress": True}),
    "share as progress": dumped({"id": TASK, "status": "queued", "progress": 0.5}),
    "progress of 200": dumped({"id": TASK, "status": "queued", "progress": 200}),
    "progress of 101": dumped({"id": TASK, "status": "queued", "progress": 101}),
    "progress with a zero before it": b'{"id":"a","status":"queued","progress":07}',
    "blanks": b' {\r\n\t"id" : "a" ,\n"status" :"queued" , "progress": 7 }\n',
    "a blank that JSON has not": b'{"id":"a",\v"status":"queued"}',
    "id of one dot": b'{"id":".","status":"processing"}',
    "id that begins with a dot": b'{"id":".a","status":"processing"}',
    "id of 600": dumped({"id": "a" * 600, "status": "queued"}),
    "no data": dumped({"created": 1}),
    "empty data": dumped({"created": 1, "data": []}),
    "data of texts": dumped({"data": [LINK]}),
    "one item is none": dumped({"data": [{"url": LINK}, None]}),
    "links that are none": dumped({"data": [{"url": "javascript:x"}, {"url": "a b"}, {"url": ""}]}),
    "link of a list": dumped({"data": [{"url": [LINK]}]}),
    "101 items": dumped({"data": [{"url": f"{LINK}?{n}"} for n in range(101)]}),
    "huge created": b'{"created":' + b"9" * 4100 + b',"data":[{"url":"' + LINK.encode() + b'"}]}',
    "key twice": b'{"id":"a","id":"b","status":"queued"}',
    "key twice by escape": b'{"data":[],"d\\u0061ta":[{"url":"' + LINK.encode() + b'"}]}',
    "nan": b'{"created":NaN,"data":[{"url":"' + LINK.encode() + b'"}]}',
    "text behind": dumped(DONE) + b" x",
    "blank behind": dumped(DONE) + b" \r\n",
    "bom": b"\xef\xbb\xbf" + dumped(DONE),
    "surrogate": b'{"data":[{"url":"' + LINK.encode() + b'","revised_prompt":"\\uD83d"}]}',
    "emoji by escape": dumped({"data": [{"url": LINK, "revised_prompt": "\U0001f38f"}]}),
    "emoji": '{"data":[{"url":"https://a/b.png","revised_prompt":"\U0001f38f"}]}'.encode(),
    "no utf-8": b'{"data":[{"url":"' + LINK.encode() + b'","revised_prompt":"\xff"}]}',
    "control": b'{"data":[{"url":"' + LINK.encode() + b'","revised_prompt":"a\tb"}]}',
    "cut": dumped(DONE)[:-3],
    "nothing": b"",
    "list": b"[]",
    "text": b'"queued"',
}  # fmt: skip


@pytest.mark.parametrize("row", ODD)
@pytest.mark.parametrize("status", [200, 400])
def test_an_odd_answer_means_what_the_tolerant_reader_says(row: str, status: int) -> None:
    agree(ODD[row], status)


def picture_reply(digits: bytes, **more: Any) -> bytes:
    rest = "".join(f',"{key}":{json.dumps(value)}' for key, value in more.items())
    return b'{"created":1,"data":[{"b64_json":"' + digits + b'"' + rest.encode() + b"}]}"


@pytest.mark.parametrize(
    "body",
    [
        picture_reply(LONG.encode()),
        picture_reply(LONG.encode().rstrip(b"=")),
        picture_reply(LONG.encode() + b"===="),
        picture_reply(LONG.replace("+", "-").replace("/", "_").encode()),
        picture_reply(b" " + LONG.encode() + b" "),
        picture_reply(LONG.encode() + b"A"),
        picture_reply(LONG.encode() + b"=A"),
        picture_reply(b"=" + LONG.encode()),
        picture_reply(LONG[:196608].encode() + b"==" + LONG[196610:].encode()),
        picture_reply(LONG.encode() + b"\\n"),
        picture_reply(LONG.encode() + b"\n"),
        picture_reply(LONG.encode() + b"\t"),
        picture_reply(LONG.encode() + b"\x00"),
        picture_reply(LONG.encode() + b"\xc3\xa9"),
        picture_reply(LONG.replace("/", "\\/").encode()),
        picture_reply(b"data:image/png;base64," + LONG.encode()),
        picture_reply(LONG.encode(), url=LINK, revised_prompt='say "b64_json":"@0"'),
        picture_reply(LONG.encode(), revised_prompt="b64_json"),
        picture_reply(LONG.encode(), other=LONG),
        picture_reply(LONG.encode(), b64_json="@0"),
        picture_reply(LONG.encode())[:-1],
        picture_reply(LONG.encode())[:-5],
        picture_reply(b"AAAA", url=LINK, revised_prompt="x" * MAX_SMALL_BYTES),
        picture_reply(b"", revised_prompt="x" * MAX_SMALL_BYTES),
        picture_reply(b"1" * 100_000),
        b'{"created":1,"data":[{"b64_json":' + b"1" * 100_000 + b"}]}",
        b'{"data":[{"b64_json":null,"url":"' + LINK.encode() + b'"},{"b64_json":"'
        + LONG.encode() + b'"}]}',
        b'{"data":[{"b64_json" : "' + LONG.encode() + b'"},{"b64\\u005fjson":"@0"}]}',
        b'{"data":[{"b64_json":"' + LONG.encode() + b'"}],"id":"b64_json"}',
        b'{"b64_json":"' + LONG.encode() + b'","data":[{"b64_json":"@0"}]}',
        b'{"data":[{"b64_json":"@1"},{"b64_json":"' + LONG.encode() + b'"}]}',
        b'{"data":[{"url":"@0"},{"b64_json":"' + LONG.encode() + b'"}]}',
        dumped({"data": [{"b64_json": DIGITS}] * 101}),
    ],
)  # fmt: skip
def test_a_picture_in_an_answer_is_cut_out_only_where_it_changes_nothing(body: bytes) -> None:
    agree(body)


@settings(max_examples=100, deadline=None)
@given(st.from_regex(PLAIN_LINK, fullmatch=True))
@example("https://a/b/../c")
@example("https://a//b")
@example("https://a:99999/?a=b?c")
def test_a_plain_link_is_one_that_resolving_leaves_as_it_is(link: str) -> None:
    assert urljoin(SITE, link) == link
    assert urljoin("http://127.0.0.1:9/v1/", link) == link
    assert urlsplit(link).hostname


VALUES = (
    st.none() | st.integers() | st.booleans() | st.floats(allow_nan=True)
    | st.sampled_from([LINK, "queued", "processing", "completed", "/a.png", "", TASK, DIGITS[:400]])
    | st.text(max_size=8)
)  # fmt: skip
ITEMS = st.dictionaries(
    st.sampled_from(["url", "b64_json", "revised_prompt", "block_reason", "data"]),
    VALUES,
    max_size=3,
)
BODIES = st.dictionaries(
    st.sampled_from(["id", "status", "progress", "created", "data", "error", "task_id"]),
    VALUES | st.lists(ITEMS | VALUES, max_size=3) | ITEMS,
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(body=BODIES, indent=st.sampled_from([None, 1]), junk=st.sampled_from([b"", b"\n", b"{}"]))
@example(body={"id": TASK, "status": "queued", "progress": 7}, indent=None, junk=b"")
@example(body=DONE, indent=1, junk=b"\n")
def test_both_readers_agree_on_any_object(body: Any, indent: int | None, junk: bytes) -> None:
    agree(json.dumps(body, indent=indent).encode() + junk)


@settings(max_examples=100, deadline=None)
@given(
    row=st.sampled_from(sorted(DOCUMENTED)),
    at=st.integers(0, 500),
    new=st.binary(max_size=3),
    lost=st.integers(0, 3),
)
def test_both_readers_agree_on_a_damaged_answer(row: str, at: int, new: bytes, lost: int) -> None:
    body = dumped(DOCUMENTED[row])

    for place in (at, len(body) - at):
        where = max(0, min(place, len(body)))
        agree(body[:where] + new + body[where + lost :])


def decoded_whole(text: str) -> bytes | None:
    """The definition, in one piece."""
    try:
        digits = strip_data_uri(text).encode("ascii").translate(
            bytes.maketrans(b"-_", b"+/"), b" \t\r\n"
        ).rstrip(b"=")  # fmt: skip
        return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True) or None
    except (UnicodeEncodeError, binascii.Error):
        return None


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=60).map(lambda body: base64.b64encode(body).decode())
    | st.text("AbZ09+/-_= \n\té", max_size=30)
)
@example("AA==")
@example("AA==BB")
@example("data:image/png;base64,AAAA")
def test_base64_in_slices_is_base64_in_one_piece(text: str) -> None:
    whole = decoded_whole(text)

    assert decode_base64(text) == whole
    assert decode_base64(text * 3) == decoded_whole(text * 3)


@pytest.mark.parametrize("ending", ["", "=", "==", "===", "A", "AA", "AAA", "A=A", "=\n="])
@pytest.mark.parametrize("size", [262_140, 262_144, 262_145, 524_288])
def test_the_edges_of_the_slices_change_nothing(size: int, ending: str) -> None:
    text = "A" * size + ending

    assert decode_base64(text) == decoded_whole(text)
    assert decode_base64(ending + text) == decoded_whole(ending + text)


async def test_long_pictures_of_several_answers_at_once_are_read_whole() -> None:
    pictures = [os.urandom(3 << 20) for _ in range(3)]
    scripts = [
        reply(200, {"created": 1, "data": [{"b64_json": base64.b64encode(picture).decode()}]})
        for picture in pictures
    ]

    async with scripted(*scripts) as (provider, _):
        answers = await asyncio.gather(
            *(provider.dispatch(KOI, asynchronous=False) for _ in pictures)
        )

    came = {bytes(image.body or b"") for answer in answers for image in answer.images}  # type: ignore[union-attr]
    assert came == set(pictures)


def test_brackets_without_end_are_left_to_the_tolerant_reader() -> None:
    assert read_documented(b"[" * 60_000, "https://provider.example") is None
