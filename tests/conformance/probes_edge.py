"""Statements about paths, keys, transport, models and browsers."""

import contextlib
import io
import json
import socket
import time
from urllib.parse import urlsplit

import httpx
import openai

from tests.conformance.gate import (
    MODEL,
    PATH,
    Broken,
    Gate,
    error_of,
    expect,
    expect_status,
    shows,
)

LARGEST = 4_000_000_000
IDLE_S = 61
SDK_HEADERS = (
    "accept", "authorization", "content-type", "x-stainless-arch", "x-stainless-lang",
    "x-stainless-os", "x-stainless-package-version", "x-stainless-retry-count",
    "x-stainless-runtime", "x-stainless-runtime-version", "openai-organization", "openai-project",
)  # fmt: skip


@shows(1)
def a_generation_answers(gate: Gate) -> None:
    answer = gate.made()
    expect(isinstance(answer.get("created"), int), "created is no integer")
    expect(isinstance(answer.get("data"), list) and answer["data"], "data is no list")


def _at(gate: Gate, path: str) -> None:
    expect_status(gate.ask(gate.body(), path), 200)


@shows(2)
def without_v1(gate: Gate) -> None:
    _at(gate, "/images/generations")


@shows(3)
def base_url_with_a_slash(gate: Gate) -> None:
    with gate.sdk(base_url=f"{gate.url}/v1/") as client:
        expect(client.images.generate(**gate.body()).data, "no data")


@shows(4)
def v1_twice(gate: Gate) -> None:
    _at(gate, f"/v1{PATH}")


@shows(5)
def two_slashes(gate: Gate) -> None:
    _at(gate, f"/{PATH}")


@shows(6)
def a_slash_at_the_end(gate: Gate) -> None:
    _at(gate, f"{PATH}/")


@shows(7)
def the_azure_class(gate: Gate) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=gate.url, api_key=gate.key, api_version="2024-02-01", max_retries=0
    ) as client:
        expect(client.images.generate(**gate.body()).data, "no data")


@shows(8)
def bearer_in_small_letters(gate: Gate) -> None:
    headers = {"authorization": f"bearer {gate.key}"}
    expect_status(gate.ask(gate.body(), headers=headers), 200)


@shows(9)
def no_key(gate: Gate) -> None:
    answer = expect_status(gate.ask(gate.body(), headers={"authorization": None}), 401)
    error_of(answer)
    expect(answer.headers.get("x-should-retry") == "false", "does not say x-should-retry: false")


@shows(10)
def an_unknown_key(gate: Gate) -> None:
    with gate.sdk(api_key="sk-nobody", max_retries=0) as client:
        try:
            client.images.generate(**gate.body())
        except openai.AuthenticationError as error:
            expect(error.code == "invalid_api_key", f"its code is {error.code}")
        else:
            raise Broken("is let in")


@shows(12)
def the_callers_key_stays(gate: Gate) -> None:
    gate.made()
    (sent,) = [request for request in gate.sandbox.requests if request.method == "POST"]
    text = repr(sent)
    expect(gate.key not in text, "the provider gets it")
    expect(gate.sandbox.key in text, "the provider's own key is missing")


@shows(13)
def organization_and_project(gate: Gate) -> None:
    with gate.sdk(organization="o", project="p", default_headers={"x-any": "1"}) as client:
        expect(client.images.generate(**gate.body()).data, "no data")


@shows(14)
def no_content_type(gate: Gate) -> None:
    text = json.dumps(gate.body()).encode()
    expect_status(gate.ask(text), 200)
    expect_status(gate.ask(text, headers={"content-type": "text/plain"}), 200)


@shows(15)
def a_chunked_body(gate: Gate) -> None:
    text = json.dumps(gate.body()).encode()
    pieces = (text[i : i + 7] for i in range(0, len(text), 7))
    expect_status(gate.ask(pieces, headers={"content-type": "application/json"}), 200)


def _refused_as_invalid(gate: Gate, body: bytes) -> None:
    answer = expect_status(gate.ask(body, headers={"content-type": "application/json"}), 400)
    kind = error_of(answer)["type"]
    expect(kind == "invalid_request_error", f"its type is {kind}")


