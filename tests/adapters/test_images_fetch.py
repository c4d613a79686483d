"""ImageFetcher on real sockets: a loopback origin that is trusted, and a TLS one that is public."""

import asyncio
import gzip
import os
import ssl
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import brotli
import pytest

from app.adapters.egress.guard import EgressPolicy
from app.adapters.http.codings import zstd
from app.adapters.images.fetch import HttpImageFetcher
from app.domain.media import FetchError, FetchFailed, FetchRefused, FetchTruncated
from tests.drafts import Brought, bring
from tests.origin import PNG, Answer, Origin, answer, listening, redirect

ENCODERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


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
async def fetching(*trusted: str, **settings: object) -> AsyncIterator[HttpImageFetcher]:
    fetcher = HttpImageFetcher(trusted, **settings)  # type: ignore[arg-type]
    try:
        yield fetcher
    finally:
        await fetcher.close()


async def failure(fetcher: HttpImageFetcher, url: str) -> FetchError:
    with pytest.raises(FetchError) as failed:
        await bring(fetcher, url)
    return failed.value


async def test_a_trusted_origin_is_fetched_over_http(origin: Origin) -> None:
    origin.answers["/a.png?sig=a%2Bb~c"] = answer()

    async with fetching(f"{origin.url}/v1") as fetcher:
        body = (await bring(fetcher, f"{origin.url}/a.png?sig=a%2Bb~c")).body

    assert body == PNG


async def test_a_signed_link_is_sent_as_it_was_given(origin: Origin) -> None:
    path = "/%7Ea%2fb.png?x=%20+%2B&X-Sig=%c3%a9&e="
    origin.answers[path] = answer()

    async with fetching(origin.url) as fetcher:
        await bring(fetcher, origin.url + path)

    assert origin.paths == [path]


async def test_nothing_but_the_plain_question_is_sent(origin: Origin) -> None:
    origin.answers["/1"] = answer(PNG, "Set-Cookie: id=7")
    origin.answers["/2"] = answer()

    async with fetching(origin.url) as fetcher:
        await bring(fetcher, f"{origin.url}/1")
        await bring(fetcher, f"{origin.url}/2")

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
        assert (await bring(fetcher, f"{origin.url}/a")).body == PNG


async def test_a_trusted_host_is_believed_on_every_port_but_no_other_name_is(
    origin: Origin,
) -> None:
    names = Names(["127.0.0.1"])
    async with listening() as other, fetching(origin.url, resolver=names) as fetcher:
        other.answers["/a"] = answer()
        elsewhere = (await bring(fetcher, f"{other.url}/a")).body
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


def public_loopback(cdn: Origin, certificate: Path | None) -> EgressPolicy:
    tls = None if certificate is None else ssl.create_default_context(cafile=str(certificate))
    return EgressPolicy(lambda address: address == "127.0.0.1", tls)


async def test_the_connection_goes_to_the_address_that_was_checked(
    cdn: Origin, certificate: Path
) -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    cdn.answers["/a"] = answer()

    async with fetching(resolver=names, egress=public_loopback(cdn, certificate)) as fetcher:
        body = (await bring(fetcher, f"https://cdn.example:{cdn.port}/a")).body

    assert body == PNG
    assert names.asked == ["cdn.example"]
    assert f"Host: cdn.example:{cdn.port}" in cdn.asked[0]


async def test_a_name_that_rebinds_is_checked_on_every_new_connection(
    cdn: Origin, certificate: Path
) -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    cdn.answers["/a"] = answer()

    async with fetching(resolver=names, egress=public_loopback(cdn, certificate)) as fetcher:
        await bring(fetcher, f"https://cdn.example:{cdn.port}/a")
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
    assert "TlsHandshakeError" in failed.reason
    assert cdn.asked == []


async def test_redirects_are_followed_three_times(origin: Origin) -> None:
    origin.answers = {
        "/0": redirect("/1", "301 Moved"),
        "/1": redirect("2?x=%2F", "307 Temporary"),
        "/2?x=%2F": redirect(f"{origin.url}/3", "308 Permanent"),
        "/3": answer(),
    }

    async with fetching(origin.url) as fetcher:
        assert (await bring(fetcher, f"{origin.url}/0")).body == PNG


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
        "http://127.0.0.2/",
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
        (answer(gzip.compress(PNG)[:-9], "Content-Encoding: gzip"), "before its end"),
        (answer(b"\x1f\x8b" + PNG, "Content-Encoding: gzip"), "not in the content coding"),
        (answer(PNG, "Content-Encoding: exi"), "does not know"),
        (answer(gzip.compress(bytes(9000)), "Content-Encoding: gzip"), "larger than"),
        (answer(PNG + b"x" * 2000), "larger than"),
        (answer(PNG + b"x" * 2000, length=False), "larger than"),
        (answer(PNG, f"Content-Length: {len(PNG) + 9}", length=False), "connection failed"),
        (answer(b"no", status="404 Not Found"), "answered 404"),
        (answer(b"no", status="206 Partial Content"), "answered 206"),
        (answer(b"", status="302 Found"), "redirects to nowhere"),
        (answer(PNG, "X: " + "y" * 100_000), "connection failed"),
    ],
    ids=range(11),
)
async def test_a_link_without_an_image_fails(origin: Origin, given: Answer, reason: str) -> None:
    origin.answers["/a"] = given

    async with fetching(origin.url, max_bytes=2000) as fetcher:
        failed = await failure(fetcher, f"{origin.url}/a")

    assert isinstance(failed, FetchFailed)
    assert reason in failed.reason
    assert origin.url not in failed.reason


