"""Edits and reference images: both SDKs, forms and JSON, what they cost, and what repeats them."""

import base64
import csv
import hashlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from app.adapters.images.reference_spool import MAX_SPOOLED_BYTES
from app.domain.attribution import Attribution
from app.domain.limits import Limits
from tests.flow import test_sdk_node
from tests.flow.studio import (
    EDITS,
    FREE_INPUTS,
    GENERATE,
    SEEDREAM,
    TEXT_ONLY,
    Studio,
    digest,
    house,
    open_references,
    picture,
    studio,
    uri,
)
from tests.flow.test_metering import sample
from tests.store_node import until

__all__ = ["house", "studio"]
RED, BLUE = picture("red"), picture("blue", "JPEG")
DRY = "?dry_run=true"


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": SEEDREAM, "prompt": "a koi like this one", **fields}


# As clients send them


def test_openais_python_sdk_edits_one_picture_and_several(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "koi.png").write_bytes(RED)
    sdk = studio.sdk()
    with (tmp_path / "koi.png").open("rb") as file:
        edited = sdk.images.edit(model=SEEDREAM, prompt="as a koi", image=file, size="2K", n=1)
    several = sdk.images.edit(
        model=SEEDREAM, prompt="both", image=[("a", RED), ("../../b", BLUE, "text/html")]
    )

    for answer in (edited, several):
        assert httpx.get(answer.data[0].url).content.startswith(b"\xff\xd8\xff")
    assert studio.sent[-2:] == [(digest(RED),), (digest(RED), digest(BLUE))]


def test_openais_python_sdk_streams_an_edit(studio: Studio) -> None:
    events = studio.sdk().images.edit(
        model=SEEDREAM, prompt="streamed", image=("koi.png", RED), stream=True
    )

    assert [event.type for event in events] == ["image_edit.completed"]


@test_sdk_node.pytestmark
def test_an_edit_says_for_whom_and_for_what_it_is(studio: Studio) -> None:
    sdk = studio.sdk().with_options(project="proj_web")
    sdk.images.edit(
        model=SEEDREAM, prompt="for mia", image=("koi.png", RED), user="mia",
        extra_headers={"x-koi-tag": "edited"},
    )  # fmt: skip
    studio.koi.settled()

    assert studio.koi.entries()[-1].attribution == Attribution("proj_web", "edited", "mia")


def test_openais_node_sdk_edits(studio: Studio) -> None:
    seen = test_sdk_node.caller(studio.koi, "edit", base64.b64encode(RED).decode())

    assert (seen["images"], seen["events"]) == (2, ["image_edit.completed"])
    assert seen["bytes"] > 1000
    assert studio.sent[-3:] == [(digest(RED),) * 2, (digest(RED),) * 2, (digest(RED),)]


@test_sdk_node.pytestmark
def test_a_browsers_form_with_empty_fields_edits_with_the_first_model_that_can(
    studio: Studio,
) -> None:
    seen = test_sdk_node.caller(studio.koi, "form", base64.b64encode(RED).decode())

    assert seen["status"] == 200, seen
    assert studio.sent[-1] == (digest(RED),)
    assert studio.sandbox.bill()[-1].model == SEEDREAM


@pytest.mark.parametrize(
    ("route", "fields", "expected"),
    [
        (EDITS, {"image": uri(RED)}, (digest(RED),)),
        (EDITS, {"images": [uri(BLUE, "png"), uri(RED)]}, (digest(BLUE), digest(RED))),
        (EDITS, {"images": [{"image_url": uri(RED)}]}, (digest(RED),)),
        (EDITS, {"image": {"type": "image_url", "image_url": {"url": uri(RED)}}}, (digest(RED),)),
        (EDITS, {"image": {"url": "https://a.example/a.png?b=1"}}, ("https://a.example/a.png?b=1",)),
        (GENERATE, {"image": uri(RED)}, (digest(RED),)),
        (GENERATE, {"reference_images": [uri(RED), "https://a.example/b"]},
         (digest(RED), "https://a.example/b")),
        (GENERATE, {"input_image": "", "image": [None, uri(RED)], "mask": None}, (digest(RED),)),
    ],
    ids=range(8),
)  # fmt: skip
def test_json_may_hold_data_uris_and_urls(
    studio: Studio, route: str, fields: dict[str, Any], expected: tuple[str, ...]
) -> None:
    with studio.client() as client:
        answer = client.post(route, json=ask(**fields))

    assert answer.status_code == 200, answer.text
    assert studio.sent[-1] == expected