@shows(16)
def no_json(gate: Gate) -> None:
    _refused_as_invalid(gate, b'{"model": "grok-imagine", "prompt": ')


@shows(17)
def a_list_as_body(gate: Gate) -> None:
    _refused_as_invalid(gate, b'["a koi"]')
    _refused_as_invalid(gate, b'"a koi"')


@contextlib.contextmanager
def _wire(gate: Gate):  # type: ignore[no-untyped-def]
    parts = urlsplit(gate.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=5) as wire:
        yield wire


def _head(gate: Gate, method: str, path: str, *lines: str) -> bytes:
    host = urlsplit(gate.url).netloc
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {gate.key}"]
    return "\r\n".join([*head, *lines, "", ""]).encode()


@shows(18)
def a_body_beyond_the_limit(gate: Gate) -> None:
    """Announced only: whoever waits for four gigabytes has no limit."""
    lines = ("Content-Type: application/json", f"Content-Length: {LARGEST}")
    with _wire(gate) as wire:
        wire.sendall(_head(gate, "POST", PATH, *lines) + b"{")
        try:
            answer = wire.recv(65_536)
        except TimeoutError:
            raise Broken("waits for 4 GB") from None
    expect(b" 413 " in answer[:20], f"answered {answer[9:12].decode()}")
    expect(b'"error"' in answer, "413 without an error object")


@shows(19, slow=True)
def an_idle_connection(gate: Gate) -> None:
    with _wire(gate) as wire:
        for pause_s in (0, IDLE_S):
            time.sleep(pause_s)
            with contextlib.suppress(OSError):
                wire.sendall(_head(gate, "GET", "/v1/models"))
                if wire.recv(65_536).startswith(b"HTTP/1.1 200"):
                    continue
            raise Broken(f"is closed within {IDLE_S} s")


@shows(20)
def unknown_paths_and_methods(gate: Gate) -> None:
    code = error_of(expect_status(gate.get("/v1/nowhere"), 404))["code"]
    expect(code == "unknown_url", f"the code of the 404 is {code}")
    error_of(expect_status(gate.get(PATH), 405))


@shows(86)
def an_edit(gate: Gate) -> None:
    with gate.sdk(max_retries=0) as client:
        try:
            answer = client.images.edit(model=MODEL, prompt="a koi", image=io.BytesIO(b"x" * 999))
        except openai.BadRequestError as error:
            expect(error.code or error.param, "the 400 does not say why")
        else:
            expect(answer.data, "a 200 without a picture")


@shows(87)
def the_models(gate: Gate) -> None:
    listed = expect_status(gate.get("/v1/models"), 200).json()
    expect(listed["object"] == "list", "object is not list")
    for model in listed["data"]:
        lacks = {"id", "object", "created", "owned_by"} - model.keys()
        expect(not lacks, f"a model lacks {', '.join(sorted(lacks))}")


@shows(88)
def a_model_with_a_slash(gate: Gate) -> None:
    expect_status(gate.get("/v1/models/xai%2Fgrok-imagine"), 200)


@shows(89)
def a_browser(gate: Gate) -> None:
    origin = {"Origin": "https://page.example"}
    asked = {
        **origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": ",".join(SDK_HEADERS),
    }
    preflight = httpx.options(gate.url + PATH, headers=asked)
    expect_status(preflight, 200, 204)
    allowed = preflight.headers.get("access-control-allow-headers", "").lower()
    missing = [name for name in SDK_HEADERS if name not in allowed and allowed != "*"]
    expect(not missing, f"does not allow {', '.join(missing[:3])}")
    refused = gate.ask(gate.body(n=0), headers=origin)
    expect(refused.headers.get("access-control-allow-origin"), "an error cannot be read")
    exposed = refused.headers.get("access-control-expose-headers", "").lower()
    for name in ("x-request-id", "retry-after", "x-ratelimit-limit-images"):
        expect(name in exposed or exposed == "*", f"does not expose {name}")


@shows(90)
def the_request_id(gate: Gate) -> None:
    with gate.sdk() as client:
        raw = client.images.with_raw_response.generate(**gate.body())
    told = raw.headers.get("x-request-id")
    expect(told, "no x-request-id")
    expect(raw.parse()._request_id == told, "the SDK has another one")