@pytest.mark.parametrize("codings", ["gzip", "deflate", "br", "zstd", "gzip, br"])
async def test_a_body_that_came_encoded_unasked_is_decoded(origin: Origin, codings: str) -> None:
    body = PNG
    for coding in codings.split(", "):
        body = ENCODERS[coding](body)
    origin.answers["/a"] = answer(body, f"Content-Encoding: {codings}", length=False)

    async with fetching(origin.url) as fetcher:
        assert await bring(fetcher, f"{origin.url}/a") == Brought(PNG, told=True)


async def test_a_coding_that_was_not_applied_tells_no_end(origin: Origin) -> None:
    origin.answers["/a"] = answer(PNG, "Content-Encoding: gzip", length=False)

    async with fetching(origin.url) as fetcher:
        assert await bring(fetcher, f"{origin.url}/a") == Brought(PNG, told=False)


async def test_only_a_length_chunks_or_a_coding_tell_the_end(origin: Origin) -> None:
    async def chunked(client: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.write(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(PNG), PNG))

    origin.answers = {"/told": answer(), "/chunked": chunked, "/met": answer(length=False)}

    async with fetching(origin.url) as fetcher:
        told = {path: await bring(fetcher, origin.url + path) for path in origin.answers}

    assert {path: brought.told for path, brought in told.items()} == {
        "/told": True, "/chunked": True, "/met": False
    }  # fmt: skip
    assert {brought.body for brought in told.values()} == {PNG}


async def test_chunks_without_an_end_are_a_failure(origin: Origin) -> None:
    async def cut(client: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.write(head + b"%x\r\n%b\r\n" % (len(PNG), PNG))

    origin.answers["/a"] = cut
    async with fetching(origin.url) as fetcher:
        assert isinstance(await failure(fetcher, f"{origin.url}/a"), FetchFailed)


async def test_a_damaged_coding_is_a_cut_image(origin: Origin) -> None:
    origin.answers["/a"] = answer(gzip.compress(PNG)[:-9], "Content-Encoding: gzip")

    async with fetching(origin.url) as fetcher:
        assert isinstance(await failure(fetcher, f"{origin.url}/a"), FetchTruncated)


async def test_what_is_not_ascii_is_encoded_once_and_the_rest_stays(origin: Origin) -> None:
    sent = "/%E9%94%A6%20%C3%A9%2fb?k=%2b+%E9%B2%A4"
    origin.answers = {"/%31": redirect("/锦 é%2fb?k=%2b+鲤"), sent: answer()}

    async with fetching(origin.url) as fetcher:
        assert (await bring(fetcher, f"{origin.url}/%31")).body == PNG
        assert (await bring(fetcher, f"{origin.url}/锦 é%2fb?k=%2b+鲤")).body == PNG

    assert origin.paths == ["/%31", sent, sent]


async def test_a_redirect_keeps_its_signature_byte_by_byte(origin: Origin) -> None:
    signed = "/b.png?sig=a%2Bb%2fc+d~&e=&X-Amz-Credential=k%2F20261129%2Fr"
    origin.answers = {"/a": redirect(origin.url + signed), signed: answer()}

    async with fetching(origin.url) as fetcher:
        await bring(fetcher, f"{origin.url}/a")

    assert origin.paths == ["/a", signed]


async def test_a_plain_link_is_followed_over_tls(cdn: Origin, certificate: Path) -> None:
    cdn.answers["/a?s=%2f"] = answer()

    for plain in (False, True):
        egress = public_loopback(cdn, certificate)
        async with fetching(resolver=Names(["127.0.0.1"]), egress=egress, plain=plain) as fetcher:
            body = (await bring(fetcher, f"http://cdn.example:{cdn.port}/a?s=%2f")).body
        assert body == PNG

    assert cdn.paths == ["/a?s=%2f"] * 2


async def test_a_plain_link_is_followed_as_it_is_only_when_that_is_allowed(
    origin: Origin, certificate: Path
) -> None:
    origin.answers["/a"] = answer()
    link = f"http://cdn.example:{origin.port}/a"
    egress = public_loopback(origin, certificate)

    async with fetching(resolver=Names(["127.0.0.1"]), egress=egress) as fetcher:
        failed = await failure(fetcher, link)
    async with fetching(resolver=Names(["127.0.0.1"]), egress=egress, plain=True) as fetcher:
        body = (await bring(fetcher, link)).body

    assert isinstance(failed, FetchFailed)
    assert body == PNG
    assert origin.paths == ["/a"]


async def test_a_plain_link_to_a_private_address_is_refused_however_generous_one_is() -> None:
    async with fetching(resolver=Names(["10.0.0.1"]), plain=True) as fetcher:
        for link in ("http://cdn.example.com/a", "http://10.0.0.1/a", "http://127.0.0.1:8080/a"):
            assert isinstance(await failure(fetcher, link), FetchRefused)


async def test_a_slow_but_steady_image_may_take_longer_than_the_timeout(origin: Origin) -> None:
    body = os.urandom(8 * 80_000)

    async def steadily(client: asyncio.StreamWriter) -> None:
        client.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        for at in range(0, len(body), 80_000):  # each worth more than a second
            client.write(body[at : at + 80_000])
            await client.drain()
            await asyncio.sleep(0.15)

    origin.answers["/a"] = steadily
    async with fetching(origin.url, timeout_s=1) as fetcher:
        assert (await bring(fetcher, f"{origin.url}/a")).body == body


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
    async with fetching(origin.url, timeout_s=0.2) as fetcher:
        failed = await failure(fetcher, f"{origin.url}/a")

    assert "within 0.2 s" in failed.reason


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
