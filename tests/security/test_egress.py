"""Where Koi connects is decided by its settings alone (S1-S3, S6-S8).

Hostile rows point at a listener of this machine that must stay silent; the provider keeps what it
was sent.
"""

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.adapters.images.s3 import ObjectImageStore
from app.domain.media import ImageStoreUnavailable
from app.sandbox.server import Sandbox
from tests.flow.command import Cli, generate, served_by
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi
from tests.security.trap import Trap, eventually, trap

FIELDS = [
    "api_base", "base_url", "api_url", "endpoint", "host", "upstream", "upstream_url", "target_url",
    "url", "image_url", "image", "webhook", "webhook_url", "callback_url", "proxy", "proxies",
    "custom_llm_provider", "provider", "azure_endpoint", "metadata", "redirect_uri", "fetch",
]  # fmt: skip
HEADERS = [
    "x-portkey-custom-host", "x-custom-host", "x-upstream", "x-target-url", "x-forwarded-host",
    "x-original-host", "x-host", "forwarded", "x-original-url", "x-rewrite-url", "x-proxy-url",
    "openai-base-url", "api-base", "referer", "origin", "x-http-host-override", "via", "host",
]  # fmt: skip
PATHS = [
    "/v1/images/generations?api_base={url}",
    "/v1/images/generations?base_url={url}&url={url}",
    "//{host}/v1/images/generations",
    "/v1/{url}/images/generations",
    "/openai/deployments/{host}/images/generations",
    "/v1/proxy/{url}",
    "/v1/images/generations#@{host}",
]
SENT = {"host", "authorization", "accept", "accept-encoding", "user-agent", "content-type",
        "content-length"}  # fmt: skip


def words(template: str, silent: Trap) -> str:
    return template.format(url=silent.url, host=f"127.0.0.1:{silent.port}")


def assert_only_the_provider_was_asked(koi: Koi, silent: Trap) -> None:
    site = urlsplit(koi.sandbox.url)
    assert silent.visits == []
    for asked in koi.sandbox.requests:
        headers = dict(asked.headers)
        if asked.server == "api":
            assert headers["host"] == site.netloc
            assert asked.path.startswith(f"{site.path}/")
            assert headers["authorization"] == "Bearer sk-sandbox"
            assert headers.keys() <= SENT
            assert str(silent.port).encode() not in asked.body
        else:
            assert "authorization" not in headers


@dataclass(frozen=True)
class Post:
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    path: str = GENERATE


def post_all(koi: Koi, posts: list[Post]) -> list[httpx.Response]:
    """All at once: each is a real generation."""
    key = {"authorization": f"Bearer {koi.key()}"}

    async def crowd() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=16)
        async with httpx.AsyncClient(base_url=koi.url, timeout=60, limits=limits) as client:
            calls = [client.post(p.path, json=p.body, headers=key | p.headers) for p in posts]
            return list(await asyncio.gather(*calls))

    return asyncio.run(crowd())


def test_no_field_of_a_body_steers_the_way_out(start: Start) -> None:
    koi = start(upstream_mode="sync")
    with trap() as silent:
        shapes = (silent.url, {"url": silent.url}, [silent.url])
        posts = [
            Post({**KOI, "prompt": name, name: shapes[n % 3]}) for n, name in enumerate(FIELDS)
        ]
        posts.append(Post({**KOI, "prompt": "all", **dict.fromkeys(FIELDS, silent.url)}))
        answers = post_all(koi, posts)

        refused = {p.body["prompt"] for p, a in zip(posts, answers, strict=True) if a.is_error}
        assert {answer.status_code for answer in answers} == {200, 400}
        # Reference images, which no model takes, and a receiver that is no https URL.
        assert refused == {"image", "image_url", "webhook", "all"}
        assert_only_the_provider_was_asked(koi, silent)
    assert koi.sandbox.posts == len(posts) - len(refused)


def test_no_known_field_holds_a_destination(koi: Koi) -> None:
    """A link in a prompt is a prompt, as a model or format it is refused by name; as a quality it
    is the default's other name."""
    with trap() as silent, koi.client() as client:
        prompt = client.post(GENERATE, json={**KOI, "prompt": silent.url})
        statuses = {
            name: client.post(GENERATE, json={**KOI, name: silent.url}).status_code
            for name in ("model", "size", "quality", "response_format")
        }
        assert silent.visits == []

    assert prompt.status_code == 200
    assert koi.sandbox.posts == 2
    assert statuses == {"model": 404, "size": 400, "quality": 200, "response_format": 400}


def test_no_header_or_path_steers_the_way_out(start: Start) -> None:
    koi = start(upstream_mode="sync")
    with trap() as silent:
        site = f"127.0.0.1:{silent.port}"
        values = (silent.url, site, f"host={site}")
        posts = [
            Post({**KOI, "prompt": name}, {name: values[n % 3]}) for n, name in enumerate(HEADERS)
        ]
        posts += [Post({**KOI, "prompt": f"{name} again"}, {name: site}) for name in HEADERS[:6]]
        posts += [Post({**KOI, "prompt": path}, path=words(path, silent)) for path in PATHS]
        answers = post_all(koi, posts)

        assert_only_the_provider_was_asked(koi, silent)
    assert koi.sandbox.posts == sum(answer.status_code == 200 for answer in answers)
    assert koi.sandbox.posts >= len(HEADERS) - 1


