"""The transport on real sockets: TLS, kept connections, limits, and what each failure is called."""

import asyncio
import datetime
import gzip
import os
import ssl
import threading
import time
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.adapters.upstream.transport import AiohttpTransport, Sending, Step, TlsFailed
from app.domain.upstream import Finished
from tests.adapters.upstream_script import (
    DONE,
    KOI,
    P0,
    P3,
    Exchange,
    Scripted,
    hang,
    head,
    listening,
    provider_at,
    raw,
    refused,
    reply,
    scripted,
    slowly,
)

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def certificate(
    folder: Path, *, ip: str = "127.0.0.1", until: datetime.datetime = NOW + DAY
) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "koi test")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - 3 * DAY)
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(ip))]), False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def serving(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def trusting(path: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=path)


async def tls_failure(upstream: Scripted, trust: ssl.SSLContext | None) -> list[str]:
    events: list[str] = []
    url = f"https://127.0.0.1:{upstream.port}/v1"
    async with provider_at(url, tls=trust, observe=events.append) as provider:
        failed = await refused(provider)
    assert (failed.reason, failed.proof) == ("upstream_tls", P0)
    assert upstream.asked == []
    return events


async def test_a_trusted_certificate_is_spoken_to(tmp_path: Path) -> None:
    path = certificate(tmp_path)

    async with listening(reply(200, DONE), tls=serving(path)) as upstream:
        url = f"https://127.0.0.1:{upstream.port}/v1"
        async with provider_at(url, tls=trusting(path)) as provider:
            answers = [await provider.dispatch(KOI, asynchronous=False) for _ in range(3)]

    assert all(isinstance(answer, Finished) for answer in answers)
    assert upstream.connections == 1


async def test_f4_a_self_signed_certificate_is_refused_at_once(tmp_path: Path) -> None:
    async with listening(reply(200, DONE), tls=serving(certificate(tmp_path))) as upstream:
        assert await tls_failure(upstream, None) == []


async def test_f4_another_hosts_certificate_is_refused_at_once(tmp_path: Path) -> None:
    path = certificate(tmp_path, ip="127.0.0.9")

    async with listening(reply(200, DONE), tls=serving(path)) as upstream:
        assert await tls_failure(upstream, trusting(path)) == []


async def test_f4_an_expired_certificate_is_refused_at_once(tmp_path: Path) -> None:
    path = certificate(tmp_path, until=NOW - DAY)

    async with listening(reply(200, DONE), tls=serving(path)) as upstream:
        assert await tls_failure(upstream, trusting(path)) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_tls_before_1_2_is_not_spoken(tmp_path: Path) -> None:
    path = certificate(tmp_path)
    old = serving(path)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1

    trust = trusting(path)
    trust.set_ciphers("ALL:@SECLEVEL=0")

    async with (
        listening(reply(200, DONE), tls=old) as upstream,
        provider_at(f"https://127.0.0.1:{upstream.port}/v1", tls=trust) as provider,
    ):
        failed = await refused(provider)

    assert failed.proof is P0
    assert upstream.asked == []


async def test_f4_a_server_without_tls_is_refused_at_once() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(head(400, "Content-Length: 0"))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async with provider_at(f"https://127.0.0.1:{port}/v1") as provider:
        failed = await refused(provider)
    server.close()

    assert (failed.reason, failed.proof) == ("upstream_tls", P0)


async def unasked(exchange: Exchange) -> None:
    """A good answer, and then another one that nobody asked for."""
    await reply(200, DONE)(exchange)
    body = b'{"data":[{"url":"https://cdn.example.com/of-another-caller.png"}]}'
    stray = head(200, f"Content-Length: {len(body)}") + body
    sock = exchange.writer.get_extra_info("socket").fileno()
    threading.Timer(0.05, os.write, (sock, stray)).start()


@pytest.mark.parametrize("pause_s", [0.0, 0.15])
async def test_what_a_kept_connection_said_unasked_is_nobodys_answer(pause_s: float) -> None:
    async with scripted(unasked, reply(200, DONE)) as (provider, upstream):
        first = await provider.dispatch(KOI, asynchronous=False)
        if pause_s:
            await asyncio.sleep(pause_s)
        else:
            time.sleep(0.15)
        second = await provider.dispatch(KOI, asynchronous=False)

    assert first == second
    assert upstream.posts == 2
    assert [asked.connection for asked in upstream.asked] == [1, 2]


async def close_after_answer(exchange: Exchange) -> None:
    await reply(200, DONE)(exchange)
    exchange.writer.close()


@pytest.mark.parametrize("pause_s", [0.0, 0.1])
async def test_f6_a_connection_closed_while_kept_is_not_used_again(pause_s: float) -> None:
    async with scripted(close_after_answer, reply(200, DONE)) as (provider, upstream):
        await provider.dispatch(KOI, asynchronous=False)
        if pause_s:
            await asyncio.sleep(pause_s)
        else:
            time.sleep(0.1)
        await provider.dispatch(KOI, asynchronous=False)

    assert [asked.connection for asked in upstream.asked] == [1, 2]


async def test_f6_a_kept_connection_that_dies_under_a_post_is_no_proof() -> None:
    async def close(exchange: Exchange) -> None:
        exchange.writer.close()

    async with scripted(reply(200, DONE), close) as (provider, upstream):
        await provider.dispatch(KOI, asynchronous=False)
        failed = await refused(provider)

    assert (failed.reason, failed.proof) == ("upstream_ambiguous", P3)
    assert upstream.posts == 2


async def test_an_idle_connection_ages_out() -> None:
    async with listening(reply(200, DONE)) as upstream:
        transport = AiohttpTransport(keepalive_s=0.05)
        for _ in range(2):
            await fetch(transport, upstream)
            await asyncio.sleep(0.2)
        await transport.aclose()

    assert upstream.connections == 2


async def fetch(
    transport: AiohttpTransport,
    upstream: Scripted,
    sending: Sending | None = None,
    **timeout: float,
) -> bytes:
    request = httpx.Request(
        "GET",
        f"http://127.0.0.1:{upstream.port}/",
        extensions={"timeout": timeout, "sending": sending or Sending()},
    )
    response = await transport.handle_async_request(request)
    try:
        return b"".join([chunk async for chunk in response.aiter_raw()])
    finally:
        await response.aclose()


async def test_a_full_pool_is_called_so_and_nothing_was_sent() -> None:
    async with listening(hang) as upstream:
        transport = AiohttpTransport(connections=1)
        first = asyncio.create_task(fetch(transport, upstream))
        while not upstream.asked:
            await asyncio.sleep(0.01)
        sending = Sending()

        with pytest.raises(httpx.PoolTimeout):
            await fetch(transport, upstream, sending, connect=0.05, pool=0.05)

        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await transport.aclose()

    assert not sending.sent
    assert len(upstream.asked) == 1


async def test_compressed_bytes_stay_compressed() -> None:
    body = gzip.compress(bytes(100_000))

    async with listening(raw(200, body, "Content-Encoding: gzip")) as upstream:
        transport = AiohttpTransport()
        received = await fetch(transport, upstream)
        await transport.aclose()

    assert received == body


async def test_a_read_timeout_is_called_so_and_may_have_been_sent() -> None:
    async with listening(hang) as upstream:
        transport = AiohttpTransport()
        sending = Sending()

        with pytest.raises(httpx.ReadTimeout):
            await fetch(transport, upstream, sending, read=0.05)

        await transport.aclose()

    assert sending.step is Step.SENT


async def test_a_tls_failure_is_a_connect_error_of_its_own(tmp_path: Path) -> None:
    assert issubclass(TlsFailed, httpx.ConnectError)
    async with listening(reply(200, DONE), tls=serving(certificate(tmp_path))) as upstream:
        transport = AiohttpTransport()
        request = httpx.Request("GET", f"https://127.0.0.1:{upstream.port}/")

        with pytest.raises(TlsFailed):
            await transport.handle_async_request(request)

        await transport.aclose()


async def test_200_slow_calls_at_once_each_get_their_answer_in_one_slow_time() -> None:
    async def own(exchange: Exchange) -> None:
        link = f"https://cdn.example.com/{len(exchange.asked.json['prompt'])}.png"
        await reply(200, {"data": [{"url": link}]})(exchange)

    started = time.monotonic()

    async with scripted(slowly(own, 0.5), connections=200, generate_timeout_s=20) as (
        provider,
        upstream,
    ):
        requests = [type(KOI)("m", "k" * size, 1, "s", "q") for size in range(1, 201)]
        answers = await asyncio.gather(
            *(provider.dispatch(request, asynchronous=False) for request in requests)
        )

    got = [
        image.url for answer in answers if isinstance(answer, Finished) for image in answer.images
    ]
    assert got == [f"https://cdn.example.com/{size}.png" for size in range(1, 201)]
    assert upstream.posts == 200
    assert time.monotonic() - started < 5
