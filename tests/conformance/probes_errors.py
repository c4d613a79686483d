"""Statements about errors, quotas, repeats and metering."""

import contextlib
import time
from collections.abc import Iterator

import httpx
import openai

from app.domain.limits import Limits
from tests.conformance.gate import (
    MODEL,
    Broken,
    Gate,
    error_of,
    expect,
    expect_status,
    named,
    shows,
)

USAGE = "/v1/organization/usage/images"
SINCE = 1_700_000_000
CODES_OF_MODERATION = {"content_policy_violation", "moderation_blocked"}


def _failed(gate: Gate, *faults: str) -> httpx.Response:
    """The answer when the provider does this, however often somebody tries."""
    gate.sandbox.set(fault_rate=1.0, fault_names=list(faults))
    return gate.ask(gate.body())


def _errors(gate: Gate) -> Iterator[httpx.Response]:
    yield gate.ask(gate.body(n=0))
    yield gate.ask(b"{", headers={"content-type": "application/json"})
    yield gate.ask(gate.body(model="nobody-knows"))
    yield gate.ask(gate.body(), headers={"authorization": None})
    yield gate.get("/v1/nowhere")
    yield _failed(gate, "500")
    yield _failed(gate, "moderation-400")


@shows(54)
def four_fields(gate: Gate) -> None:
    for answer in _errors(gate):
        expect(answer.status_code >= 400, f"an error is a {answer.status_code}")
        error_of(answer)
        expect(answer.headers.get("x-request-id"), "no x-request-id")


@shows(55)
def a_refused_prompt(gate: Gate) -> None:
    code = error_of(expect_status(_failed(gate, "moderation-400"), 400))["code"]
    expect(code in CODES_OF_MODERATION, f"its code is {code}")
    expect(gate.sandbox.posts == 1, f"{gate.sandbox.posts} POSTs")


@shows(56, last=True)
def our_key_is_refused(gate: Gate) -> None:
    expect_status(_failed(gate, "401"), 502, 503)


@shows(57, last=True)
def no_balance(gate: Gate) -> None:
    answer = expect_status(_failed(gate, "402"), 429, 503)
    expect(answer.headers.get("x-should-retry") == "false", "does not say x-should-retry: false")


@shows(58, last=True)
def the_providers_429(gate: Gate) -> None:
    answer = expect_status(_failed(gate, "429-int"), 429)
    pause = answer.headers.get("retry-after", "")
    expect(pause.isdigit() and int(pause) <= 60, f"Retry-After is {pause or 'missing'}")


@shows(59)
def a_page(gate: Gate) -> None:
    message = error_of(expect_status(_failed(gate, "502-html"), 502))["message"]
    expect("<" not in message, "HTML is in the message")
    expect(len(message) < 300, f"the message has {len(message)} characters")


@shows(60)
def an_error_in_a_200(gate: Gate) -> None:
    answer = _failed(gate, "error-200")
    expect(answer.status_code >= 400, f"answered {answer.status_code}")
    error_of(answer)


@shows(62)
def codes_are_text(gate: Gate) -> None:
    for answer in _errors(gate):
        code = error_of(answer)["code"]
        expect(code is None or isinstance(code, str), f"a code is {code!r}")
        expect(not (code or "").isdigit(), f"a code is {code!r}, the status as text")


@shows(63)
def a_spent_quota(gate: Gate) -> None:
    poor = gate.limited(Limits(images_per_day=0))
    asked: list[httpx.Request] = []
    with (
        httpx.Client(event_hooks={"request": [asked.append]}) as wire,
        poor.sdk(http_client=wire) as client,
    ):
        try:
            client.images.generate(**gate.body())
        except openai.RateLimitError as error:
            expect(error.type == "insufficient_quota", f"its type is {error.type}")
            expect("retry-after" not in error.response.headers, "names a pause")
        else:
            raise Broken("is served")
    expect(len(asked) == 1, f"the SDK asks {len(asked)} times")


@shows(64)
def a_rate_limit(gate: Gate) -> None:
    answer = _refused_for_its_rate(gate)
    code = error_of(answer)["code"]
    expect(code == "rate_limit_exceeded", f"its code is {code}")
    expect(1 <= int(answer.headers.get("retry-after", 0)) <= 60, "no pause in seconds")
    expect(answer.headers.get("retry-after-ms"), "no pause in milliseconds")


