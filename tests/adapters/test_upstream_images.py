"""Finished answers in every dialect of the provider's family: images, and ends without any."""

import base64
import struct
import zlib
from typing import Any

import pytest

from app.domain.errors import BillingEvidence, UpstreamError
from app.domain.images import ProviderImage
from app.domain.upstream import PollInconclusive, TaskImages, TaskPending
from tests.adapters.upstream_script import (
    DONE,
    KOI,
    LINK,
    P1,
    P2,
    P3,
    POLICY,
    TASK,
    links,
    poll,
    reply,
    scripted,
    submit,
)

OTHER = "https://cdn.example.com/b.jpg"


def _png() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        whole = kind + content
        return len(content).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")

    size = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0"))
    return b"\x89PNG\r\n\x1a\n" + size + pixels + chunk(b"IEND", b"")


PNG = _png()
UNKNOWN = bytes(range(200, 256))


ENCODED = base64.b64encode(PNG).decode()


FINISHED: dict[str, Any] = {
    "doc-sync-body": DONE,
    "doc-flat-union": {"id": TASK, "status": "completed", "progress": 100, **DONE},
    "created-as-text": {"created": "1717000000", "data": [{"url": LINK}]},
    "lemondata": {"id": TASK, "status": "completed", "data": [{"url": LINK}]},
    "evolink": {"id": TASK, "status": "completed", "progress": 100, "results": [LINK]},
    "apimart": {
        "code": 200,
        "data": {
            "id": TASK,
            "status": "completed",
            "result": {"images": [{"url": [LINK], "expires_at": 1}]},
        },
    },
    "apimart-older": {
        "code": 200,
        "data": {"status": "completed", "result": {"images": [{"url": LINK}]}},
    },
    "toapis-twice-the-same": {
        "id": "gen_x",
        "status": "completed",
        "url": LINK,
        "expires_at": 1,
        "result": {"type": "image", "data": [{"url": LINK}]},
    },
    "toapis-url-only": {"id": TASK, "status": "completed", "url": LINK},
    "yuannengai": {"code": 200, "data": {"status": "completed", "result": {"images": [LINK]}}},
    "mountsea": {"taskId": TASK, "status": "completed", "result": {"images": [{"url": LINK}]}},
    "jiekou": {
        "task": {"task_id": TASK, "status": "TASK_STATUS_SUCCEED", "reason": ""},
        "images": [{"image_url": LINK, "image_url_ttl": 3600, "image_type": "jpeg"}],
    },
    "dashscope": {
        "request_id": "r",
        "output": {"task_id": TASK, "task_status": "SUCCEEDED", "results": [{"url": LINK}]},
        "usage": {"image_count": 1},
    },
    "new-api": {
        "code": "success",
        "data": {
            "id": 17,
            "task_id": TASK,
            "status": "SUCCESS",
            "progress": "100%",
            "fail_reason": "",
            "result_url": LINK,
        },
    },
    "new-api-old-row": {
        "code": "success",
        "data": {"task_id": TASK, "status": "SUCCESS", "progress": "100%", "fail_reason": LINK},
    },
    "new-api-video": {"id": TASK, "status": "completed", "metadata": {"url": LINK}},
    "xai": {
        "data": [{"url": LINK, "mime_type": "image/jpeg", "respect_moderation": True}],
        "usage": {"cost_in_usd_ticks": 200000000},
    },
    "gptimage2api": {"taskId": TASK, "status": 1, "data": {"images": [{"url": LINK}]}},
    "51kik": {"task_id": TASK, "task_status": "success", "data": [{"url": LINK}], "error": None},
    "xingchaoyiqing": {"image_url": LINK},
    "result-envelope": {"status": "completed", "result": {"created": 1, "data": [{"url": LINK}]}},
    "data-envelope": {"code": 0, "data": {"created": 1, "data": [{"url": LINK}]}},
    "image-url-object": {"data": [{"image_url": {"url": LINK}}]},
    "unknown-word-with-image": {"id": TASK, "status": "delivered", "data": [{"url": LINK}]},
    "odd-code-with-image": {"code": 10000, "data": [{"url": LINK}]},
    "one-of-two-withheld": {"data": [{"url": LINK}, {"url": OTHER, "respect_moderation": False}]},
    "unusable-ones-dropped": {
        "data": [
            {"url": LINK},
            {"url": ""},
            None,
            7,
            {"url": 7},
            {},
            {"url": "javascript:alert(1)"},
            {"url": "ftp://a.example/b"},
            {"url": "https://a.example/" + "x" * 9000},
            {"b64_json": "%%%"},
        ]
    },
}