def test_one_picture_is_sent_as_a_text_and_several_as_a_list(studio: Studio) -> None:
    with studio.client() as client:
        client.post(EDITS, json=ask(image=uri(RED)))
        client.post(EDITS, json=ask(image=[uri(RED), "https://a.example/c"]))
    posted = [request.body for request in studio.sandbox.requests if request.method == "POST"]
    one, two = posted[-2:]

    assert f'"image":"{uri(RED)}"'.encode() in one
    assert f'"image":["{uri(RED)}","https://a.example/c"]'.encode() in two


@pytest.mark.parametrize("escape", [
    lambda text: text.replace("/", "\\/"),
    lambda text: text.replace("+", "\\u002b").replace("=", "\\u003D"),
    lambda text: "\\r\\n".join(text[at : at + 70] for at in range(0, len(text), 70)),
])  # fmt: skip
def test_long_json_may_be_escaped_as_its_writer_likes(studio: Studio, escape: Any) -> None:
    body = picture("green", noise=700_000)
    head, _, digits = uri(body).partition(",")
    text = f'{{"model": "{SEEDREAM}", "prompt": "a \\"koi\\"", "image": "{head},{escape(digits)}"}}'
    with studio.client() as client:
        answer = client.post(GENERATE, content=text, headers={"content-type": "application/json"})

    assert answer.status_code == 200, answer.text
    assert studio.sent[-1] == (digest(body),)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_picture_is_sent_as_what_it_is_whatever_its_sender_calls_it(
    studio: Studio, form: str
) -> None:
    body = picture(form=form)
    with studio.client() as client:
        answer = client.post(
            EDITS, data=ask(), files={"image": ("koi.pdf", body, "application/pdf")}
        )

    # The sandbox decodes it and refuses another type than the true one.
    assert answer.status_code == 200, answer.text
    assert studio.sent[-1] == (digest(body),)


# What they cost


def test_input_images_are_priced_told_and_metered_as_the_provider_bills_them(
    studio: Studio,
) -> None:
    before, posts, booked = bill(studio), studio.sandbox.posts, metered(studio)
    with studio.client() as client:
        dry = client.post(EDITS + DRY, json=ask(image=[uri(RED), uri(BLUE)], n=3)).json()
        bought = client.post(EDITS, data=ask(n="3"), files=[
            ("image[]", ("a.png", RED)), ("image[]", ("b.jpg", BLUE))
        ])  # fmt: skip
        model = client.get(f"/v1/models/{SEEDREAM}").json()["capabilities"]

    assert (dry["unit_cost"], dry["cost"], dry["refused"]) == ("0.24", "0.72", False)
    assert bought.headers["x-koi-cost"] == "0.72"
    assert len(bought.json()["data"]) == 3
    assert studio.sandbox.posts - posts == 3, "each call carries the pictures, so each makes one"
    assert bill(studio) - before == Decimal("0.72")
    assert metered(studio) - booked == Decimal("0.72")
    assert (model["references"], model["reference_price"]) == (14, "0.05")


def metered(studio: Studio) -> Decimal:
    return Decimal(sum(entry.micros or 0 for entry in studio.koi.entries())) / 1_000_000


def bill(studio: Studio) -> Decimal:
    rows = csv.DictReader(io.StringIO(studio.sandbox.fee_details()))
    return sum((Decimal(row["Amount"]) for row in rows), Decimal(0))


