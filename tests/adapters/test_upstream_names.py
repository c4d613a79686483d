"""What the provider called a call: its bill can only be matched by that."""

import pytest
from upstream_script import (
    DONE,
    KOI,
    TASK,
    Exchange,
    Script,
    error,
    hang,
    head,
    raw,
    refused,
    reply,
    reset,
    scripted,
)

NAME = "req_01:a.b-C"
NAMED = f"X-Request-Id: {NAME}"


async def begun(exchange: Exchange) -> None:
    """A head with a name, half a body, and no more."""
    await exchange.send(head(200, NAMED, "Content-Length: 100") + b'{"created":')
    exchange.reset()


async def silent_after_its_head(exchange: Exchange) -> None:
    await exchange.send(head(200, NAMED, "Content-Length: 100"))
    await hang(exchange)


@pytest.mark.parametrize("asynchronous", [True, False])
@pytest.mark.parametrize("body", [DONE, {"id": TASK, "status": "queued"}])
async def test_an_answer_says_what_the_provider_called_the_post(
    body: object, asynchronous: bool
) -> None:
    async with scripted(reply(200, body, NAMED)) as (provider, _):
        answer = await provider.dispatch(KOI, asynchronous=asynchronous)

    assert answer.request_id == NAME


@pytest.mark.parametrize(
    "script",
    [
        error(400, "x", "no", NAMED),
        error(500, "x", "no", NAMED),
        raw(502, b"<html>", NAMED),
        reply(200, {"created": 1, "data": []}, NAMED),
        begun,
        silent_after_its_head,
    ],
)
async def test_so_does_every_failure_whose_answer_had_begun(script: Script) -> None:
    timeout_s = 1 if script is silent_after_its_head else 15
    async with scripted(script, timeout_s=timeout_s) as (provider, _):
        failed = await refused(provider)

    assert failed.request_id == NAME


@pytest.mark.parametrize("script", [reset, hang, error(500, "x")])
async def test_without_a_name_there_is_none(script: Script) -> None:
    async with scripted(script, timeout_s=0.3) as (provider, _):
        failed = await refused(provider)

    assert failed.request_id is None


@pytest.mark.parametrize("name", ["", "a b", "req\t1", "x" * 129, "réq", "../x", "a,b", "<i>"])
async def test_a_name_that_is_none_is_left_out(name: str) -> None:
    async with scripted(reply(200, DONE, f"X-Request-Id: {name}")) as (provider, _):
        answer = await provider.dispatch(KOI, asynchronous=False)

    assert answer.request_id is None
