"""Two providers behind one gateway and ledger; what one does to us is not felt at the other."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import httpx
import pytest
import redis

from app.adapters.redis import keyspace
from app.domain.limits import Limits
from app.reconcile.compare import BillComparison, BillScope
from app.reconcile.report import BillReport
from app.sandbox.account import GOOD_KEY, OTHER_GOOD_KEY
from app.sandbox.server import Sandbox
from app.wiring.operator import OperatorContext
from tests.flow.studio import EDITS, digest, picture
from tests.flow.test_generate import wait_for
from tests.flow.two_providers import (
    EDITS_THERE,
    GENERATE,
    HERE,
    KEYS,
    MODELS,
    THERE,
    assert_ledger_matches_bills,
    eventually,
    keys_sent,
    metric,
    order,
    section,
    write_catalog,
)
from tests.harness import Koi, gateway, quick_sandbox

ADMIN = "admin-key-of-this-test"
DEAD = """
[[models]]
name = "dead-image"
provider = "dead"
modes = ["sync"]
sizes = ["1024x1024"]
qualities = ["standard"]
"""


@dataclass
class House:
    koi: Koi
    store_url: str
    second: Sandbox

    @property
    def main(self) -> Sandbox:
        return self.koi.sandbox

    def of(self, name: str) -> Sandbox:
        return self.main if name == "main" else self.second

    def forget_refusals(self) -> None:
        """As after the operator has mended both accounts."""
        names = (keyspace.provider_key(keyspace.key("health"), of) for of in (None, "second"))
        with redis.Redis.from_url(self.store_url) as store:
            store.delete(*names)
        eventually(lambda: metric(self.koi, "upstream_breaker_open") == 0)
        eventually(lambda: metric(self.koi, "upstream_rate_ratio") == 3)


@pytest.fixture(scope="module")
def houses(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One gateway for the module. The second provider is another host, too."""
    root = tmp_path_factory.mktemp("house")
    with (
        pytest.MonkeyPatch.context() as patch,
        redis.Redis.from_url(engine) as store,
        quick_sandbox() as main,
        Sandbox(time_scale=0.01, host="127.0.0.2") as second,
    ):
        store.flushall()
        for name, value in KEYS.items():
            patch.setenv(name, value)
        dead = section("http://127.0.0.1:9/v1", name="dead")
        catalog = write_catalog(root / "two.toml", section(second.url), dead, MODELS, DEAD)
        options = {"catalog": catalog, "admin_key": ADMIN, "cache_policy": "off"}
        with gateway(main, engine, root / "koi", **options) as koi:
            yield House(koi, engine, second)


@pytest.fixture
def house(houses: House) -> Iterator[House]:
    yield houses
    houses.forget_refusals()
    bills = {None: houses.main, "second": houses.second, "dead": Sandbox()}
    assert_ledger_matches_bills(houses.koi, bills)


def generate(client: httpx.Client, model: str, prompt: str, **more: object) -> httpx.Response:
    return client.post(GENERATE, json=order(model, prompt, **more))


def code_of(answer: httpx.Response) -> str | None:
    return None if answer.status_code == 200 else answer.json()["error"]["code"]


def limited_key(koi: Koi, name: str, **limits: int) -> str:
    async def issue(operator: OperatorContext) -> str:
        await operator.keys.create_user(name, limits=Limits(**limits))
        return (await operator.keys.issue(name)).secret

    return koi.operate(issue)


def checks(koi: Koi) -> dict[str, str]:
    with koi.client(ADMIN) as admin:
        return {c["name"]: c["state"] for c in admin.get("/v1/koi/health").json()["checks"]}


def compare(koi: Koi, sandbox: Sandbox, file: Path, provider: str | None) -> BillReport:
    file.write_text(sandbox.fee_details())

    async def work(operator: OperatorContext) -> BillReport:
        now_ms = await operator.keyring.now_ms()
        comparison = BillComparison(operator.ledger, operator.catalog, UTC, now_ms)
        return await comparison.compare(file, file.name, BillScope(provider=provider))

    return koi.operate(work)


def test_each_provider_gets_its_own_requests_with_its_own_key(house: House) -> None:
    before, billed = (house.main.posts, house.second.posts), len(house.second.bill())
    with house.koi.client() as client:
        answers = [
            generate(client, model, f"koi of {model}", n=2, **{"async": late})
            for model in (HERE, THERE)
            for late in (False, True)
        ]
        tasks = [
            answer if answer.get("data") else wait_for(client, answer["id"])
            for answer in (answer.json() for answer in answers)
        ]

    links = [image["url"] for task in tasks for image in task["data"]]
    assert [httpx.get(link).status_code for link in links] == [200] * 8
    assert (house.main.posts - before[0], house.second.posts - before[1]) == (2, 2)
    assert keys_sent(house.main) == {GOOD_KEY}
    assert keys_sent(house.second) == {OTHER_GOOD_KEY}
    sent = [request.body for request in house.second.requests if request.body]
    assert all(b'"model":"grok-imagine"' in body for body in sent)
    assert {line.model for line in house.second.bill()[billed:]} == {"grok-imagine"}


def test_images_of_both_providers_count_against_one_limit(house: House) -> None:
    key = limited_key(house.koi, "bob", images_per_day=2)
    with house.koi.client(key) as client:
        answers = [generate(client, model, "one of three") for model in (HERE, THERE, HERE)]

    assert [code_of(answer) for answer in answers] == [None, None, "insufficient_quota"]
    with house.koi.client(ADMIN) as admin:
        shown = admin.get("/v1/koi/jobs", params={"user": "bob"}).json()["data"]
    charged = {e.provider: e.micros for e in house.koi.entries() if e.user == "bob"}
    assert charged == {None: 140_000, "second": 140_000}
    assert {job["model"]: job["provider"] for job in shown} == {HERE: "main", THERE: "second"}


