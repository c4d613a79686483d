"""What clients look for beside the pictures: models with their abilities, balances, other paths."""

import re
import shlex
from itertools import pairwise

import httpx
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
    [
        "start_date=yesterday",
        "start_date=2026-02-30",
        "start_date=2026-11-02&end_date=2026-11-01",
        "start_date=2020-01-01&end_date=9999-12-31",
    ],
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


def run_curl(command: str, key: str) -> httpx.Response:
    """What curl would send; a fresh machine need not have it."""
    words = shlex.split(command.replace("$KOI_API_KEY", key).replace("$(uuidgen)", "one-of-a-kind"))
    after = list(pairwise(words))
    headers = dict(value.split(": ", 1) for flag, value in after if flag == "-H")
    (body,) = (value for flag, value in after if flag == "-d")
    (url,) = (word for word in words if word.startswith("http"))
    return httpx.post(url, headers=headers, content=body, timeout=30)


def test_an_agent_that_follows_the_skill_buys_one_picture(koi: Koi) -> None:
    skill = httpx.get(f"{koi.url}/skill.md")
    look, buy = re.findall(r"`(curl .*?)`$", skill.text, re.MULTILINE)
    key = koi.key()
    price = run_curl(look, key).json()
    bought, again = run_curl(buy, key), run_curl(buy, key)

    assert skill.headers["content-type"].startswith("text/markdown")
    assert (price["refused"], price["cost"]) == (False, "0.14")
    assert bought.json()["data"][0]["url"].partition("?")[0] in again.text
    assert koi.sandbox.posts == 1


def test_every_link_of_llms_txt_leads_somewhere(koi: Koi) -> None:
    text = httpx.get(f"{koi.url}/llms.txt").text
    links = re.findall(r"\]\((.*?)\)", text)

    assert len(links) == 3
    assert [httpx.get(link, timeout=60).status_code for link in links] == [200] * 3
    assert f"{koi.url}/v1/models" in text


def test_without_documentation_neither_text_is_there(start: Start) -> None:
    koi = start(docs=False)

    for name in ("llms.txt", "skill.md"):
        assert httpx.get(f"{koi.url}/{name}").status_code == 404
