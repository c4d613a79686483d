"""ImageFetcher on real sockets: a loopback origin that is trusted, and a TLS one that is public."""

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.adapters.images.fetch import ImageFetcher
from app.adapters.images.guard import Egress
from app.domain.media import FetchError, FetchFailed, FetchRefused

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR" + (9).to_bytes(4, "big") * 2 + b"pixels" * 50
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes = PNG, *headers: str, status: str = "200 OK", length: bool = True) -> Answer:
    async def write(client: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status}", *headers]
        lines += [f"Content-Length: {len(body)}"] if length else ["Connection: close"]
        client.write("\r\n".join([*lines, "", ""]).encode() + body)

    return write


def redirect(location: str, status: str = "302 Found") -> Answer:
    return answer(b"", f"Location: {location}", status=status)


@dataclass
class Origin:
    """An HTTP server that says exactly what a test wants, and remembers what it was asked."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [request.split(" ")[1] for request in self.asked]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(request)
            await self.answers[self.paths[-1]](writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Origin]:
    origin = Origin()
    server = await asyncio.start_server(origin.serve, "127.0.0.1", port, ssl=tls)
    origin.port = server.sockets[0].getsockname()[1]
    async with server:
        yield origin


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with listening() as served:
        yield served


class Names:
    """A resolver that gives the listed answers, one after the other, then the last for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, _: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@asynccontextmanager
async def fetching(*trusted: str, **settings: object) -> AsyncIterator[ImageFetcher]:
    fetcher = ImageFetcher(trusted, **settings)  # type: ignore[arg-type]
    try:
        yield fetcher
    finally:
        await fetcher.close()


async def failure(fetcher: ImageFetcher, url: str) -> FetchError:
    with pytest.raises(FetchError) as failed:
        await fetcher.fetch(url)
    return failed.value


async def test_a_trusted_origin_is_fetched_over_http(origin: Origin) -> None:
    origin.answers["/a.png?sig=a%2Bb~c"] = answer()

    async with fetching(f"{origin.url}/v1") as fetcher:
        body = await fetcher.fetch(f"{origin.url}/a.png?sig=a%2Bb~c")

    assert body == PNG


async def test_a_signed_link_is_sent_as_it_was_given(origin: Origin) -> None:
    path = "/%7Ea%2fb.png?x=%20+%2B&X-Sig=%c3%a9&e="
    origin.answers[path] = answer()

    async with fetching(origin.url) as fetcher:
        await fetcher.fetch(origin.url + path)

    assert origin.paths == [path]


async def test_nothing_but_the_plain_question_is_sent(origin: Origin) -> None:
    origin.answers["/1"] = answer(PNG, "Set-Cookie: id=7")
    origin.answers["/2"] = answer()

    async with fetching(origin.url) as fetcher:
        await fetcher.fetch(f"{origin.url}/1")
        await fetcher.fetch(f"{origin.url}/2")

    fields = {line.split(":")[0].lower() for line in origin.asked[1].split("\r\n")[1:] if line}
    assert fields == {"host", "accept", "accept-encoding", "user-agent"}
    assert "Accept-Encoding: identity" in origin.asked[1]


