"""Statements about what a request means."""

import base64
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai

from tests.conformance.gate import MODEL, Broken, Gate, error_of, expect, expect_status, shows

WIDE = {"1792x1024": "1536x1024", "1024x1792": "1024x1536"}
QUALITIES = {
    "hd": "hd", "high": "hd", "xhigh": "hd", "max": "hd",
    "standard": "standard", "auto": "standard", "low": "standard", "medium": "standard",
}  # fmt: skip


def picture_of(item: dict[str, Any]) -> bytes:
    if item.get("b64_json"):
        return base64.b64decode(item["b64_json"])
    return expect_status(httpx.get(item["url"]), 200).content


@shows(21)
def nulls(gate: Gate) -> None:
    expect(len(gate.made(n=None, size=None, quality=None)["data"]) == 1, "not one picture")


@shows(22)
def three(gate: Gate) -> None:
    found = len({picture_of(item) for item in gate.made(n=3)["data"]})
    expect(found == 3, f"{found} pictures")


@shows(23)
def a_bad_n(gate: Gate) -> None:
    for n in (0, 11, "x"):
        answer = gate.ask(gate.body(n=n))
        expect(answer.status_code == 400, f"n={n} is a {answer.status_code}")
        expect(error_of(answer)["param"] == "n", f"n={n} is refused without naming n")


@shows(24)
def no_prompt(gate: Gate) -> None:
    for body in ({"model": MODEL}, {"model": MODEL, "prompt": "  "}):
        said = "blank" if "prompt" in body else "missing"
        answer = gate.ask(body)
        expect(answer.status_code == 400, f"a {said} prompt is a {answer.status_code}")
        error = error_of(answer)
        expect(error["param"] == "prompt", "does not name prompt")
        expect(error["code"] == "missing_required_parameter", f"its code is {error['code']}")


@shows(25)
def a_long_prompt(gate: Gate) -> None:
    answer = expect_status(gate.ask(gate.body(prompt="k" * 32_000)), 200, 400)
    if answer.status_code == 400:
        expect(any(c.isdigit() for c in error_of(answer)["message"]), "does not tell the limit")


@shows(26)
def no_model(gate: Gate) -> None:
    expect_status(gate.ask({"prompt": "a koi"}), 200)


@shows(27)
def an_unknown_model(gate: Gate) -> None:
    with gate.sdk(max_retries=0) as client:
        try:
            client.images.generate(**gate.body(model="nobody-knows"))
        except openai.NotFoundError as error:
            expect(error.code == "model_not_found", f"its code is {error.code}")
        else:
            raise Broken("is served")


@shows(28)
def retired_names(gate: Gate) -> None:
    for name in ("dall-e-2", "dall-e-3", "gpt-image-1"):
        expect(gate.ask(gate.body(model=name)).status_code == 200, f"{name} is not served")


@shows(29)
def an_odd_size(gate: Gate) -> None:
    answer = expect_status(gate.ask(gate.body(size="512x512")), 200)
    expect(answer.json().get("size"), "does not tell the size")
    expect(any("size" in value for value in answer.headers.values()), "does not tell the change")


@shows(30)
def wide_sizes(gate: Gate) -> None:
    for asked, wanted in WIDE.items():
        told = gate.made(size=asked).get("size")
        expect(told == wanted, f"{asked} becomes {told}")


@shows(31)
def auto_size(gate: Gate) -> None:
    for fields in ({"size": "auto"}, {}):
        told = gate.made(**fields).get("size")
        expect(told == "1024x1024", f"size is {told}")


@shows(33)
def qualities(gate: Gate) -> None:
    for asked, wanted in QUALITIES.items():
        gate.made(quality=asked)
        (*_, sent) = [r for r in gate.sandbox.requests if r.method == "POST"]
        found = json.loads(sent.body).get("quality", "standard")
        expect(found == wanted, f"{asked} reaches the provider as {found}")


@shows(34)
def a_strict_client(gate: Gate) -> None:
    with gate.sdk(_strict_response_validation=True, max_retries=0) as client:
        try:
            client.images.generate(**gate.body(), quality="hd", size="1536x1024")
        except openai.APIResponseValidationError:
            raise Broken("it is not content") from None


@shows(35)
def unknown_fields(gate: Gate) -> None:
    fields = {"style": "vivid", "background": "auto", "moderation": "low", "seed": 7}
    answer = expect_status(gate.ask(gate.body(**fields, user="u", stream=False)), 200)
    told = " ".join(answer.headers.values())
    expect("seed" in told and "style" in told, "no header names them")


@shows(36)
def base64_when_asked(gate: Gate) -> None:
    for item in gate.made(response_format="b64_json", n=2)["data"]:
        expect(item.get("b64_json"), "an item has a link only")


@shows(37)
def links_open(gate: Gate) -> None:
    for item in gate.made(response_format="url", n=2)["data"]:
        for headers in ({}, {"authorization": f"Bearer {gate.key}"}):
            answer = expect_status(httpx.get(item.get("url") or gate.url, headers=headers), 200)
            kind = answer.headers["content-type"]
            expect(kind.startswith("image/"), f"is {kind}")


@shows(38)
def the_name_decides(gate: Gate) -> None:
    expect(gate.made(model="gpt-image-1")["data"][0].get("b64_json"), "gpt-image-1 gets a link")
    expect(gate.made()["data"][0].get("url"), "grok-imagine gets no link")


@shows(39)
def the_revised_prompt(gate: Gate) -> None:
    expect(gate.made()["data"][0].get("revised_prompt"), "it is lost")


@shows(40)
def equal_calls_at_once(gate: Gate) -> None:
    gate.sandbox.set(latency_s=0.3)
    body = gate.body()
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: expect_status(gate.ask(body), 200).json(), range(3)))
    found = {hashlib.sha256(picture_of(a["data"][0])).digest() for a in answers}
    expect((gate.sandbox.posts, len(found)) == (3, 3), f"{len(found)} pictures")


@shows(42)
def a_dead_link_behind_base64(gate: Gate) -> None:
    gate.sandbox.script("cdn-404")
    answer = gate.ask(gate.body(response_format="b64_json"))
    expect_status(answer, 502, 504)
    expect(answer.status_code == 502 or (error_of(answer) and "task_" in answer.text), "no task")
    expect(gate.sandbox.posts == 1, f"{gate.sandbox.posts} generations")