@pytest.mark.parametrize("shape", FINISHED)
@pytest.mark.parametrize("ask", [submit, poll])
async def test_a_finished_answer_gives_its_image(shape: str, ask: Any) -> None:
    answer = await ask(FINISHED[shape])

    assert isinstance(answer, TaskImages)
    assert links(answer.images) == [LINK]


PICTURES: dict[str, tuple[Any, list[ProviderImage]]] = {
    "revised-prompt": (DONE, [ProviderImage(url=LINK, revised_prompt="a golden koi")]),
    "revised-prompt-with-controls": (
        {
            "data": [
                {"url": LINK, "revised_prompt": "\u202ea \x00\x1b[31mkoi\u2066\x9b\tby\nnight\x7f"}
            ]
        },
        [ProviderImage(url=LINK, revised_prompt="a [31mkoi\tby\nnight")],
    ),
    "revised-prompt-of-controls-alone": (
        {"data": [{"url": LINK, "revised_prompt": "\u202e\u200f \x07"}]},
        [ProviderImage(url=LINK)],
    ),
    "b64": ({"data": [{"b64_json": ENCODED}]}, [ProviderImage(body=PNG)]),
    "b64-with-prefix": (
        {"data": [{"b64_json": f"data:image/jpeg;base64,{ENCODED}", "revised_prompt": "k"}]},
        [ProviderImage(body=PNG, revised_prompt="k")],
    ),
    "b64-beside-empty-url": (
        {"data": [{"url": "", "b64_json": ENCODED}]},
        [ProviderImage(body=PNG)],
    ),
    "b64-of-a-format-unknown-here": (
        {"data": [{"b64_json": base64.b64encode(UNKNOWN).decode()}]},
        [ProviderImage(body=UNKNOWN)],
    ),
    "data-uri-of-a-format-unknown-here": (
        {"data": [{"url": f"data:image/jxl;base64,{base64.b64encode(UNKNOWN).decode()}"}]},
        [ProviderImage(body=UNKNOWN)],
    ),
    "a-word-is-no-picture": (
        {"data": [{"b64_json": "none", "url": LINK}]},
        [ProviderImage(url=LINK)],
    ),
    "data-uri-as-url": (
        {"data": [{"url": f"data:image/png;base64,{ENCODED}"}]},
        [ProviderImage(body=PNG)],
    ),
    "more-than-asked": (
        {"data": [{"url": LINK}, {"url": OTHER}]},
        [ProviderImage(url=LINK), ProviderImage(url=OTHER)],
    ),
    "toapis-both": (
        {"status": "completed", "url": LINK, "result": {"data": [{"url": LINK}, {"url": OTHER}]}},
        [ProviderImage(url=LINK), ProviderImage(url=OTHER)],
    ),
    "space-in-a-link": (
        {"data": [{"url": "https://cdn.example.com/a b.png"}]},
        [ProviderImage(url="https://cdn.example.com/a%20b.png")],
    ),
}


@pytest.mark.parametrize("shape", PICTURES)
async def test_images_come_as_links_or_as_bytes(shape: str) -> None:
    body, expected = PICTURES[shape]

    answer = await submit(body)

    assert answer == TaskImages(tuple(expected))


@pytest.mark.parametrize(
    ("link", "path"),
    [
        ("/v1/files/a.png?sig=1", "http://127.0.0.1:{port}/v1/files/a.png?sig=1"),
        ("files/a.png", "http://127.0.0.1:{port}/v1/files/a.png"),
        ("//cdn.example.com/a.png", "http://cdn.example.com/a.png"),
    ],
)
async def test_relative_links_belong_to_the_provider(link: str, path: str) -> None:
    async with scripted(reply(200, {"data": [{"url": link}]})) as (provider, upstream):
        answer = await provider.dispatch(KOI, asynchronous=False)

    assert isinstance(answer, TaskImages)
    assert links(answer.images) == [path.format(port=upstream.port)]


async def test_a_large_base64_answer_arrives_whole() -> None:
    large = PNG + bytes(range(256)) * 12_000
    body = {"data": [{"b64_json": base64.b64encode(large).decode()}] * 2}

    answer = await submit(body, response_format="b64_json")

    assert answer == TaskImages((ProviderImage(body=large),) * 2)


