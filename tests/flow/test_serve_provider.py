"""One free request to the provider when a gateway starts: told in words, waited for by nobody."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.adapters.upstream.probe import ProbeVerdict, probe_provider
from tests.flow.command import Cli, Serving, generate, served_by
from tests.harness import quick_sandbox

KEY = "sk-upstream-0123456789abcdef"
PAGE = "<!doctype html><title>Welcome</title>"
API = {"error": {"message": "Invalid URL", "type": "invalid_request_error"}}


@dataclass
class Provider:
    """Something that answers every request alike, and remembers what it was asked."""

    status: int = 200
    body: str = '{"object": "list", "data": []}'
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    asked: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(f"{handler.command} {handler.path}")
        self.keys.append(handler.headers.get("authorization", ""))
        if self.silent:
            self.over.wait(30)
            return
        handler.send_response(self.status)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        body = self.body.encode()
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


@pytest.fixture
def provider() -> Iterator[Provider]:
    told = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.answer(self)

        def do_POST(self) -> None:
            told.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield told
        told.over.set()
        server.shutdown()


@pytest.fixture
def cli(provider: Provider, tmp_path: Path) -> Cli:
    return Cli(tmp_path, {"KOI_UPSTREAM_BASE_URL": provider.url, "KOI_UPSTREAM_API_KEY": KEY})


def told(serving: Serving) -> dict[str, Any]:
    """The one line about the provider, which names no key."""
    (line,) = serving.wait_for("provider_checked")
    assert KEY not in serving.log.read_text()
    return line


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_page_instead_of_an_api_is_one_warning_at_start(
    cli: Cli, provider: Provider, workers: str
) -> None:
    provider.status, provider.body = 404, PAGE

    with cli.forked("--workers", workers) as serving:
        line = told(serving)
        assert serving.stop() == 0

    assert line["level"] == "warning"
    assert "answers 404 without JSON" in line["found"]
    assert "KOI_UPSTREAM_BASE_URL" in line["fix"]
    assert "ending in /v1" in line["fix"]
    assert len(serving.events("provider_checked")) == 1
    assert provider.asked == ["GET /v1/models"]


def test_a_refused_key_is_one_warning_and_changes_nothing_else(
    cli: Cli, provider: Provider
) -> None:
    provider.status, provider.body = 401, json.dumps(API)

    with cli.forked() as serving:
        line = told(serving)
        ready = httpx.get(f"{serving.url}/readyz").status_code
        metrics = httpx.get(f"{serving.url}/metrics").text

    assert (line["level"], ready) == ("warning", 200)
    assert "refuses the upstream key (401)" in line["found"]
    assert "KOI_UPSTREAM_API_KEY" in line["fix"]
    names = ("koi_upstream_duration_seconds_count{", "koi_upstream_breaker_open{")
    counted = [row for row in metrics.splitlines() if row.startswith(names)]
    assert counted
    assert {row.rpartition(" ")[2] for row in counted} == {"0.0"}
    assert provider.asked == ["GET /v1/models"]


def test_a_provider_without_a_list_of_models_is_no_reason_to_worry(
    cli: Cli, provider: Provider
) -> None:
    provider.status, provider.body = 404, json.dumps(API)

    with cli.forked() as serving:
        assert told(serving)["level"] == "info"


def test_a_provider_that_works_is_said_to(tmp_path: Path) -> None:
    with quick_sandbox() as sandbox:
        settings = served_by(sandbox.url)
        cli = Cli(tmp_path, settings)
        with cli.forked() as serving:
            line = told(serving)
            answer = generate(serving.url, cli.key())

        assert (line["level"], line["fix"]) == ("info", None)
        assert answer.status_code == 200
        assert (sandbox.posts, sandbox.billed_images) == (1, 1)


def test_nobody_waits_for_a_provider_that_says_nothing(cli: Cli, provider: Provider) -> None:
    provider.silent = True

    with cli.forked() as serving:
        assert httpx.get(f"{serving.url}/readyz").status_code == 200
        assert serving.events("provider_checked") == []
        began_s = time.monotonic()
        assert serving.stop() == 0
        assert time.monotonic() - began_s < 8

    assert len(provider.asked) <= 1


@pytest.mark.parametrize(
    ("status", "body", "headers", "outlook", "says"),
    [
        (200, '{"data": []}', {}, ProbeVerdict.GOOD, "answers and knows the upstream key"),
        (200, "\ufeff [1]", {}, ProbeVerdict.GOOD, "answers and knows"),
        (200, PAGE, {}, ProbeVerdict.BAD, "answers 200 without JSON"),
        (200, "", {}, ProbeVerdict.BAD, "answers 200 without JSON"),
        (200, " " * 400_000, {}, ProbeVerdict.BAD, "answers 200 without JSON"),
        (401, json.dumps(API), {}, ProbeVerdict.BAD, "refuses the upstream key (401)"),
        (403, PAGE, {}, ProbeVerdict.BAD, "refuses the upstream key (403)"),
        (404, json.dumps(API), {}, ProbeVerdict.INCONCLUSIVE, "answers 404 for its list"),
        (404, "404 page not found", {}, ProbeVerdict.DOUBTFUL, "answers 404 without JSON"),
        (405, json.dumps(API), {}, ProbeVerdict.INCONCLUSIVE, "answers 405"),
        (429, PAGE, {}, ProbeVerdict.INCONCLUSIVE, "answers 429 now"),
        (502, PAGE, {}, ProbeVerdict.INCONCLUSIVE, "answers 502 now"),
        (
            301,
            "",
            {"location": "/v1/images/generations"},
            ProbeVerdict.BAD,
            "another address (301)",
        ),
        (
            308,
            "",
            {"location": "/v1/images/generations"},
            ProbeVerdict.BAD,
            "another address (308)",
        ),
        (
            303,
            "",
            {"location": "https://other.example/"},
            ProbeVerdict.BAD,
            "another address (303)",
        ),
    ],
)
def test_each_answer_is_told_in_words_and_asked_for_once(
    provider: Provider, status: int, body: str, headers: dict[str, str], outlook: str, says: str
) -> None:
    provider.status, provider.body, provider.headers = status, body, headers

    probed = asyncio.run(probe_provider(provider.url, KEY))

    assert (probed.verdict, probed.host) == (outlook, "127.0.0.1")
    assert says in probed.text
    assert bool(probed.fix) is (outlook is not ProbeVerdict.GOOD)
    assert provider.asked == ["GET /v1/models"]
    assert provider.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:9/v1", "cannot be reached"),
        ("https://no-such-host.invalid/v1", "cannot be resolved"),
        (f"http://{'a' * 80}.example/v1", "cannot be resolved"),
    ],
)
def test_a_provider_that_is_not_there_is_told_in_words(url: str, says: str) -> None:
    probed = asyncio.run(probe_provider(url, KEY))

    assert (probed.verdict, says in probed.text) == (ProbeVerdict.BAD, True)


def test_a_provider_without_tls_or_without_words_is_told(provider: Provider) -> None:
    plain = asyncio.run(probe_provider(provider.url.replace("http:", "https:"), KEY))
    provider.silent = True
    silent = asyncio.run(probe_provider(provider.url, KEY, timeout_s=0.3))

    assert "no valid TLS certificate" in plain.text
    assert "did not answer in time" in silent.text