@pytest.mark.parametrize(
    ("refusing", "model", "other"), [("second", THERE, HERE), ("main", HERE, THERE)]
)
@pytest.mark.parametrize(("fault", "code"), [("401", "upstream_auth"), ("402", "upstream_billing")])
def test_an_account_that_one_provider_refuses_is_asked_at_the_other(
    house: House, refusing: str, model: str, other: str, fault: str, code: str
) -> None:
    house.of(refusing).script(fault, fault, fault)
    with house.koi.client() as client:
        told = [generate(client, model, f"refused {n}") for n in range(3)]
        posts = house.of(refusing).posts
        unasked = generate(client, model, "not even sent")
        fine = generate(client, other, "at the other one")
        eventually(lambda: metric(house.koi, "upstream_breaker_open", provider=refusing) == 1)
        opened = {
            name: metric(house.koi, "upstream_breaker_open", code=code, provider=name)
            for name in ("main", "second")
        }
    # Its answers may be some seconds old.
    named = {"main": "breaker", "second": "breaker second"}
    eventually(lambda: checks(house.koi)[named[refusing]] == "fail")
    seen = checks(house.koi)

    assert [code_of(answer) for answer in (*told, unasked)] == [code] * 4
    assert house.of(refusing).posts == posts
    assert fine.status_code == 200
    assert opened == {"main": refusing == "main", "second": refusing == "second"}
    assert {name for name in named if seen[named[name]] == "fail"} == {refusing}


def test_a_429_of_one_provider_slows_the_other_down_not_at_all(house: House) -> None:
    house.second.script("429=3")
    with house.koi.client() as client:
        told = generate(client, THERE, "too many")
        eventually(lambda: metric(house.koi, "upstream_rate_ratio", provider="second") < 1)
        answers = [generate(client, HERE, f"goes on {n}") for n in range(3)]
        ratio = metric(house.koi, "upstream_rate_ratio", provider="main")
        pause = metric(house.koi, "upstream_pause_seconds", provider="main")

    assert code_of(told) == "upstream_rate_limited"
    assert [answer.status_code for answer in answers] == [200] * 3
    assert (ratio, pause) == (1, 0)


def test_a_provider_that_is_down_takes_nothing_and_stops_nobody(house: House) -> None:
    with house.koi.client() as client:
        answers = [generate(client, model, "is it there?") for model in ("dead-image", HERE, THERE)]

    assert [code_of(answer) for answer in answers] == ["upstream_unreachable", None, None]
    assert "127.0.0.1" not in answers[0].text
    released = [e for e in house.koi.entries() if e.provider == "dead"]
    assert {(entry.images, entry.proof) for entry in released} == {(0, "P0")}


def test_tasks_of_a_slow_provider_do_not_wait_for_each_other(house: House) -> None:
    posts = house.second.posts
    house.second.set(latency_s=60)
    with house.koi.client() as client, ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(generate, client, THERE, f"slow {n}") for n in range(3)]
        eventually(lambda: house.second.posts == posts + 3)
        quick = generate(client, HERE, "quick")
        unfinished = [not one.done() for one in slow]
        house.second.advance(60)
        done = [one.result().status_code for one in slow]
    house.second.set(latency_s=None)

    assert quick.status_code == 200
    assert unfinished == [True] * 3
    assert done == [200] * 3


def test_the_console_lists_the_providers_without_a_key(house: House) -> None:
    with house.koi.client(ADMIN) as admin:
        answer = admin.get("/v1/koi/settings")
    [second] = [one for one in answer.json()["data"] if one["name"] == "provider second"]

    assert second["source"] == "catalog"
    assert second["value"] == f"base_url = {house.second.url}, api_key_env = SECOND_API_KEY"
    assert OTHER_GOOD_KEY not in answer.text


def test_an_edit_is_sent_to_the_provider_of_its_model(house: House) -> None:
    shown, here = picture(), len(house.main.references)
    with house.koi.client() as client:
        edited = client.post(
            EDITS, data={"model": EDITS_THERE, "prompt": "bluer"}, files={"image": shown}
        )
        refused = client.post(
            EDITS, data={"model": HERE, "prompt": "bluer"}, files={"image": shown}
        )

    assert httpx.get(edited.json()["data"][0]["url"]).status_code == 200
    assert code_of(refused) is not None, "the main provider's model takes none"
    assert house.second.references[-1] == (digest(shown),)
    assert len(house.main.references) == here
    assert house.koi.entries()[-1].provider == "second"


def test_the_bill_of_one_provider_says_nothing_of_the_others_charges(
    house: House, tmp_path: Path
) -> None:
    with house.koi.client() as client:
        for model in (HERE, THERE):
            assert generate(client, model, "on which bill?").status_code == 200

    for name, sandbox in ((None, house.main), ("second", house.second)):
        report = compare(house.koi, sandbox, tmp_path / "fees.csv", name)
        other = compare(house.koi, sandbox, tmp_path / "fees.csv", "dead")
        assert not report.differs, [item for item in report.items if item.differs]
        assert {item.charge.entry.provider for item in report.items if item.charge} == {name}
        assert all(item.charge is None for item in other.items)
