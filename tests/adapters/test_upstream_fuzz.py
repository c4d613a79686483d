"""Whatever JSON a provider invents, the reader gives an answer or a failure with a meaning."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.adapters.upstream.error_dialects import CODE_KEYS, MESSAGE_KEYS, RETRY_KEYS
from app.adapters.upstream.error_mapping import MAX_MESSAGE_CHARS, ErrorMapper, MessageSanitizer
from app.adapters.upstream.image_extraction import BYTE_KEYS, CONTAINERS, LINK_KEYS, PROMPT_KEYS
from app.adapters.upstream.lenient_json import InvalidJson, parse_lenient_json
from app.adapters.upstream.retry_after import RETRY_HEADERS, retry_after_s
from app.adapters.upstream.task_status import PHASES, PROGRESS_KEYS, STATUS_KEYS
from app.adapters.upstream.wire import ID_KEYS, ProviderReply, ReplyParser
from app.domain.errors import UPSTREAM_CODES, BillingEvidence, UpstreamError
from app.domain.upstream import PollInconclusive, TaskImages, TaskPending, UpstreamAnswer
from app.domain.upstream_ids import is_task_id
from tests.adapters.upstream_script import LINK

READER = ReplyParser(
    "https://provider.example/v1/", ErrorMapper(MessageSanitizer(("sk-secret",))), lambda: 0.0
)
ODD_KEYS = "error task request_id type success respect_moderation finish_reason param block_reason"
READ_KEYS = (CONTAINERS, LINK_KEYS, BYTE_KEYS, PROMPT_KEYS, STATUS_KEYS, PROGRESS_KEYS, ID_KEYS)
SAID_KEYS = (CODE_KEYS, MESSAGE_KEYS, RETRY_KEYS, ODD_KEYS.split())
KEYS = st.sampled_from([key for keys in (*READ_KEYS, *SAID_KEYS) for key in keys])
WORDS = st.sampled_from([*PHASES, LINK, "/a.png", "task_1", "50%", "rate_limited", "404", "..", ""])
FINITE = st.floats(allow_nan=False, allow_infinity=False)
LEAVES = st.none() | st.booleans() | st.integers() | FINITE | WORDS | st.text()
BODIES = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_size=6,
)
REFUSALS = [304, 308, 400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 503, 504]
STATUSES = st.sampled_from([200, 202, *REFUSALS])


def reply(status: int, body: Any) -> ProviderReply:
    return ProviderReply(status, {}, json.dumps(body).encode())


def meaning(
    read: Callable[[], UpstreamAnswer],
) -> UpstreamAnswer | UpstreamError | PollInconclusive:
    try:
        return read()
    except (UpstreamError, PollInconclusive) as meant:
        return meant


@settings(max_examples=100, deadline=None)
@given(status=STATUSES, body=BODIES)
def test_any_reply_to_a_post_has_a_meaning(status: int, body: Any) -> None:
    meant = meaning(lambda: READER.parse_submit_reply(reply(status, body)))

    assert_sane(status, meant)
    assert not isinstance(meant, PollInconclusive)


@settings(max_examples=100, deadline=None)
@given(status=STATUSES, body=BODIES)
def test_any_reply_to_a_poll_has_a_meaning(status: int, body: Any) -> None:
    meant = meaning(lambda: READER.parse_poll_reply(reply(status, body), "task_0"))

    assert_sane(status, meant)


def assert_sane(status: int, meant: UpstreamAnswer | UpstreamError | PollInconclusive) -> None:
    match meant:
        case UpstreamError():
            assert meant.reason in UPSTREAM_CODES
            assert 0 < len(meant.message) <= MAX_MESSAGE_CHARS
            assert meant.proof is not BillingEvidence.NEVER_SENT
        case PollInconclusive():
            assert meant.retry_after_s is None or 1 <= meant.retry_after_s <= 60
        case TaskPending():
            assert status < 300
            assert is_task_id(meant.upstream_id)
            assert meant.progress is None or 0 <= meant.progress <= 99
        case TaskImages():
            assert status < 400
            assert meant.images
            assert all((image.url is None) != (image.body is None) for image in meant.images)


@settings(max_examples=100, deadline=None)
@given(st.binary() | st.text().map(str.encode) | st.binary().map(lambda rest: b"{}" + rest))
def test_any_bytes_are_json_or_unreadable(body: bytes) -> None:
    try:
        document = parse_lenient_json(body)
    except InvalidJson:
        return

    json.dumps(document.value, allow_nan=False).encode()
    if not document.is_nonstandard:
        assert json.loads(body.decode("utf-8-sig")) == document.value


@settings(max_examples=100, deadline=None)
@given(BODIES)
def test_json_that_every_reader_takes_is_read_as_it_is(body: Any) -> None:
    document = parse_lenient_json(json.dumps(body).encode())

    assert (document.value, document.is_nonstandard) == (body, False)


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from([name for name, _ in RETRY_HEADERS]),
    text=st.text() | st.integers().map(str) | st.floats().map(str),
)
def test_any_retry_after_is_a_wait_or_nothing(name: str, text: str) -> None:
    wait = retry_after_s({name: text}, text, now=1.8e9)

    assert wait is None or 1 <= wait <= 60


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_words_become_plain_text(text: str) -> None:
    said = MessageSanitizer(("sk-secret",)).sanitize(
        f"{text} sk-SECRET {text}", "The provider failed."
    )

    assert 3 <= len(said) <= MAX_MESSAGE_CHARS
    assert "sk-secret" not in said.lower()
    assert not set(said) & set("<>\r\n\0\x1b")
