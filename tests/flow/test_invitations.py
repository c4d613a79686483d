"""An invitation link turns into a key once, whoever asks and however often."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.domain.limits import Limits
from tests.flow.conftest import Start
from tests.flow.test_raises import commands
from tests.harness import KOI, Koi

ADMIN_KEY = "sk-admin-of-the-tests"
ACCEPT = "/v1/koi/invitations/accept"


@pytest.fixture
def koi(start: Start) -> Koi:
    return start(admin_key=ADMIN_KEY, public_url="https://koi.example/v1")


def invite(koi: Koi, user: str = "ann", **fields: Any) -> dict[str, Any]:
    with koi.client(ADMIN_KEY) as admin:
        answer = admin.post("/v1/koi/invitations", json={"user_id": user, **fields})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def token_of(made: dict[str, Any]) -> str:
    return str(made["url"]).removeprefix("https://koi.example/#/invite/")


def accept(koi: Koi, token: str) -> httpx.Response:
    return httpx.post(koi.url + ACCEPT, json={"token": token}, timeout=20)


def refusal(answer: httpx.Response) -> str:
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "invitation_ended")
    return str(answer.json()["error"]["message"])


def test_a_link_gives_the_key_of_a_new_user_once(koi: Koi) -> None:
    async def found(operator: Any) -> None:
        await operator.keys.create_team("design", Limits(images_per_day=5))

    koi.operate(found)
    made = invite(koi, project_id="design", name="laptop")
    first = accept(koi, token_of(made))
    second = accept(koi, token_of(made))
    with koi.client(first.json()["key"]) as ann:
        usage = ann.get("/v1/usage").json()
        drawn = ann.post("/v1/images/generations", json=KOI)
    (key,) = koi.operate(lambda operator: operator.keys.keys("ann"))
    with koi.client(ADMIN_KEY) as admin:
        listed = admin.get("/v1/koi/invitations").json()["data"]

    assert made["status"] == "open"
    assert first.json()["user_id"] == "ann"
    assert first.json()["base_url"] == "https://koi.example/v1"
    assert "used already" in refusal(second)
    assert (usage["user"], usage["team"], usage["key_id"]) == ("ann", "design", made["id"])
    assert drawn.status_code == 200
    assert (key.id, key.name, key.revoked_ms) == (made["id"], "laptop", None)
    assert first.json()["key"].endswith(key.ending)
    assert listed == []


def test_of_many_who_accept_at_once_one_gets_the_key(koi: Koi) -> None:
    token = token_of(invite(koi))

    async def crowd() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=koi.url, timeout=30) as client:
            return await asyncio.gather(
                *(client.post(ACCEPT, json={"token": token}) for _ in range(12))
            )

    answers = asyncio.run(crowd())
    keys = koi.operate(lambda operator: operator.keys.keys("ann"))

    assert sorted(a.status_code for a in answers) == [200] + [410] * 11
    assert len(keys) == 1


def test_links_that_ended_say_so(koi: Koi) -> None:
    revoked, expiring, orphan = invite(koi), invite(koi, expires_in_seconds=1), invite(koi, "bob")
    with koi.client(ADMIN_KEY) as admin:
        gone = admin.delete(f"/v1/koi/invitations/{revoked['id']}").json()
        again = admin.delete(f"/v1/koi/invitations/{revoked['id']}")
        unknown = admin.delete("/v1/koi/invitations/key_0")
        admin.post("/v1/organization/users/bob", json={"disabled": True})
    time.sleep(1.1)

    assert gone["status"] == "revoked"
    assert (again.status_code, unknown.status_code) == (200, 404)
    assert "withdrawn" in refusal(accept(koi, token_of(revoked)))
    assert "expired" in refusal(accept(koi, token_of(expiring)))
    assert "disabled" in refusal(accept(koi, token_of(orphan)))
    other = token_of(orphan)[:-1] + ("1" if token_of(orphan).endswith("0") else "0")
    assert "never existed" in refusal(accept(koi, other))
    assert "never existed" in refusal(accept(koi, "sk-koi-nonsense"))
    assert koi.operate(lambda operator: operator.keys.keys()) == []


def test_the_link_of_a_deleted_user_gives_no_key_of_the_next_one_of_that_name(koi: Koi) -> None:
    old = invite(koi)
    with koi.client(ADMIN_KEY) as admin:
        admin.delete("/v1/organization/users/ann").raise_for_status()
    new = invite(koi)

    assert "gone" in refusal(accept(koi, token_of(old)))
    assert accept(koi, token_of(new)).status_code == 200


def test_the_list_says_of_a_link_that_gives_no_key_why(koi: Koi, tmp_path: Path) -> None:
    """Also when somebody else has the name by now: that one has an invitation of their own."""
    cli = commands(koi, tmp_path)
    invitations = {user: invite(koi, user) for user in ("carl", "dora", "emil", "fay")}
    cli.run("users", "delete", "carl")
    cli.run("users", "disable", "dora")
    cli.run("users", "delete", "emil")
    cli.run("users", "create", "emil")
    invitations["emil again"] = invite(koi, "emil")

    listed = {one["id"]: one["status"] for one in cli.json("invitations", "list")}
    with koi.client(ADMIN_KEY) as admin:
        told = admin.get("/v1/koi/invitations").json()["data"]
    lines = cli.text("invitations", "list").splitlines()
    (carl,) = [line for line in lines if invitations["carl"]["id"] in line]
    cli.run("users", "enable", "dora")
    enabled = {one["id"]: one["status"] for one in cli.json("invitations", "list")}

    status = {name: listed[one["id"]] for name, one in invitations.items()}
    assert status == {
        "carl": "user_deleted", "dora": "user_disabled", "emil": "user_deleted", "fay": "open",
        "emil again": "open",
    }  # fmt: skip
    assert {one["id"]: one["status"] for one in told} == listed
    assert "user deleted" in carl
    assert enabled[invitations["dora"]["id"]] == "open"
    for name, one in invitations.items():
        gives_a_key = accept(koi, token_of(one)).status_code == 200
        assert gives_a_key is (name in ("dora", "fay", "emil again"))


def test_a_token_is_no_api_key_and_is_stored_nowhere(koi: Koi) -> None:
    import redis

    token = token_of(invite(koi))
    with koi.client(token) as client:
        refused = client.get("/v1/usage")
    with koi.client(ADMIN_KEY) as admin:
        keys = admin.get("/v1/koi/api_keys").json()["data"]
        leaked = admin.post("/v1/koi/keys/identify", json={"text": token})
    with redis.Redis.from_url(str(koi.settings.redis_url)) as store:
        texts = [store.dump(key) or b"" for key in store.keys("*")]
    journal = b"".join(
        file.read_bytes() for file in Path(koi.settings.data_dir).rglob("*") if file.is_file()
    )

    assert refused.status_code == 401
    assert keys == []
    assert leaked.status_code in (200, 400), leaked.text
    assert "@admin" not in leaked.text
    assert all(token.encode() not in text for text in texts)
    assert token.encode() not in journal


def test_it_is_audited_from_the_link_to_the_key(koi: Koi) -> None:
    made = invite(koi)
    accept(koi, token_of(made))
    with koi.client(ADMIN_KEY) as admin:
        log = admin.get("/v1/organization/audit_logs").json()["data"]
    newest = [(one["koi"]["kind"], one["koi"]["user"], one["type"]) for one in log[:3]]

    assert newest == [
        ("invitation.accepted", "ann", "invite.accepted"),
        ("invitation.created", "ann", "invite.sent"),
        ("user.created", "ann", "user.added"),
    ]
    assert made["id"] in str(log[0])
    assert log[0]["actor"]["session"]["user"]["id"] == made["id"]


def test_the_commands_make_list_and_withdraw_links(koi: Koi, tmp_path: Path) -> None:
    cli = commands(koi, tmp_path)
    link = cli.run("invite", "ann", "--expires", "3d").stdout.strip()
    (listed,) = cli.json("invitations", "list")
    keys = cli.json("keys", "list")
    withdrawn = cli.run("invitations", "revoke", listed["id"]).stdout
    (after,) = cli.json("invitations", "list")

    assert link.startswith("http://127.0.0.1:8000/#/invite/koi-inv-")
    assert (listed["user"], listed["status"], after["status"]) == ("ann", "open", "revoked")
    assert keys == []
    assert "Withdrew" in withdrawn
    refusal(accept(koi, link.partition("#/invite/")[2]))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "token"),
        ({"token": 7}, "token"),
        ({"token": "x" * 129}, "token"),
        ({"tok": "x"}, "tok"),
    ],
)
def test_what_is_no_token_is_refused_by_name(koi: Koi, body: dict, param: str) -> None:
    refused = httpx.post(koi.url + ACCEPT, json=body)

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