def test_input_images_without_a_price_cost_nothing_and_take_one_call(studio: Studio) -> None:
    before, posts = bill(studio), studio.sandbox.posts
    with studio.client() as client:
        bought = client.post(EDITS, json=ask(model=FREE_INPUTS, image=uri(RED), n=3))

    assert bought.headers["x-koi-cost"] == "0.42"
    assert (bill(studio) - before, studio.sandbox.posts - posts) == (Decimal("0.42"), 1)


def test_a_budget_counts_the_input_images_before_anything_is_sent(studio: Studio) -> None:
    posts = studio.sandbox.posts
    with studio.client(limits=Limits(micros_per_day=200_000)) as client:
        refused = client.post(EDITS, json=ask(image=[uri(RED), uri(BLUE)]))
        fits = client.post(EDITS, json=ask(image=uri(RED)))

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    assert fits.status_code == 200
    assert studio.sandbox.posts - posts == 1


# Repeats


def test_the_same_pictures_are_cached_by_content_however_they_come(studio: Studio) -> None:
    posts = studio.sandbox.posts
    ordered = {"prompt": "cached"}
    with studio.client() as client:
        client.post(EDITS, json=ask(image=[uri(RED), uri(BLUE)], **ordered))
        time.sleep(2.1)
        by_form = client.post(EDITS, data=ask(**ordered), files=[
            ("image[]", ("other.gif", RED, "image/gif")), ("image[]", ("x", BLUE))
        ])  # fmt: skip
        time.sleep(2.1)
        by_generation = client.post(
            GENERATE, json=ask(reference_images=[uri(RED, "webp"), uri(BLUE)], **ordered)
        )
        other_order = ask(image=[uri(BLUE), uri(RED)], **ordered)
        other = client.post(EDITS + DRY, json=other_order).json()

    assert [by_form.headers["x-koi-cache"], by_generation.headers["x-koi-cache"]] == ["hit", "hit"]
    assert by_form.headers["x-koi-cost"] == "0.00"
    assert other["cache"] == "miss"
    assert studio.sandbox.posts - posts == 1


def both_of(
    studio: Studio, first: Callable[[], httpx.Response], again: Callable[[], httpx.Response]
) -> tuple[httpx.Response, httpx.Response]:
    """Their answers: the second is asked for while the first is made, so that nobody has it yet."""
    posts = studio.sandbox.posts
    studio.sandbox.set(latency_s=60)
    with ThreadPoolExecutor() as pool:
        one = pool.submit(first)
        until(lambda: studio.sandbox.posts > posts, "the provider has the first")
        two = pool.submit(again)
        until(lambda: studio.koi.in_flight() == 2, "both wait")
        studio.sandbox.set(latency_s=None)
        studio.sandbox.advance(60)
        return one.result(), two.result()


def test_an_sdks_retry_of_an_edit_joins_its_job_and_another_picture_is_another(
    studio: Studio,
) -> None:
    posts = studio.sandbox.posts
    retry = {"x-stainless-retry-count": "1", "cache-control": "no-store"}
    with studio.client() as client:

        def edit(body: bytes, **headers: str) -> httpx.Response:
            files = {"image": ("koi.png", body)}
            return client.post(EDITS, data=ask(prompt="again"), files=files, headers=headers)

        first, again = both_of(
            studio,
            lambda: edit(RED, **{"cache-control": "no-store"}),
            lambda: edit(RED, **retry),
        )
        other = edit(BLUE, **retry)

    tasks = [answer.headers["x-koi-task-id"] for answer in (first, again, other)]
    assert tasks[0] == tasks[1] != tasks[2]
    assert studio.sandbox.posts - posts == 2