ENDED: dict[str, tuple[Any, str, BillingEvidence]] = {
    "evolink-failed": (
        {
            "id": TASK,
            "status": "failed",
            "progress": 0,
            "error": {"code": "image_processing_error", "message": "could not draw"},
        },
        "upstream_error",
        P2,
    ),
    "lemondata-failed": (
        {"id": TASK, "status": "failed", "error": "could not draw", "data": [{"url": ""}]},
        "upstream_error",
        P2,
    ),
    "cancelled": ({"id": TASK, "status": "cancelled"}, "upstream_error", P2),
    "timed-out": ({"status": "Timeout"}, "upstream_error", P2),
    "new-api-failure": (
        {"code": "success", "data": {"task_id": TASK, "status": "FAILURE", "fail_reason": "bad"}},
        "upstream_error",
        P2,
    ),
    "jiekou-failed": (
        {"task": {"task_id": TASK, "status": "TASK_STATUS_FAILED", "reason": "bad"}, "images": []},
        "upstream_error",
        P2,
    ),
    "dashscope-failed": (
        {
            "output": {
                "task_id": TASK,
                "task_status": "FAILED",
                "code": "InternalError",
                "message": "bad",
            }
        },
        "upstream_error",
        P2,
    ),
    "mountsea-failed": (
        {"taskId": TASK, "status": "failed", "errorCode": "E1", "errorMessage": "bad"},
        "upstream_error",
        P2,
    ),
    "gptimage2api-failed": (
        {"taskId": TASK, "status": 2, "errorCode": "service_error", "errorMessage": "bad"},
        "upstream_error",
        P2,
    ),
    "dashscope-moderation": (
        {"output": {"task_status": "FAILED", "code": "DataInspectionFailed", "message": "no"}},
        POLICY,
        P1,
    ),
    "evolink-moderation": (
        {"id": TASK, "status": "failed", "error": {"code": POLICY}},
        POLICY,
        P1,
    ),
    "moderated-word": ({"id": TASK, "status": "Content Moderated"}, POLICY, P1),
    "silent-moderation": (
        {"data": [{"url": LINK, "respect_moderation": False}]},
        POLICY,
        P1,
    ),
    "block-reason": (
        {"created": 1, "data": [], "block_reason": "PROHIBITED"},
        POLICY,
        P1,
    ),
    "expired": ({"status": "expired", "request_id": TASK}, "task_expired", P3),
}


@pytest.mark.parametrize("shape", ENDED)
@pytest.mark.parametrize("ask", [submit, poll])
async def test_a_bad_end_has_its_code_and_proof(shape: str, ask: Any) -> None:
    body, code, proof = ENDED[shape]

    with pytest.raises(UpstreamError) as ended:
        await ask(body)

    assert (ended.value.reason, ended.value.proof) == (code, proof)


IMAGELESS: dict[str, Any] = {
    "completed": {"status": "completed", "data": []},
    "completed-and-nothing-else": {"status": "completed"},
    "empty": {"created": 1, "data": []},
    "null": {"created": 1, "data": None},
}


@pytest.mark.parametrize("shape", IMAGELESS)
async def test_an_answer_without_images_and_name_is_held(shape: str) -> None:
    with pytest.raises(UpstreamError) as ended:
        await submit(IMAGELESS[shape])

    assert (ended.value.reason, ended.value.proof) == ("empty_result", P3)


@pytest.mark.parametrize("shape", IMAGELESS)
async def test_a_post_answered_by_a_completed_task_without_images_is_asked_again(
    shape: str,
) -> None:
    answer = await submit({"id": TASK, **IMAGELESS[shape]})

    assert isinstance(answer, TaskPending)
    assert answer.upstream_id == TASK


@pytest.mark.parametrize("shape", IMAGELESS)
async def test_a_completed_task_without_images_is_no_end_for_its_poll(shape: str) -> None:
    with pytest.raises(PollInconclusive) as trouble:
        await poll(IMAGELESS[shape])

    assert trouble.value.empty
    assert not trouble.value.missing


async def test_prose_alone_ends_no_task() -> None:
    """The provider's words about a poll may be the caller's own, quoted."""
    guidelines = {"code": "invalid-argument", "error": "Content violates usage guidelines."}

    with pytest.raises(PollInconclusive):
        await poll(guidelines)
    with pytest.raises(PollInconclusive):
        await poll(guidelines, 400)
    with pytest.raises(UpstreamError) as ended:
        await poll({"id": TASK, "status": "failed", "error": "Content violates usage guidelines."})

    assert (ended.value.reason, ended.value.proof) == (POLICY, P2)