@pytest.mark.parametrize("fault", ["redirect", "hostile-id", "url-http", "cdn-redirect"])
def test_no_answer_of_the_provider_leads_elsewhere(start: Start, fault: str) -> None:
    """S2, S9: neither a redirect nor an id nor a link; nothing is sent there, no key above all."""
    koi = start(collect_wait_s=2)
    with trap() as silent, koi.client() as client:
        arguments = {"redirect": silent.url, "hostile-id": f"../../@127.0.0.1:{silent.port}/x",
                     "cdn-redirect": f"http://localhost:{silent.port}/a.png"}  # fmt: skip
        name = f"{fault}={arguments[fault]}" if fault in arguments else fault
        koi.sandbox.script(name)
        answer = client.post(GENERATE, json=KOI)

        assert answer.status_code in (400, 502, 504)
        assert_only_the_provider_was_asked(koi, silent)
    assert koi.sandbox.posts == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine that only SSL_CERT_FILE would vouch for, and its key."""
    x509 = pytest.importorskip("cryptography.x509")
    import ipaddress

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stranger")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "stranger.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def server_side(certificate: Path) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    return tls


def hostile_environment(silent: Trap, certificate: Path) -> dict[str, str]:
    """What a container's environment may hold: proxies, and whom to believe."""
    proxies = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
    return {
        **dict.fromkeys(proxies, silent.url),
        "NO_PROXY": "",
        "no_proxy": "",
        "SSL_CERT_FILE": str(certificate),
        "SSL_CERT_DIR": str(certificate.parent),
        "REQUESTS_CA_BUNDLE": str(certificate),
        "OPENAI_BASE_URL": silent.url,
        "OPENAI_API_BASE": silent.url,
    }


def test_the_environment_neither_reroutes_a_gateway_nor_says_whom_to_believe(
    sandbox: Sandbox, tmp_path: Path, certificate: Path
) -> None:
    with trap() as proxy, trap(tls=server_side(certificate)) as stranger:
        settings = served_by(sandbox.url)
        cli = Cli(tmp_path, {**settings, **hostile_environment(proxy, certificate)})
        key = cli.key()
        with cli.serving() as serving:
            good = generate(serving.url, key)
            link = f"https://127.0.0.1:{stranger.port}/a.png"
            generate(serving.url, key, f"[fault:url-private={link}] a koi", **{"async": True})
            eventually(lambda: stranger.knocks > 0)
            told = cli.process("doctor", "--json").stdout
        cli.settings["KOI_UPSTREAM_BASE_URL"] = f"https://127.0.0.1:{stranger.port}/v1"
        with cli.serving() as serving:
            unbelieved = generate(serving.url, key, "to a stranger")

        assert proxy.visits == []
        assert stranger.visits == []
    assert good.status_code == 200
    assert unbelieved.json()["error"]["code"] == "upstream_tls"
    assert '"fail"' not in told


async def test_pictures_go_to_the_bucket_and_not_to_a_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("obstore")
    keys = {"access_key_id": "key", "secret_access_key": "word"}
    with trap() as proxy, trap() as bucket:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        store = ObjectImageStore.open("s3://koi/p", endpoint=bucket.url, region="x", **keys)
        with pytest.raises(ImageStoreUnavailable):
            await store.check()
        await store.close()

        assert bucket.knocks > 0
        assert proxy.visits == []


def test_what_leaves_is_written_anew_from_what_was_understood(koi: Koi) -> None:
    """S6, S7: neither raw bytes nor headers of a caller reach the provider."""
    raw = b'{ "async":false, "prompt" : "a k\\u006fi", "model":"dall-e-3", "x": {"y": [1]},"n":1 }'
    own: dict[str, Any] = {
        "content-type": "application/json", "cookie": "a=b", "idempotency-key": "mine-1",
        "x-forwarded-for": "10.0.0.1", "openai-organization": "org-1", "x-request-id": "mine",
        "accept-encoding": "gzip, br", "user-agent": "evil/1", "traceparent": "00-1-1-01",
    }  # fmt: skip
    with koi.client() as client:
        assert client.post(GENERATE, content=raw, headers=own).status_code == 200

    (asked,) = [r for r in koi.sandbox.requests if r.method == "POST"]
    headers = dict(asked.headers)
    assert headers.keys() == SENT
    assert (headers["user-agent"], headers["accept-encoding"]) == ("koi/1", "identity")
    assert json.loads(asked.body) == {
        "model": "grok-imagine", "prompt": "a koi", "n": 1, "size": "1024x1024",
        "quality": "standard", "response_format": "url", "async": True,
    }  # fmt: skip
