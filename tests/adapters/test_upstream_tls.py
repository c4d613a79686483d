"""TLS to the provider: who is believed, and that nothing is sent to anybody else."""

import asyncio
import datetime
import ssl
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.adapters.http.client import REST_S
from app.adapters.http.errors import ConnectError, TlsHandshakeError
from app.adapters.http.messages import HttpRequest
from app.adapters.http.send_state import SendState
from app.adapters.http.tls import public_tls_context
from app.adapters.http.urls import parse_url
from app.adapters.upstream.transport import open_transport
from app.domain.upstream import TaskImages
from tests.adapters.upstream_script import (
    DONE,
    KOI,
    P0,
    Scripted,
    head,
    listening,
    provider_at,
    refused,
    reply,
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
            first = await provider.dispatch(KOI, asynchronous=False)
            await asyncio.sleep(2 * REST_S)
            second = await provider.dispatch(KOI, asynchronous=False)

    assert isinstance(first, TaskImages)
    assert isinstance(second, TaskImages)
    assert upstream.connections == 1


async def test_a_self_signed_certificate_is_refused_at_once(tmp_path: Path) -> None:
    async with listening(reply(200, DONE), tls=serving(certificate(tmp_path))) as upstream:
        assert await tls_failure(upstream, None) == []


async def test_another_hosts_certificate_is_refused_at_once(tmp_path: Path) -> None:
    path = certificate(tmp_path, ip="127.0.0.9")

    async with listening(reply(200, DONE), tls=serving(path)) as upstream:
        assert await tls_failure(upstream, trusting(path)) == []


async def test_an_expired_certificate_is_refused_at_once(tmp_path: Path) -> None:
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


async def test_a_server_without_tls_is_refused_at_once() -> None:
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


async def test_a_tls_failure_is_a_connect_error_of_its_own(tmp_path: Path) -> None:
    assert issubclass(TlsHandshakeError, ConnectError)
    async with listening(reply(200, DONE), tls=serving(certificate(tmp_path))) as upstream:
        transport = open_transport()
        request = HttpRequest("GET", parse_url(f"https://127.0.0.1:{upstream.port}/"))

        with pytest.raises(TlsHandshakeError):
            await transport.send(request, SendState())

        await transport.close()


def test_session_keys_are_not_written_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))

    context = public_tls_context()

    assert context.keylog_filename is None
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert not (tmp_path / "keys").exists()