async def test_proxies_of_the_environment_are_ignored(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin.answers["/a"] = answer()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async with fetching(origin.url) as fetcher:
        assert await fetcher.fetch(f"{origin.url}/a") == PNG


async def test_a_trusted_host_is_believed_on_every_port_but_no_other_name_is(
    origin: Origin,
) -> None:
    names = Names(["127.0.0.1"])
    async with listening() as other, fetching(origin.url, resolver=names) as fetcher:
        other.answers["/a"] = answer()
        elsewhere = await fetcher.fetch(f"{other.url}/a")
        for url in (f"http://localhost:{origin.port}/a", "http://127.0.0.2/a"):
            assert isinstance(await failure(fetcher, url), FetchRefused)

    assert elsewhere == PNG
    assert origin.asked == []


async def test_a_provider_on_https_is_never_fetched_from_in_the_clear(origin: Origin) -> None:
    async with fetching("https://127.0.0.1") as fetcher:
        assert isinstance(await failure(fetcher, f"{origin.url}/a"), FetchRefused)


async def test_an_unknown_name_is_a_failure_to_retry() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    async with fetching(resolver=unknown) as fetcher:
        assert isinstance(await failure(fetcher, "https://cdn.example.com/a"), FetchFailed)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and key for cdn.example, in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "cdn.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("cdn.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "cdn.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
async def cdn(certificate: Path) -> AsyncIterator[Origin]:
    """A TLS server; tests declare its address public and its port usual."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with listening(tls) as served:
        yield served


def public_loopback(cdn: Origin, certificate: Path | None) -> Egress:
    tls = None if certificate is None else ssl.create_default_context(cafile=str(certificate))
    return Egress(frozenset({cdn.port}), lambda address: address == "127.0.0.1", tls)


async def test_the_connection_goes_to_the_address_that_was_checked(
    cdn: Origin, certificate: Path
) -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    cdn.answers["/a"] = answer()

    async with fetching(resolver=names, egress=public_loopback(cdn, certificate)) as fetcher:
        body = await fetcher.fetch(f"https://cdn.example:{cdn.port}/a")

    assert body == PNG
    assert names.asked == ["cdn.example"]
    assert f"Host: cdn.example:{cdn.port}" in cdn.asked[0]


async def test_a_name_that_rebinds_is_checked_on_every_new_connection(
    cdn: Origin, certificate: Path
) -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    cdn.answers["/a"] = answer()

    async with fetching(resolver=names, egress=public_loopback(cdn, certificate)) as fetcher:
        await fetcher.fetch(f"https://cdn.example:{cdn.port}/a")
        refused = await failure(fetcher, f"https://cdn.example:{cdn.port}/a")

    assert isinstance(refused, FetchRefused)
    assert len(cdn.asked) == 1


async def test_a_certificate_nobody_vouches_for_is_a_failure(cdn: Origin) -> None:
    cdn.answers["/a"] = answer()

    async with fetching(
        resolver=Names(["127.0.0.1"]), egress=public_loopback(cdn, None)
    ) as fetcher:
        failed = await failure(fetcher, f"https://cdn.example:{cdn.port}/a")

    assert isinstance(failed, FetchFailed)
    assert "Certificate" in failed.reason
    assert cdn.asked == []


async def test_redirects_are_followed_three_times(origin: Origin) -> None:
    origin.answers = {
        "/0": redirect("/1", "301 Moved"),
        "/1": redirect("2?x=%2F", "307 Temporary"),
        "/2?x=%2F": redirect(f"{origin.url}/3", "308 Permanent"),
        "/3": answer(),
    }

    async with fetching(origin.url) as fetcher:
        assert await fetcher.fetch(f"{origin.url}/0") == PNG


async def test_a_redirect_loop_ends(origin: Origin) -> None:
    origin.answers["/a"] = redirect("/a")

    async with fetching(origin.url) as fetcher:
        failed = await failure(fetcher, f"{origin.url}/a")

    assert isinstance(failed, FetchFailed)
    assert len(origin.asked) == 4


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/",
        "https://127.0.0.2/",
        "https://internal.example/",
        "http://example.com/",
        "https://u:p@example.com/",
        "file:///etc/passwd",
        "https://[::1",
        "//127.0.0.2:1/",
    ],
)
async def test_a_redirect_is_judged_like_any_link(origin: Origin, location: str) -> None:
    origin.answers["/a"] = redirect(location)

    async with fetching(origin.url, resolver=Names(["10.0.0.1"])) as fetcher:
        refused = await failure(fetcher, f"{origin.url}/a")

    assert isinstance(refused, FetchRefused)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (answer(b"<!doctype html>sign in"), "not an image"),
        (answer(b""), "not an image"),
        (answer(gzip.compress(PNG), "Content-Encoding: gzip"), "content encoding"),
        (answer(PNG, "Content-Encoding: br"), "content encoding"),
        (answer(PNG + b"x" * 2000), "larger than"),
        (answer(PNG + b"x" * 2000, length=False), "larger than"),
        (answer(PNG, f"Content-Length: {len(PNG) + 9}", length=False), "connection failed"),
        (answer(b"no", status="404 Not Found"), "answered 404"),
        (answer(b"no", status="206 Partial Content"), "answered 206"),
        (answer(b"", status="302 Found"), "redirects to nowhere"),
        (answer(b"", status="200"), "not an image"),
        (answer(PNG, "X: " + "y" * 100_000), "connection failed"),
    ],
    ids=range(12),
)
async def test_a_link_without_an_image_fails(origin: Origin, given: Answer, reason: str) -> None:
    origin.answers["/a"] = given

    async with fetching(origin.url, max_bytes=2000) as fetcher:
        failed = await failure(fetcher, f"{origin.url}/a")

    assert isinstance(failed, FetchFailed)
    assert reason in failed.reason
    assert origin.url not in failed.reason


async def test_an_endless_image_is_cut_off(origin: Origin) -> None:
    sent = 0

    async def pour(client: asyncio.StreamWriter) -> None:
        nonlocal sent
        client.write(b"HTTP/1.1 200 OK\r\n\r\n" + PNG)
        while True:
            client.write(b"x" * 65536)
            sent += 65536
            await client.drain()

    origin.answers["/a"] = pour
    async with fetching(origin.url, max_bytes=100_000) as fetcher:
        failed = await failure(fetcher, f"{origin.url}/a")

    assert "larger than" in failed.reason
    assert sent < 20_000_000


async def test_a_trickle_ends_at_the_deadline(origin: Origin) -> None:
    async def trickle(client: asyncio.StreamWriter) -> None:
        client.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(100):
            client.write(b"x")
            await client.drain()
            await asyncio.sleep(0.02)

    origin.answers["/a"] = trickle
    began = time.monotonic()
    async with fetching(origin.url, timeout_s=0.2) as fetcher:
        failed = await failure(fetcher, f"{origin.url}/a")

    assert "within 0.2 s" in failed.reason
    assert time.monotonic() - began < 1


async def test_a_silent_resolver_ends_at_the_deadline() -> None:
    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(5)
        return []

    async with fetching(resolver=silent, timeout_s=0.1) as fetcher:
        failed = await failure(fetcher, "https://cdn.example.com/a.png")

    assert isinstance(failed, FetchFailed)


async def test_a_refused_connection_fails_without_naming_the_link(origin: Origin) -> None:
    async with listening() as closed:
        url = closed.url

    async with fetching(url) as fetcher:
        failed = await failure(fetcher, f"{url}/a.png?sig=secret")

    assert isinstance(failed, FetchFailed)
    assert "secret" not in failed.reason
