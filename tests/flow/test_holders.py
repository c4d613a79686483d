"""What holders do for themselves: keys, pictures, asking for more; never beyond what they have."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
import redis

from app.domain.limits import Limits
from app.domain.principal import CachePolicy
from app.sandbox.server import Sandbox
from app.service.holder_keys import MAX_CHANGES_PER_HOUR, MAX_KEYS, MAX_SPENT_KEYS
from app.service.keys import make_key
from app.wiring.operator import OperatorContext
from tests.flow.test_generate import GENERATE, wait_for
from tests.harness import KOI, Koi, gateway

KEYS = "/v1/koi/keys"
PICTURES = "/v1/koi/pictures"
ROOT = "admin-0123456789"


@pytest.fixture(scope="module")
def koi(engine: str, provider: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Koi]:
    """Holders may do all with their keys; another gateway on the same store allows less."""
    with redis.Redis.from_url(engine) as client:
        client.flushall()
    provider.reset()
    data = tmp_path_factory.mktemp("koi")
    options = {"admin_key": ROOT, "cache_policy": "private", "cache_variants": 1}
    with gateway(provider, engine, data, holders_manage_keys="all", **options) as running:
        yield running
        running.assert_ledger_matches_bill()


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def key_id(client: httpx.Client) -> str:
    return str(client.get("/v1/koi/account").json()["key_id"])


def draw(client: httpx.Client, prompt: str, **more: Any) -> dict[str, Any]:
    answer = client.post(GENERATE, json={**KOI, "prompt": prompt, **more})
    assert answer.status_code == 200, answer.text
    return {"task_id": answer.headers["x-koi-task-id"], **answer.json()}


def name_of(url: str) -> str:
    return httpx.URL(url).path.rpartition("/")[2]


# Keys


def test_a_holder_sees_the_keys_of_their_user_and_no_others(koi: Koi) -> None:
    with koi.client(koi.key("kim", name="one")) as kim, koi.client(koi.key("lee")):
        koi.key("kim", name="two")
        listed = kim.get(KEYS).json()["data"]

    assert [key["name"] for key in listed] == ["one", "two"]
    assert [key["is_this_one"] for key in listed] == [True, False]
    assert listed[0]["last_used_at"] is not None
    assert "digest" not in str(listed)


def test_a_holder_creates_narrows_and_revokes_a_key(koi: Koi) -> None:
    with koi.client(koi.key("mia")) as mia:
        made = mia.post(KEYS, json={"name": "laptop", "limits": {"max_images_per_1_day": 5}})
        assert made.status_code == 200, made.text
        new = made.json()
        path = f"{KEYS}/{new['id']}"
        with koi.client(new["value"]) as other:
            assert other.get("/v1/koi/account").json()["user"] == "mia"
        lower = mia.post(path, json={"limits": {"max_images_per_1_day": 3}, "name": "old laptop"})
        assert lower.json()["limits"]["max_images_per_1_day"] == 3
        assert lower.json()["name"] == "old laptop"
        for wider in ({"max_images_per_1_day": 4}, {"max_images_per_1_day": None}):
            assert code_of(mia.post(path, json={"limits": wider})) == (400, "invalid_value")
        assert mia.delete(path).json()["deleted"] is True
        assert code_of(mia.delete(path)) == (404, "object_not_found")


def test_no_key_is_freer_than_its_user(koi: Koi) -> None:
    secret = koi.key("nia")

    async def limit(operator: OperatorContext) -> None:
        user = await operator.keys.user("nia")
        await operator.keys.change(user, _with_limits(user, Limits(images_per_day=10)))

    koi.operate(limit)
    with koi.client(secret) as nia:
        wide = {"name": "wide", "limits": {"max_images_per_1_day": 11}}
        assert code_of(nia.post(KEYS, json=wide)) == (400, "invalid_value")


def _with_limits(user: Any, limits: Limits) -> Any:
    return replace(user, limits=limits)


RESTRICTED: list[dict[str, Any]] = [
    {"limits": Limits(images_per_day=2)},
    {"models": frozenset({"grok-imagine"})},
]


@pytest.mark.parametrize("restriction", RESTRICTED, ids=str)
def test_a_restricted_key_makes_no_freer_one(koi: Koi, restriction: dict[str, Any]) -> None:
    free = koi.key("oli")
    with koi.client(free) as oli:
        free_id = key_id(oli)
    with koi.client(koi.key("oli", **restriction)) as narrow:
        own = key_id(narrow)
        refused = [
            narrow.post(KEYS, json={"name": "free"}),
            narrow.post(f"{KEYS}/{free_id}/rotate", json={}),
            narrow.delete(f"{KEYS}/{free_id}"),
            narrow.post(f"{KEYS}/{free_id}", json={"name": "x"}),
        ]
        assert [code_of(answer) for answer in refused] == [(403, "not_allowed")] * 4
        # Its own secret it may replace: the same key, so that its counters go on.
        renewed = narrow.post(f"{KEYS}/{own}/rotate", json={"overlap_seconds": 3600}).json()
        assert renewed["id"] == own
        assert narrow.get("/v1/koi/account").status_code == 401
    with koi.client(renewed["value"]) as again:
        kept = next(key for key in again.get(KEYS).json()["data"] if key["is_this_one"])
        assert kept["limits"]["max_images_per_1_day"] == (2 if "limits" in restriction else None)


def test_a_key_that_ends_makes_none_that_ends_later(koi: Koi) -> None:
    with koi.client(koi.key("pia", expires_in=timedelta(hours=1))) as pia:
        own = pia.get("/v1/koi/account").json()["key_expires_at"]
        made = pia.post(KEYS, json={"name": "longer", "expires_in_seconds": 86_400}).json()
        assert made["expires_at"] <= own + 1
        other = koi.key("pia")
        with koi.client(other) as free:
            other_id = key_id(free)
        rotated = pia.post(f"{KEYS}/{other_id}/rotate", json={})
        assert code_of(rotated) == (403, "not_allowed")


def test_a_rotated_key_works_until_its_overlap_ends(koi: Koi) -> None:
    with koi.client(koi.key("quin")) as quin:
        new = quin.post(f"{KEYS}/{key_id(quin)}/rotate", json={"overlap_seconds": 600}).json()
        assert quin.get("/v1/usage").status_code == 200
        with koi.client(new["value"]) as fresh:
            assert fresh.get("/v1/usage").json()["key_id"] == new["id"]


def test_rotating_makes_no_more_keys_than_a_holder_may_have(koi: Koi) -> None:
    with koi.client(koi.key("ria")) as ria:
        own = key_id(ria)
        same = ria.post(f"{KEYS}/{own}/rotate", json={}).json()
        assert same["id"] == own
    with koi.client(same["value"]) as ria:
        path = f"{KEYS}/{own}/rotate"
        second = ria.post(path, json={"overlap_seconds": 600}).json()["id"]
        assert code_of(ria.post(path, json={"overlap_seconds": 600})) == (403, "not_allowed")

        async def fill(operator: OperatorContext) -> None:
            for number in range(MAX_KEYS - 2):
                await operator.keys.issue("ria", name=f"{number}")

        koi.operate(fill)
    with koi.client(koi.key("ria")) as ria:
        full = ria.post(f"{KEYS}/{second}/rotate", json={"overlap_seconds": 600})
        assert code_of(full) == (403, "not_allowed")
        assert len(ria.get(KEYS).json()["data"]) == MAX_KEYS + 1


def test_keys_that_are_made_and_ended_over_and_over_are_few_in_a_day(koi: Koi) -> None:
    secret, made = koi.key("rob"), 1
    while made <= 2 * MAX_SPENT_KEYS:
        with koi.client(secret) as rob:
            old = key_id(rob)
            answer = rob.post(f"{KEYS}/{old}/rotate", json={"overlap_seconds": 3600})
            if answer.status_code != 200:
                break
            secret, made = answer.json()["value"], made + 1
            assert rob.delete(f"{KEYS}/{old}").status_code == 200

    assert code_of(answer) == (403, "not_allowed")
    assert "ask the operator" in answer.json()["error"]["message"]
    assert made == MAX_SPENT_KEYS + 1
    with koi.client(secret) as rob:
        assert code_of(rob.post(KEYS, json={"name": "another"})) == (403, "not_allowed")
        assert rob.post(f"{KEYS}/{key_id(rob)}/rotate", json={}).status_code == 200
    with koi.client(koi.key("rob", name="of the operator")) as rob:
        assert len(rob.get(KEYS).json()["data"]) == 2


def test_keys_that_ended_before_today_keep_nobody_from_new_ones(koi: Koi) -> None:
    async def age(operator: OperatorContext) -> None:
        now_ms = await operator.keys.now_ms()
        for number in range(MAX_SPENT_KEYS):
            old = now_ms - 86_400_000 - 1000
            made = make_key("", "rolf", f"{number}", old).key
            await operator.keys.add(replace(made, revoked_ms=old + number))

    with koi.client(koi.key("rolf")) as rolf:
        koi.operate(age)
        assert rolf.post(KEYS, json={"name": "another"}).status_code == 200


def test_keys_are_changed_so_often_within_an_hour_and_revoked_ever_after(koi: Koi) -> None:
    with koi.client(koi.key("rita")) as rita:
        path = f"{KEYS}/{key_id(rita)}"
        names = range(MAX_CHANGES_PER_HOUR)
        renamed = [rita.post(path, json={"name": f"{name}"}).status_code for name in names]
        refused = [
            rita.post(path, json={"name": "once more"}),
            rita.post(f"{path}/rotate", json={}),
            rita.post(KEYS, json={"name": "another"}),
        ]
        assert rita.get(KEYS).json()["data"][0]["name"] == f"{names[-1]}"
        assert rita.delete(path).status_code == 200

    assert set(renamed) == {200}
    assert [code_of(answer) for answer in refused] == [(403, "not_allowed")] * 3


def test_foreign_keys_do_not_exist(koi: Koi) -> None:
    with koi.client(koi.key("rex")) as rex:
        foreign = key_id(rex)
    with koi.client(koi.key("sam")) as sam:
        answers = [
            sam.post(f"{KEYS}/{foreign}/rotate", json={}),
            sam.post(f"{KEYS}/{foreign}", json={"name": "mine"}),
            sam.delete(f"{KEYS}/{foreign}"),
            sam.delete(f"{KEYS}/key_{'0' * 16}"),
        ]
        assert [code_of(answer) for answer in answers] == [(404, "object_not_found")] * 4


@pytest.mark.parametrize(("allowed", "rotate", "create"), [("off", 403, 403), ("rotate", 200, 403)])
def test_the_operator_says_what_holders_may_do(
    koi: Koi, engine: str, allowed: str, rotate: int, create: int
) -> None:
    less = gateway(koi.sandbox, engine, koi.settings.data_dir, holders_manage_keys=allowed)
    with less as other, other.client(koi.key("tom")) as tom:
        assert tom.get("/v1/koi/account").json()["manage_keys"] == allowed
        assert tom.post(KEYS, json={"name": "x"}).status_code == create
        path = f"{KEYS}/{key_id(tom)}"
        assert tom.post(path, json={"name": "x"}).status_code == create
        assert tom.post(f"{path}/rotate", json={"overlap_seconds": 60}).status_code == rotate


def test_what_holders_change_is_in_the_audit_log(koi: Koi) -> None:
    with koi.client(koi.key("una")) as una:
        own = key_id(una)
        made = una.post(KEYS, json={"name": "audited"}).json()
        una.delete(f"{KEYS}/{made['id']}")
    admin = {"authorization": f"Bearer {ROOT}"}
    logs = httpx.get(f"{koi.v1}/organization/audit_logs?limit=2", headers=admin).json()["data"]

    assert [log["actor"]["api_key"]["id"] for log in logs] == [own, own]
    assert all(made["value"] not in str(log) for log in logs)


# Pictures


def test_pictures_are_listed_with_what_they_cost(koi: Koi) -> None:
    with koi.client(koi.key("vic")) as vic:
        drawn = draw(vic, "a listed koi", n=2)
        page = vic.get(PICTURES, params={"limit": 1}).json()

    assert {one["id"] for one in page["data"]} == {name_of(one["url"]) for one in drawn["data"]}
    first = page["data"][0]
    assert (first["size"], first["quality"], first["cost"]) == ("1024x1024", "standard", "0.14")
    assert first["task_id"] == page["last_id"] == drawn["task_id"]
    assert first["expires_at"] - first["created_at"] >= 29 * 86_400
    assert httpx.get(first["url"]).status_code == 200
    assert page["has_more"] is False


def test_a_deleted_picture_is_gone_and_made_anew(koi: Koi) -> None:
    billed = koi.sandbox.billed_images
    with koi.client(koi.key("wim")) as wim:
        drawn = draw(wim, "a koi to delete", n=2)
        first, second = (name_of(one["url"]) for one in drawn["data"])
        assert wim.delete(f"/v1/images/{first}").json()["deleted"] is True

        assert wim.get(f"/v1/images/{first}").status_code == 404
        assert httpx.get(drawn["data"][0]["url"]).status_code == 404
        assert wim.get(f"/v1/images/{second}").status_code == 200
        assert [one["id"] for one in wim.get(PICTURES).json()["data"]] == [second]
        task = wim.get(f"/v1/tasks/{drawn['task_id']}").json()
        assert [name_of(one["url"]) for one in task["data"]] == [second]
        assert "incomplete" not in task
        assert code_of(wim.delete(f"/v1/images/{first}")) == (404, "image_not_found")
        again = draw(wim, "a koi to delete", n=2)
    assert again["task_id"] != drawn["task_id"]
    assert koi.sandbox.billed_images - billed == 4


def test_nobody_deletes_a_picture_of_somebody_else(koi: Koi) -> None:
    with koi.client(koi.key("xia")) as xia, koi.client(koi.key("yan")) as yan:
        name = name_of(draw(xia, "mine alone")["data"][0]["url"])
        assert code_of(yan.delete(f"/v1/images/{name}")) == (404, "image_not_found")
        assert xia.get(f"/v1/images/{name}").status_code == 200


def test_in_a_shared_cache_team_mates_keep_what_they_were_given(koi: Koi) -> None:
    async def make_team(operator: OperatorContext) -> None:
        await operator.keys.create_team("pond", Limits())
        for name in ("zoe", "abe"):
            await operator.keys.create_user(name, team="pond", cache=CachePolicy.SHARED)

    koi.operate(make_team)
    with koi.client(koi.key("zoe")) as zoe, koi.client(koi.key("abe")) as abe:
        mine = draw(zoe, "a shared koi")
        name = name_of(mine["data"][0]["url"])
        assert name_of(draw(abe, "a shared koi")["data"][0]["url"]) == name
        assert code_of(abe.delete(f"/v1/images/{name}")) == (404, "image_not_found")

        assert zoe.delete(f"/v1/images/{name}").status_code == 200
        assert zoe.get(f"/v1/images/{name}").status_code == 404
        assert abe.get(f"/v1/images/{name}").status_code == 200
        anew = draw(zoe, "a shared koi")
        assert name_of(anew["data"][0]["url"]) != name


# The rest


def test_the_catalog_tells_sizes_and_prices(koi: Koi) -> None:
    with koi.client() as ann:
        told = ann.get("/v1/koi/catalog").json()

    model = next(one for one in told["models"] if one["id"] == told["default_model"])
    prices = {(one["size"], one["quality"]): one["price"] for one in model["prices"]}
    assert prices[model["sizes"][0], model["qualities"][0]] == "0.14"
    assert told["max_n"] == 10


def test_asking_for_more_reaches_the_operator_once_an_hour(koi: Koi) -> None:
    with koi.client(koi.key("bea")) as bea:
        ask = {"reason": "a campaign <b>until</b> Friday", "images_per_day": 100}
        first, second = (bea.post("/v1/koi/limit_requests", json=ask).json() for _ in range(2))
        empty = bea.post("/v1/koi/limit_requests", json={"reason": ""})

    assert (first["published"], second["published"]) == (True, False)
    assert first["operator_receives_notices"] is False
    assert empty.status_code == 400


def test_a_stop_of_spending_is_told_with_its_reason(koi: Koi) -> None:
    secret = koi.key("cal")

    async def stop(operator: OperatorContext) -> None:
        await operator.keys.stop_spending("user:cal", "the invoice is open")

    koi.operate(stop)
    with koi.client(secret) as cal:
        told = cal.get("/v1/koi/account").json()
    assert told["stopped"] == {"scope": "user", "reason": "the invoice is open."}


def test_a_task_says_in_one_sentence_what_became_of_it(koi: Koi) -> None:
    with koi.client(koi.key("dan")) as dan:
        drawn = draw(dan, "a told koi")
        koi.sandbox.script("moderation-400")
        refused = dan.post(GENERATE, json={**KOI, "prompt": "refused", "async": True}).json()
        failed = wait_for(dan, refused["id"])
        chinese = dan.get(
            f"/v1/tasks/{refused['id']}", headers={"accept-language": "zh-CN,zh;q=0.9"}
        ).json()
        done = dan.get(f"/v1/tasks/{drawn['task_id']}").json()

    assert done["summary"] == "1 picture was made; 1 image was charged."
    assert failed["summary"] == "The provider refused the prompt; nothing was charged."
    assert chinese["summary"] == "上游拒绝了该提示词；未产生费用。"
