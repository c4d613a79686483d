"""What a picture costs: asked before it is bought, and told with the answer."""

import time

from app.domain.limits import Limits
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi

DRY = f"{GENERATE}?dry_run=true"


def test_a_dry_run_tells_the_price_and_buys_nothing(koi: Koi) -> None:
    with koi.client() as client:
        answer = client.post(DRY, json={**KOI, "n": 3})
        estimate = answer.json()

    assert answer.status_code == 200
    assert estimate["object"] == "image_generation.estimate"
    assert (estimate["cost"], estimate["unit_cost"], estimate["n"]) == ("0.42", "0.14", 3)
    assert (estimate["cache"], estimate["refused"]) == ("miss", False)
    assert koi.sandbox.posts == 0
    assert koi.audit().open_jobs == 0
    assert koi.entries() == []


def test_a_dry_run_foresees_that_the_cache_answers(koi: Koi) -> None:
    with koi.client() as client:
        client.post(GENERATE, json=KOI)
        time.sleep(2.1)
        estimate = client.post(DRY, json=KOI).json()
        hit = client.post(GENERATE, json=KOI)

    assert (estimate["cache"], estimate["cost"], estimate["refused"]) == ("hit", "0.00", False)
    assert hit.headers["x-koi-cache"] == "hit"


def test_a_dry_run_names_the_limit_that_refuses_and_so_does_the_purchase(koi: Koi) -> None:
    key = koi.key(limits=Limits(images_per_day=2))
    with koi.client(key) as client:
        fits = client.post(DRY, json={**KOI, "n": 2}).json()
        estimate = client.post(DRY, json={**KOI, "n": 3}).json()
        refused = client.post(GENERATE, json={**KOI, "n": 3})

    assert not fits["refused"]
    (limit,) = estimate["refused_by"]
    assert (limit["scope"], limit["meter"], limit["window"]) == ("key", "images", "day")
    assert refused.status_code == 429
    assert koi.sandbox.posts == 0


def test_a_bad_request_is_refused_dry_as_well(koi: Koi) -> None:
    with koi.client() as client:
        no_prompt = client.post(DRY, json={"model": "grok-imagine"})
        misspelt = client.post(f"{GENERATE}?dry_run=yess", json=KOI)

    assert no_prompt.json()["error"]["param"] == "prompt"
    assert (misspelt.status_code, misspelt.json()["error"]["param"]) == (400, "dry_run")
    assert koi.sandbox.posts == 0


def test_answers_say_what_they_cost(koi: Koi) -> None:
    with koi.client() as client:
        bought = client.post(GENERATE, json={**KOI, "n": 2})
        time.sleep(2.1)
        hit = client.post(GENERATE, json={**KOI, "n": 2})
        task = client.get(f"/v1/tasks/{bought.headers['x-koi-task-id']}")
        failed = client.post(GENERATE, json={**KOI, "prompt": "a [fault:moderation-400]"})
        none = client.get(f"/v1/tasks/{failed.headers['x-koi-task-id']}")

    assert bought.headers["x-koi-cost"] == task.headers["x-koi-cost"] == "0.28"
    assert hit.headers["x-koi-cost"] == none.headers["x-koi-cost"] == "0.00"
