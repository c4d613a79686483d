"""The official SDK's admin client manages Koi: teams, apps, keys, limits, then usage and costs."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from app.domain.limits import Limits
from app.wiring.operator import OperatorContext
from tests.flow.conftest import Start
from tests.harness import Koi

ROOT_KEY = "admin-4f3e2d1c0b9a8776"
PRICE = 0.14


@pytest.fixture
def koi(start: Start) -> Koi:
    return start(admin_key=ROOT_KEY, house_budget_per_month="5000")


@contextmanager
def admin(koi: Koi, key: str = ROOT_KEY) -> Iterator[Any]:
    with OpenAI(base_url=koi.v1, api_key="unused", admin_api_key=key, max_retries=0) as client:
        yield client.admin.organization


def draw(koi: Koi, key: str, n: int = 1, prompt: str = "a koi") -> httpx.Response:
    with koi.client(key) as client:
        body = {"model": "grok-imagine", "prompt": prompt, "n": n}
        return client.post("/v1/images/generations", json=body)


def assert_bill(koi: Koi, images: int, amount: float) -> None:
    assert images == koi.sandbox.billed_images
    assert amount == pytest.approx(PRICE * koi.sandbox.billed_images)


def test_a_tour_from_a_team_to_its_bill(koi: Koi) -> None:
    with admin(koi) as org:
        project = org.projects.create(name="Art Department")
        account = org.projects.service_accounts.create(project.id, name="poster-bot")
        key = account.api_key
        limit = org.projects.rate_limits.update_rate_limit(
            "rl-all",
            project_id=project.id,
            max_requests_per_1_minute=1000,
            extra_body={"max_images_per_1_day": 3},
        )
        made = draw(koi, key.value, n=3)
        refused = draw(koi, key.value, prompt="one more")
        koi.settled()
        since = int(time.time()) - 7200
        usage = org.usage.images(
            start_time=since,
            bucket_width="1d",
            group_by=["project_id", "user_id", "api_key_id"],
            project_ids=[project.id],
        )
        costs = org.usage.costs(start_time=since, group_by=["project_id"])

    assert (project.id, project.name, project.status) == (
        "art-department", "Art Department", "active",
    )  # fmt: skip
    assert (account.id, account.role, key.expires_at) == ("poster-bot", "member", None)
    assert (limit.model, limit.max_requests_per_1_minute) == ("*", 1000)
    assert (made.status_code, refused.status_code) == (200, 429)
    assert refused.json()["error"]["code"] == "insufficient_quota"
    rows = [row for bucket in usage.data for row in bucket.results]
    assert [(row.project_id, row.user_id, row.api_key_id) for row in rows] == [
        (project.id, "poster-bot", key.id)
    ]
    amounts = [row.amount.value for bucket in costs.data for row in bucket.results if row.amount]
    assert_bill(koi, sum(row.images for row in rows), sum(amounts))


def test_the_async_client_does_the_same(koi: Koi) -> None:
    async def tour() -> tuple[Any, Any, Any]:
        async with AsyncOpenAI(base_url=koi.v1, api_key="unused", admin_api_key=ROOT_KEY) as client:
            org = client.admin.organization
            project = await org.projects.create(name="blue")
            accounts = org.projects.service_accounts
            account = await accounts.create(project.id, name="bot", expires_in_seconds=3600)
            assert account.api_key is not None
            async with AsyncOpenAI(base_url=koi.v1, api_key=account.api_key.value) as maker:
                await maker.images.generate(model="grok-imagine", prompt="a koi", n=2)
            await asyncio.to_thread(koi.settled)
            since = int(time.time()) - 7200
            listed = [key async for key in org.projects.api_keys.list(project.id)]
            return (
                listed,
                await org.usage.images(start_time=since),
                await org.usage.costs(start_time=since),
            )

    listed, usage, costs = asyncio.run(tour())

    assert [(key.owner.type, key.owner.service_account.id) for key in listed] == [
        ("service_account", "bot")
    ]
    assert listed[0].expires_at > time.time()
    assert listed[0].redacted_value.startswith("sk-koi-***")
    images = sum(row.images for bucket in usage.data for row in bucket.results)
    amounts = [row.amount.value for bucket in costs.data for row in bucket.results if row.amount]
    assert_bill(koi, images, sum(amounts))


def test_an_archived_project_refuses_its_keys_and_is_restored(koi: Koi) -> None:
    with admin(koi) as org:
        project = org.projects.create(name="art")
        key = org.projects.service_accounts.create("art", name="bot").api_key.value
        archived = org.projects.archive("art")
        again = org.projects.archive("art")
        refused = draw(koi, key)
        listed = [one.id for one in org.projects.list()]
        all_listed = [one.id for one in org.projects.list(include_archived=True)]
        koi.operate(lambda operator: operator.keys.restore_team("art"))
        restored = org.projects.retrieve("art")
        time.sleep(3.1)  # until a cached record is read again
        made = draw(koi, key)

    assert (project.status, archived.status, restored.status) == ("active", "archived", "active")
    assert again.archived_at == archived.archived_at
    assert restored.archived_at is None
    assert (listed, all_listed) == ([], ["art"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "project_archived")
    assert made.status_code == 200


def test_people_join_move_and_leave_projects(koi: Koi) -> None:
    with admin(koi) as org:
        for name in ("blue", "red"):
            org.projects.create(name=name)
        users = org.projects.users
        new = users.create("blue", role="member", email="ann@example.org")
        users.create("blue", role="member", user_id="bob")
        with pytest.raises(openai.BadRequestError) as conflict:
            users.create("red", role="member", user_id="bob")
        renamed = users.retrieve("bob", project_id="blue")
        users.delete("bob", project_id="blue")
        moved = users.create("red", role="member", user_id="bob")
        with pytest.raises(openai.NotFoundError) as gone:
            users.retrieve("bob", project_id="blue")
        listed = {one.id: one for one in org.users.list()}
        found = [one.id for one in org.users.list(emails=["ann@example.org"])]
        deleted = org.users.delete("bob")

    assert (new.id, new.email, new.role) == ("ann@example.org", "ann@example.org", "member")
    assert conflict.value.code == "conflict"
    assert gone.value.code == "object_not_found"
    assert (renamed.id, moved.id, deleted.deleted) == ("bob", "bob", True)
    assert listed["bob"].projects.data[0].id == "red"
    assert (listed["bob"].is_service_account, listed["bob"].role) == (False, "reader")
    assert found == ["ann@example.org"]


def test_keys_are_listed_read_changed_and_deleted(koi: Koi) -> None:
    with admin(koi) as org:
        org.projects.create(name="art")
        accounts, keys = org.projects.service_accounts, org.projects.api_keys
        first = accounts.create("art", name="bot").api_key
        second = accounts.api_keys.create("bot", project_id="art", name="second")
        draw(koi, first.value)
        used = keys.retrieve(first.id, project_id="art")
        changed = keys.update(
            second.id,
            project_id="art",
            expires_in_seconds=60,
            scopes=[],
            extra_body={"limits": {"max_images_per_1_day": 1}},
        )
        with pytest.raises(openai.BadRequestError) as scoped:
            keys.update(second.id, project_id="art", scopes=["api.all.read"])
        keys.delete(first.id, project_id="art")
        left = [key.id for key in keys.list("art")]
        inactive = [key.id for key in keys.list("art", owner_project_access="inactive")]
        time.sleep(3.1)
        refused = draw(koi, first.value)
        with pytest.raises(openai.NotFoundError):
            keys.retrieve(first.id, project_id="art")

    assert used.last_used_at is not None
    assert (second.name, changed.limits["max_images_per_1_day"]) == ("second", 1)
    assert changed.expires_at <= time.time() + 61
    assert (scoped.value.code, scoped.value.param) == ("unsupported_parameter", "scopes")
    assert (left, inactive) == ([second.id], [])
    assert refused.status_code == 401


def test_service_accounts_are_listed_renamed_and_deleted(koi: Koi) -> None:
    with admin(koi) as org:
        org.projects.create(name="art")
        accounts = org.projects.service_accounts
        bare = accounts.create("art", name="keyless", create_service_account_only=True)
        chinese = accounts.create("art", name="设计机器人")
        renamed = accounts.update("keyless", project_id="art", name="Keyless Bot")
        listed = [(one.id, one.name) for one in accounts.list("art")]
        deleted = accounts.delete("keyless", project_id="art")
        with pytest.raises(openai.NotFoundError):
            accounts.retrieve("keyless", project_id="art")

    assert bare.api_key is None
    assert chinese.name == "设计机器人"
    assert chinese.id.startswith("service-")
    assert renamed.name == "Keyless Bot"
    assert listed == [("keyless", "Keyless Bot"), (chinese.id, "设计机器人")]
    assert deleted.deleted


def test_a_spend_limit_is_set_enforced_and_taken_away(koi: Koi) -> None:
    with admin(koi) as org:
        org.projects.create(name="art")
        key = org.projects.service_accounts.create("art", name="bot").api_key.value
        limit = org.projects.spend_limit
        with pytest.raises(openai.NotFoundError):
            limit.retrieve("art")
        with pytest.raises(openai.BadRequestError) as dollars:
            limit.update("art", currency="USD", interval="month", threshold_amount=14)
        chosen = limit.update("art", currency="CNY", interval="month", threshold_amount=14)
        made, refused = draw(koi, key), draw(koi, key, prompt="more")
        koi.settled()
        reached = limit.retrieve("art")
        gone = limit.delete("art")
        house = org.spend_limit.retrieve()

    assert dollars.value.param == "currency"
    assert (chosen.threshold_amount, chosen.enforcement.status) == (14, "inactive")
    assert reached.enforcement.status == "enforcing"
    assert (made.status_code, refused.status_code) == (200, 429)
    assert gone.deleted
    assert (house.threshold_amount, house.currency, house.enforcement.status) == (
        500_000, "CNY", "inactive",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "named", "status"),
    [
        ("allow_list", ["grok-imagine"], 200),
        ("allow_list", [], 404),
        ("deny_list", ["grok-imagine"], 404),
        ("deny_list", [], 200),
    ],
)
def test_model_permissions_hold(koi: Koi, mode: Any, named: list[str], status: int) -> None:
    with admin(koi) as org:
        org.projects.create(name="art")
        permissions = org.projects.model_permissions
        chosen = permissions.update("art", mode=mode, model_ids=named)
        key = org.projects.service_accounts.create("art", name="bot").api_key.value
        answer = draw(koi, key)
        deleted = permissions.delete("art")
        with pytest.raises(openai.NotFoundError):
            permissions.retrieve("art")
        with pytest.raises(openai.BadRequestError) as unknown:
            permissions.update("art", mode=mode, model_ids=["no-such-model"])

    assert (chosen.mode, chosen.api_model_ids) == (mode, named)
    assert answer.status_code == status
    assert deleted.deleted
    assert unknown.value.param == "model_ids"


def test_admin_keys_are_made_used_listed_and_revoked(koi: Koi) -> None:
    with admin(koi) as org:
        keys = org.admin_api_keys
        made = keys.create(name="ci", expires_in_seconds=3600, extra_body={"scopes": ["people"]})
        every = keys.create(name="second operator")
        with admin(koi, made.value) as people:
            people.projects.create(name="art")
            with pytest.raises(openai.PermissionDeniedError) as refused:
                people.admin_api_keys.create(name="mine")
        listed = [key.id for key in keys.list(order="desc")]
        read = keys.retrieve(made.id)
        keys.delete(made.id)
        time.sleep(3.1)
        with admin(koi, made.value) as people, pytest.raises(openai.AuthenticationError):
            people.projects.list()
        with pytest.raises(openai.NotFoundError):
            keys.retrieve(made.id)

    assert refused.value.code == "insufficient_permissions"
    assert listed == [every.id, made.id]
    assert every.scopes == ["all"]
    assert read.redacted_value == f"sk-koi-admin-***{made.value[-4:]}"
    assert not hasattr(read, "value")


def test_spending_is_stopped_and_resumed_by_the_api(koi: Koi) -> None:
    key = koi.key("ann")
    url, headers = f"{koi.v1}/koi/spending", {"authorization": f"Bearer {ROOT_KEY}"}

    with httpx.Client(headers=headers) as client:
        no_reason = client.post(url, json={"stopped": True})
        stopped = client.post(url, json={"stopped": True, "reason": "The provider\ncharges twice"})
        refused = draw(koi, key)
        stopped_user = client.post(
            url, json={"stopped": True, "user_id": "ann", "reason": "A loop."}
        )
        nobody = client.post(url, json={"stopped": True, "user_id": "no-one", "reason": "x"})
        client.post(url, json={"stopped": False, "user_id": "ann"})
        resumed = client.post(url, json={"stopped": False, "reason": "mended"})
        read = client.get(url)
        log = client.get(f"{koi.v1}/organization/audit_logs").json()["data"]

    assert (no_reason.status_code, no_reason.json()["error"]["param"]) == (400, "reason")
    assert stopped.json()["stopped"] is True
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "spending_stopped")
    assert [stop["user_id"] for stop in stopped_user.json()["stops"]] == [None, "ann"]
    assert nobody.status_code == 404
    assert resumed.json() == read.json() == {
        "object": "koi.spending", "stopped": False, "stops": [],
    }  # fmt: skip
    assert [
        (one["koi"]["kind"], one["koi"]["target"], one["koi"]["reason"]) for one in log[:4]
    ] == [
        ("spending.resumed", "house", "mended"),
        ("spending.resumed", "user:ann", None),
        ("spending.stopped", "user:ann", "A loop."),
        ("spending.stopped", "house", "The provider charges twice"),
    ]


def test_a_thousand_rows_are_paged_whole_and_each_once(koi: Koi) -> None:
    async def fill(operator: OperatorContext) -> None:
        for index in range(1000):
            await operator.keys.create_team(f"team-{index:04}", Limits())

    koi.operate(fill)

    with admin(koi) as org:
        first = org.projects.list(limit=100)
        listed = [project.id for project in org.projects.list(limit=100)]
        logged = [record.id for record in org.audit_logs.list(limit=100)]
        with pytest.raises(openai.BadRequestError) as lost:
            org.projects.list(after="nowhere")
        with pytest.raises(openai.BadRequestError) as too_many:
            org.projects.list(limit=101)

    assert (first.has_more, first.last_id) == (True, "team-0099")
    assert listed == [f"team-{index:04}" for index in range(1000)]
    assert len(logged) == len(set(logged)) == 1000
    assert lost.value.param == "after"
    assert too_many.value.param == "limit"


def test_a_list_may_be_deleted_while_it_is_paged(koi: Koi) -> None:
    with admin(koi) as org:
        org.projects.create(name="art")
        for index in range(7):
            org.projects.users.create("art", role="member", user_id=f"user-{index}")
        for user in org.users.list(limit=2):
            org.users.delete(user.id)

        assert list(org.users.list()) == []


@pytest.mark.parametrize(
    "query", ["emails[]=ann&emails[]=bob", "emails=ann&emails=bob", "emails[1]=bob&emails[0]=ann"]
)
def test_arrays_are_read_in_every_spelling(koi: Koi, query: str) -> None:
    for name in ("ann", "bob", "cat"):
        koi.key(name)

    answer = httpx.get(
        f"{koi.v1}/organization/users?{query}", headers={"authorization": f"Bearer {ROOT_KEY}"}
    )

    assert [user["id"] for user in answer.json()["data"]] == ["ann", "bob"]