def _refused_for_its_rate(gate: Gate) -> httpx.Response:
    hasty = gate.limited(Limits(requests_per_minute=1, images_per_day=100))
    for _ in range(20):
        answer = hasty.ask(hasty.body())
        if answer.status_code == 429:
            return answer
    raise Broken("no refusal comes")


@shows(65, last=True)
def no_long_pause(gate: Gate) -> None:
    pause = _failed(gate, "429-long").headers.get("retry-after", "0")
    expect(pause.isdigit() and int(pause) <= 60, f"Retry-After is {pause}")


@shows(66)
def no_409(gate: Gate) -> None:
    headers = {"idempotency-key": "one"}
    gate.ask(gate.body(), headers=headers)
    answer = gate.ask(gate.body(), headers=headers)
    expect(answer.status_code != 409, "answered 409")


@shows(67)
def what_is_left(gate: Gate) -> None:
    limited = gate.limited(Limits(requests_per_minute=60, images_per_day=100))
    for answer in (limited.ask(limited.body()), _refused_for_its_rate(gate)):
        for what in ("images", "requests"):
            for word in ("limit", "remaining", "reset"):
                name = f"x-ratelimit-{word}-{what}"
                expect(name in answer.headers, f"a {answer.status_code} lacks {name}")


@shows(68)
def an_impatient_sdk(gate: Gate) -> None:
    gate.sandbox.set(latency_s=2.0)
    with gate.sdk(timeout=0.8, max_retries=4) as client:
        try:
            client.images.generate(**gate.body())
        except openai.APIError as error:
            raise Broken(f"{named(error)} after {gate.sandbox.posts} POSTs") from None
    expect(gate.sandbox.posts == 1, f"{gate.sandbox.posts} POSTs")


def _given_up(gate: Gate) -> dict[str, str]:
    """A call whose caller hangs up while the provider works; its body."""
    gate.sandbox.set(latency_s=1.5)
    body = gate.body()
    with contextlib.suppress(httpx.TimeoutException):
        gate.ask(body, timeout=0.5)
    return body


@shows(69)
def a_repeat_without_a_mark(gate: Gate) -> None:
    body = _given_up(gate)
    expect_status(gate.ask(body), 200)
    expect(gate.sandbox.posts == 1, f"{gate.sandbox.posts} POSTs")


@shows(70)
def an_idempotency_key(gate: Gate) -> None:
    headers = {"idempotency-key": "two"}
    body = gate.body()
    first, again = (expect_status(gate.ask(body, headers=headers), 200).json() for _ in range(2))
    expect(gate.sandbox.posts == 1, f"{gate.sandbox.posts} generations")
    expect(len(first["data"]) == len(again["data"]), "another answer")
    other = expect_status(gate.ask(gate.body(), headers=headers), 400, 422)
    expect(other.headers.get("x-should-retry") == "false", "does not say x-should-retry: false")


@shows(71)
def who_hangs_up(gate: Gate) -> None:
    body = _given_up(gate)
    time.sleep(2)
    expect_status(gate.ask(body), 200)
    found = gate.sandbox.posts, gate.sandbox.billed_images
    expect(found == (1, 1), f"{found[0]} POSTs, {found[1]} images billed")


@contextlib.contextmanager
def _admin(gate: Gate, key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{gate.url}/v1", api_key="unused", admin_api_key=key, max_retries=0
    ) as client:
        yield client


@shows(91)
def the_admin_client(gate: Gate) -> None:
    began = int(time.time()) - 60
    gate.made(n=2)
    dimensions = ["model", "user_id", "size"]
    with _admin(gate, gate.admin_key) as client:
        page = client.admin.organization.usage.images(start_time=began, group_by=dimensions)
    rows = [row for bucket in page.data for row in bucket.results]
    expect(any(row.model == MODEL and row.images for row in rows), "the usage is not there")


@shows(92)
def arrays_in_a_query(gate: Gate) -> None:
    gate.made()
    answers = [
        expect_status(gate.get(f"{USAGE}?start_time={SINCE}&{spelling}", key=gate.admin_key), 200)
        for spelling in (
            "group_by%5B%5D=model&group_by%5B%5D=size",
            "group_by=model&group_by=size",
            "group_by=model,size",
        )
    ]
    first, *others = [answer.json()["data"] for answer in answers]
    expect(all(other == first for other in others), "the spellings differ")


@shows(93)
def a_callers_key_is_no_admins(gate: Gate) -> None:
    with _admin(gate, gate.other_key()) as client:
        try:
            client.admin.organization.usage.images(start_time=SINCE)
        except openai.PermissionDeniedError:
            return
    raise Broken("is let in")
