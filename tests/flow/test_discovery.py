"""What clients look for beside the pictures: models with their abilities, balances, other paths."""

import pytest

from app.domain.limits import Limits
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi

BILLING = "/v1/dashboard/billing"


def test_a_model_says_what_it_can_do_and_costs(koi: Koi) -> None:
    with koi.client() as client:
        listed = client.get("/v1/models").json()["data"]
        (model,) = [one for one in listed if one["id"] == "grok-imagine"]
        read = client.get("/v1/models/dall-e-3").json()

    able = model["capabilities"]
    assert model["supported_endpoint_types"] == ["image-generation"]
    assert able["sizes"][0] == "1024x1024"
    assert able["qualities"] == ["standard", "hd"]
    prices = {(one["quality"], one["size"]): one["price"] for one in able["prices"]}
    assert len(prices) == len(able["sizes"]) * len(able["qualities"])
    assert (prices["standard", "1024x1024"], able["currency"]) == ("0.14", "CNY")
    assert (read["id"], read["capabilities"]["model"]) == ("dall-e-3", "grok-imagine")


@pytest.mark.parametrize("shown", [False, True])
def test_aliases_are_listed_for_clients_that_know_only_those(start: Start, *, shown: bool) -> None:
    koi = start(list_aliases=shown)
    with koi.client() as client:
        ids = [model["id"] for model in client.get("/v1/models").json()["data"]]

    assert ("gpt-image-1" in ids) is shown
    assert len(ids) == len(set(ids))


def test_a_balance_is_what_the_tightest_limit_leaves(koi: Koi) -> None:
    key = koi.key(limits=Limits(images_per_day=10, micros_per_month=1_000_000))
    with koi.client(key) as client:
        client.post(GENERATE, json={**KOI, "n": 2})
        budget = client.get(f"{BILLING}/subscription").json()
        credit = client.get(f"{BILLING}/credit_grants").json()
        used = client.get(f"{BILLING}/usage").json()

    assert (credit["total_used"], credit["total_available"]) == (0.28, 0.72)
    assert budget["hard_limit_usd"] == credit["total_granted"] == 1.0
    assert used["total_usage"] == 28


def test_images_left_are_worth_their_price(koi: Koi) -> None:
    with koi.client(koi.key(limits=Limits(images_per_day=10))) as client:
        credit = client.get(f"{BILLING}/credit_grants").json()

    assert credit["total_available"] == pytest.approx(1.4)


def test_without_a_limit_a_balance_is_plenty(koi: Koi) -> None:
    with koi.client() as client:
        budget = client.get("/dashboard/billing/subscription").json()

    assert budget["hard_limit_usd"] == 100_000_000


@pytest.mark.parametrize(
    "query",
    ["start_date=yesterday", "start_date=2026-02-30", "start_date=2026-11-02&end_date=2026-11-01"],
)
def test_days_that_are_none_are_refused(koi: Koi, query: str) -> None:
    with koi.client() as client:
        answer = client.get(f"{BILLING}/usage?{query}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")


def test_comfyui_finds_the_images_under_its_own_path(koi: Koi) -> None:
    with koi.client() as client:
        answer = client.post("/proxy/openai/images/generations", json=KOI)

    assert answer.status_code == 200
    assert len(answer.json()["data"]) == 1
