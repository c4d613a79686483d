"""Whatever JSON a provider invents, the reader gives an answer or a failure with a meaning."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.adapters.upstream.complaint import CODE_KEYS, MESSAGE_KEYS, RETRY_KEYS
from app.adapters.upstream.faults import Faults
from app.adapters.upstream.images import BYTE_KEYS, CONTAINERS, LINK_KEYS, PROMPT_KEYS
from app.adapters.upstream.retry_after import FORMS, retry_after_s
from app.adapters.upstream.statuses import PHASES, PROGRESS_KEYS, STATUS_KEYS
from app.adapters.upstream.strict_json import Unreadable, parse
from app.adapters.upstream.wire import ID_KEYS, UPSTREAM_ID, Reader, Reply
from app.adapters.upstream.wording import LONGEST, Wording
from app.domain.errors import UPSTREAM_CODES, Proof, UpstreamError
from app.domain.upstream import Finished, PollTroubled, Running
from tests.adapters.upstream_script import LINK

READER = Reader("https://provider.example/v1/", Faults(Wording(("sk-secret",))), lambda: 0.0)
KEYS = st.sampled_from(
    [*CONTAINERS, *LINK_KEYS, *BYTE_KEYS, *PROMPT_KEYS, *STATUS_KEYS, *PROGRESS_KEYS, *ID_KEYS]
    + [*CODE_KEYS, *MESSAGE_KEYS, *RETRY_KEYS, "error", "task", "request_id", "type", "success"]
    + ["respect_moderation", "finish_reason", "param", "block_reason"]
)
WORDS = st.sampled_from([*PHASES, LINK, "/a.png", "task_1", "50%", "rate_limited", "404", "..", ""])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS | st.text()
BODIES = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_size=6,
)
STATUSES = st.sampled_from([200, 202, 400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 503, 504])


def reply(status: int, body: Any) -> Reply:
    return Reply(status, {}, json.dumps(body).encode())


def sound(error: UpstreamError) -> bool:
    return error.reason in UPSTREAM_CODES and 0 < len(error.message) <= LONGEST and error.note != 0


@settings(max_examples=400, deadline=None)
@given(status=STATUSES, body=BODIES)
def test_any_reply_to_a_post_has_a_meaning(status: int, body: Any) -> None:
    try:
        answer = READER.submitted(reply(status, body))
    except UpstreamError as error:
        assert sound(error)
        assert error.proof is not Proof.NEVER_SENT
    else:
        assert status < 400
        assert_sane(answer)


@settings(max_examples=400, deadline=None)
@given(status=STATUSES, body=BODIES)
def test_any_reply_to_a_poll_has_a_meaning(status: int, body: Any) -> None:
    try:
        answer = READER.polled(reply(status, body), "task_0")
    except UpstreamError as error:
        assert sound(error)
    except PollTroubled as trouble:
        assert trouble.retry_after_s is None or 1 <= trouble.retry_after_s <= 60
    else:
        assert status < 400
        assert_sane(answer)


def assert_sane(answer: Running | Finished) -> None:
    if isinstance(answer, Running):
        assert UPSTREAM_ID.fullmatch(answer.upstream_id)
        assert answer.progress is None or 0 <= answer.progress <= 99
    else:
        assert answer.images
        assert all((image.url is None) != (image.body is None) for image in answer.images)


@settings(max_examples=300, deadline=None)
@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_json_or_unreadable(body: bytes) -> None:
    try:
        value = parse(body)
    except Unreadable:
        return

    assert json.loads(body.decode("utf-8-sig")) == value


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from([name for name, _ in FORMS]),
    text=st.text() | st.integers().map(str) | st.floats().map(str),
)
def test_any_retry_after_is_a_wait_or_nothing(name: str, text: str) -> None:
    wait = retry_after_s({name: text}, text, now=1.8e9)

    assert wait is None or 1 <= wait <= 60


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_words_become_plain_text(text: str) -> None:
    said = Wording(("sk-secret",)).clean(f"{text} sk-SECRET {text}", "The provider failed.")

    assert 3 <= len(said) <= LONGEST
    assert "sk-secret" not in said.lower()
    assert not set(said) & set("<>\r\n\0\x1b")
