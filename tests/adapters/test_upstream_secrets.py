"""What leaves this machine and what a caller or a log may read of the provider."""

import asyncio
import re
import sys
from pathlib import Path

import pytest
import structlog

from tests.adapters.upstream_script import (
    DONE,
    KEY,
    KOI,
    TASK,
    Asked,
    Script,
    error,
    hang,
    listening,
    refused,
    reply,
    reset,
    scripted,
)

SECRETS: dict[str, str] = {
    "key": f"Bad thing with {KEY} happened",
    "other-key": "Bad thing with sk-abcdef123456 happened",
    "bearer": "Bad thing with Bearer abcdef123456 happened",
    "link": "Bad thing, see https://open.example.com/docs?x=1 for more",
    "host": "Bad thing at 127.0.0.1 happened",
    "tags": "Bad thing <b onclick=x>happened</b> now",
    "control": "Bad thing\r\nSet-Cookie: x\x00\x1b[31m happened",
    "reference": "Bad thing happened (request id: 20260101abcdef)",
    "task": "Bad thing happened to task_0123456789abcdef",
    "long": "Bad thing happened " + "again " * 5000,
}


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("secret", SECRETS)
async def test_what_a_caller_reads_is_short_plain_and_free_of_secrets(
    secret: str, status: int
) -> None:
    async with scripted(error(status, "invalid_value", SECRETS[secret])) as (provider, _):
        failed = await refused(provider)

    assert failed.message.startswith("Bad thing")
    assert len(failed.message) <= 300
    assert not re.search(r"sk-|abcdef|://|127\.0|[<>\x00-\x1f]|2026|task_0", failed.message)


@pytest.mark.parametrize(
    "message",
    [
        "Incorrect API key provided",
        "insufficient balance",
        "用户额度不足",
        "<html>oops</html>",
        "",
        "   ",
    ],
)
@pytest.mark.parametrize("status", [400, 500])
async def test_words_about_the_account_or_no_words_give_a_sentence_of_ours(
    message: str, status: int
) -> None:
    async with scripted(error(status, "x", message)) as (provider, _):
        failed = await refused(provider)

    assert failed.message.startswith("The provider ")


@pytest.mark.parametrize("status", [401, 402, 403, 429])
async def test_credentials_balance_and_rate_are_never_quoted(status: int) -> None:
    async with scripted(error(status, "x", "org-42 is over its limit")) as (provider, _):
        failed = await refused(provider)

    assert "org-42" not in failed.message


@pytest.mark.parametrize("script", [reset, error(401, "x", f"bad {KEY}"), hang])
async def test_the_upstream_key_is_in_no_exception_repr_or_log(script: Script) -> None:
    with structlog.testing.capture_logs() as logs:
        async with scripted(script, timeout_s=0.3) as (provider, _):
            failed = await refused(provider)
            kept: BaseException | None = failed
            while kept is not None:
                assert KEY not in repr(vars(kept)) + str(kept)
                kept = kept.__context__ or kept.__cause__
            assert KEY not in repr(provider) + repr(vars(provider))

    assert logs
    assert KEY not in repr(logs)
    assert KOI.prompt not in repr(logs)


async def test_exactly_these_headers_and_fields_leave() -> None:
    async with scripted(reply(200, DONE)) as (provider, upstream):
        await provider.dispatch(KOI, asynchronous=True)
        await provider.dispatch(KOI, asynchronous=False)
        await provider.poll(TASK)

    submit, generate, poll = upstream.asked
    sent = {
        "host": f"127.0.0.1:{upstream.port}",
        "authorization": f"Bearer {KEY}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "user-agent": "koi/1",
    }
    posted = {**sent, "content-type": "application/json"}
    assert submit.line == "POST /v1/images/generations HTTP/1.1"
    assert lower(submit) == {**posted, "content-length": str(len(submit.body))}
    assert lower(generate) == {**posted, "content-length": str(len(generate.body))}
    assert lower(poll) == sent
    fields = {
        "model": "grok-imagine",
        "prompt": "a koi in a nebula",
        "n": 1,
        "size": "1024x1024",
        "quality": "standard",
        "response_format": "url",
    }
    assert generate.json == fields
    assert submit.json == {**fields, "async": True}


def lower(asked: Asked) -> dict[str, str]:
    assert len({name.lower() for name, _ in asked.headers}) == len(asked.headers)
    return {name.lower(): value for name, value in asked.headers}


async def test_cookies_of_the_provider_are_never_sent_back() -> None:
    async with scripted(reply(200, DONE, "Set-Cookie: id=7; Path=/")) as (provider, upstream):
        for _ in range(2):
            await provider.poll(TASK)

    assert "cookie" not in lower(upstream.asked[1])


async def test_proxies_and_netrc_of_the_environment_are_ignored(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login thief password thief\n", encoding="ascii")
    netrc.chmod(0o600)
    async with listening(reply(200, DONE)) as upstream, listening(reply(200, {})) as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            ASK_ONCE.format(url=f"http://127.0.0.1:{upstream.port}/v1"),
            env={**dict.fromkeys(names, address), "NETRC": str(netrc), "NO_PROXY": ""},
        )
        assert await child.wait() == 0

    assert upstream.posts == 1
    assert lower(upstream.asked[0])["authorization"] == "Bearer sk-x"
    assert proxy.connections == 0


ASK_ONCE = """
import asyncio
from app.adapters.upstream.client import DieyuyunProvider
from app.adapters.upstream.transport import open_transport
from app.domain.images import GenerationRequest

async def main():
    provider = DieyuyunProvider(
        {url!r}, "sk-x", open_transport(), timeout_s=5
    )
    request = GenerationRequest("grok-imagine", "koi", 1, "1024x1024", "standard")
    await provider.dispatch(request, asynchronous=False)
    await provider.close()

asyncio.run(main())
"""