def test_an_idempotency_key_knows_its_pictures(studio: Studio) -> None:
    key = {"idempotency-key": "edit-4711"}
    with studio.client() as client:
        first = client.post(EDITS, json=ask(image=uri(RED)), headers=key)
        files = {"image": ("koi.png", RED)}
        same = client.post(EDITS, data=ask(), files=files, headers=key)
        reused = client.post(EDITS, json=ask(image=uri(BLUE)), headers=key)

    assert first.headers["x-koi-task-id"] == same.headers["x-koi-task-id"]
    assert (reused.status_code, reused.json()["error"]["code"]) == (422, "idempotency_key_reuse")


def test_an_upload_that_was_let_in_is_not_refused_because_of_the_next(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = "app.adapters.images.reference_spool"
    monkeypatch.setattr(f"{references}.SHARES", MAX_SPOOLED_BYTES // 3_500_000)
    second_is_here, first_is_made = threading.Event(), threading.Event()
    before = busy(studio)

    def upload(client: httpx.Client, begun: threading.Event, go_on: threading.Event) -> int:
        files = {"image": ("koi.png", picture(noise=2_000_000))}
        form = client.build_request("POST", EDITS, data=ask(), files=files)
        body = form.read()

        def pieces() -> Iterator[bytes]:
            yield body[:1_700_000]
            begun.set()
            assert go_on.wait(20)
            until(lambda: busy(studio) > before, "the other one is refused")
            yield body[1_700_000:]

        return client.post(EDITS, content=pieces(), headers=form.headers).status_code

    with studio.client() as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(upload, client, threading.Event(), second_is_here)
        deadline = time.monotonic() + 10
        while not open_references():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        second = pool.submit(upload, client, second_is_here, first_is_made)
        made = first.result()
        first_is_made.set()

    assert (made, second.result()) == (200, 503)


def busy(studio: Studio) -> float:
    text = httpx.get(f"{studio.koi.url}/metrics").text
    return sample(text, "koi_refusals_total", code="overloaded")


@pytest.mark.parametrize("headers", [
    {"idempotency-key": "edit-4712", "cache-control": "no-store"},
    {"x-stainless-retry-count": "1", "cache-control": "no-store"},
], ids=["key", "retry"])  # fmt: skip
def test_a_repeat_with_a_picture_in_a_field_that_nobody_reads_is_still_a_repeat(
    studio: Studio, headers: dict[str, str]
) -> None:
    posts = studio.sandbox.posts
    image = uri(picture(noise=800_000))
    order = ask(image=image, metadata={"thumbnail": uri(RED), uri(BLUE): 1})
    with studio.client() as client:
        first, again = both_of(
            studio, *(lambda: client.post(EDITS, json=order, headers=headers),) * 2
        )
        order["metadata"] = {"thumbnail": uri(BLUE)}
        other = client.post(EDITS, json=order, headers=headers)

    tasks = [answer.headers.get("x-koi-task-id") for answer in (first, again, other)]
    assert tasks[0] == tasks[1] != tasks[2]
    assert studio.sandbox.posts - posts == (1 if other.status_code == 422 else 2)


def test_a_task_of_an_edit_runs_without_its_caller(studio: Studio) -> None:
    with studio.client() as client:
        task = client.post(EDITS, json=ask(image=uri(RED), **{"async": True})).json()
        done = client.get(f"/v1/tasks/{task['id']}?wait=20").json()

    assert done["status"] == "completed"


def test_requests_without_pictures_keep_their_place_in_the_cache() -> None:
    from app.domain.images import GenerationRequest

    asked = GenerationRequest("m", "p", 1, "1x1", "hd")
    text = '["user:a", "m", "p", 1, "1x1", "hd"]'

    assert asked.fingerprint("user:a") == hashlib.sha256(text.encode()).hexdigest()


def test_a_strict_sdk_gets_an_error_that_names_the_models_that_can(studio: Studio) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        studio.sdk().images.edit(model=TEXT_ONLY, prompt="a koi", image=("koi.png", RED))

    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "image")
    assert SEEDREAM in caught.value.message
