"""Webhooks of tasks, as their receivers meet them."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
import redis
from standardwebhooks import Webhook, WebhookVerificationError

from app.adapters.redis import keyspace
from app.domain.administration import AuditQuery
from app.domain.webhooks import WebhookTarget
from app.service.delivery_sender import MAX_PER_RECEIVER
from app.wiring.operator import OperatorContext
from tests.flow.command import cli_on
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.flow.test_sdk_node import NODE
from tests.harness import KOI, Koi
from tests.receiver import Received, Receiver, receiving

QUICK_DELIVERY: dict[str, Any] = {
    "webhook_hosts": "127.0.0.1",
    "webhook_retry_s": 0.02,
    "webhook_timeout_s": 20,
}
DELIVERIES, SECRET = "/v1/koi/webhooks", "/v1/koi/webhooks/secret"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def koi(start: Start) -> Koi:
    return start(**QUICK_DELIVERY)


def post(koi: Koi, key: str, prompt: str = "a koi", **fields: Any) -> Any:
    headers = fields.pop("headers", {})
    with koi.client(key) as client:
        return client.post(GENERATE, json={**KOI, "prompt": prompt, **fields}, headers=headers)


def ask(koi: Koi, key: str, webhook: str, prompt: str = "a koi", **fields: Any) -> Any:
    """A task that this URL is told of."""
    answer = post(koi, key, prompt, webhook=webhook, **{"async": True, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def deliveries(koi: Koi, key: str, **query: Any) -> list[dict[str, Any]]:
    with koi.client(key) as client:
        found: list[dict[str, Any]] = client.get(DELIVERIES, params=query).json()["data"]
    return found


def until(koi: Koi, key: str, within_s: float = 20, **wanted: Any) -> dict[str, Any]:
    """The newest delivery, once it has these values."""
    deadline = time.monotonic() + within_s
    while not (found := deliveries(koi, key)[:1]) or not wanted.items() <= found[0].items():
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found[0]


def at_the_provider(koi: Koi) -> None:
    deadline = time.monotonic() + 20
    while not koi.sandbox.posts:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def secret_of(koi: Koi, key: str, *, rotate: bool = False) -> str:
    with koi.client(key) as client:
        secret: str = (client.post(SECRET) if rotate else client.get(SECRET)).json()["secret"]
    return secret


def verifies(got: Received, secret: str) -> bool:
    try:
        Webhook(secret).verify(got.body, dict(got.headers))
    except WebhookVerificationError:
        return False
    return True


def test_a_webhook_brings_the_task_as_its_url_shows_it(koi: Koi, receiver: Receiver) -> None:
    key = koi.key()
    task = ask(koi, key, f"{receiver.url}/?a=1")
    [got] = receiver.wait("/?a=1")
    with koi.client(key) as client:
        shown = client.get(f"/v1/tasks/{task['id']}").json()
        picture = client.get(got.json["data"]["data"][0]["url"])

    assert got.json["type"] == "task.completed"
    assert {**got.json["data"], "data": None} == {**shown, "data": None}
    assert picture.status_code == 200
    assert got.headers["content-type"] == "application/json"
    found = until(koi, key, status="delivered")
    assert (found["id"], found["task_id"], found["response_status"]) == (got.id, task["id"], 204)


def test_published_verifiers_accept_it_and_refuse_a_changed_one(
    koi: Koi, receiver: Receiver
) -> None:
    key = koi.key()
    ask(koi, key, receiver.url, "a koi in \u96ea")
    [got] = receiver.wait()
    secret = secret_of(koi, key)
    client = openai.OpenAI(api_key="unused")

    assert Webhook(secret).verify(got.body, dict(got.headers)) == got.json
    client.webhooks.verify_signature(got.body, dict(got.headers), secret=secret)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(got.body.replace(b"completed", b"completes"), dict(got.headers))


@pytest.mark.skipif(
    shutil.which("node") is None or not (NODE / "node_modules" / "standardwebhooks").is_dir(),
    reason="needs node and `npm ci` in tests/sdk/node",
)
def test_the_published_verifiers_in_node_accept_it(koi: Koi, receiver: Receiver) -> None:
    key = koi.key()
    ask(koi, key, receiver.url)
    [got] = receiver.wait()
    given = {"secret": secret_of(koi, key), "headers": dict(got.headers), "body": got.body.decode()}

    ran = subprocess.run(
        ["node", "verify.mjs"], cwd=NODE, input=json.dumps(given),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {"verified": got.json, "unwrapped": got.json}


def test_a_failed_task_says_why_and_events_choose_what_is_told(
    koi: Koi, receiver: Receiver
) -> None:
    key = koi.key()
    koi.sandbox.script("400")
    ask(koi, key, f"{receiver.url}/completed", "a", webhook_events=["task.completed"])
    koi.settled()
    koi.sandbox.script("400")
    ask(koi, key, f"{receiver.url}/failed", "b", webhook_events=["task.failed"])
    [got] = receiver.wait("/failed")

    assert (got.json["type"], got.json["data"]["status"]) == ("task.failed", "failed")
    assert got.json["data"]["error"]["code"] == "upstream_rejected"
    assert receiver.at("/completed") == []


def test_a_default_of_the_key_or_its_user_is_told_of_every_task(
    start: Start, receiver: Receiver, tmp_path: Path
) -> None:
    koi = start(**QUICK_DELIVERY)
    url = koi.settings.redis_url
    assert url is not None
    cli = cli_on(tmp_path, url, KOI_WEBHOOK_HOSTS="127.0.0.1")
    cli.run("users", "create", "ann", "--webhook", f"{receiver.url}/user")
    secret = cli.json("keys", "create", "--user", "ann")["key"]
    named = cli.json("keys", "create", "--user", "ann", "--webhook", f"{receiver.url}/key")

    assert post(koi, secret, "one").status_code == 200
    assert post(koi, named["key"], "two").status_code == 200
    ask(koi, named["key"], f"{receiver.url}/request", "three")

    for path in ("/user", "/key", "/request"):
        assert receiver.wait(path)[0].json["type"] == "task.completed"
    cli.run("keys", "set", named["key_id"], "--no-webhook")
    cli.run("users", "set", "ann", "--no-webhook")
    assert cli.json("users", "show", "ann").get("webhook") is None
    listed = cli.json("webhooks", "list", "--user", "ann")
    assert len(listed) == len(receiver.got) == 3
    assert cli.json("webhooks", "secret", "--user", "ann")["secret"] == secret_of(koi, secret)
    fresh = cli.json("webhooks", "secret", "--user", "ann", "--rotate")
    assert fresh["secret"] == secret_of(koi, secret)
    assert fresh["previous_signs_until"] is not None
    cli.run("webhooks", "redeliver", listed[0]["id"])
    again = receiver.wait("/request", times=2)[1]
    assert (again.id, verifies(again, fresh["secret"])) == (listed[0]["id"], True)
    assert "There is no such delivery" in cli.refused("webhooks", "redeliver", "msg_0", code=1)
    refused = cli.refused("users", "set", "ann", "--webhook", "http://koi.example/", code=1)
    assert "not https" in refused


@pytest.mark.parametrize(("fields", "param"), [
    ({"webhook": "http://koi.example/"}, "webhook"),
    ({"webhook": "ftp://koi.example/"}, "webhook"),
    ({"webhook": "https://10.0.0.1/"}, "webhook"),
    ({"webhook": "https://user:pass@koi.example/"}, "webhook"),
    ({"webhook": 7}, "webhook"),
    ({"webhook_events": ["task.started"]}, "webhook_events"),
    ({"webhook_events": "task.failed"}, "webhook_events"),
])  # fmt: skip
def test_what_cannot_be_told_is_refused_before_anything_is_spent(
    koi: Koi, fields: dict[str, Any], param: str
) -> None:
    answer = post(koi, koi.key(), **fields)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert "task.started" not in answer.text, "a refusal repeats nothing"
    assert koi.sandbox.billed_images == 0


def test_a_receiver_that_fails_is_tried_again_with_the_same_message(
    koi: Koi, receiver: Receiver
) -> None:
    receiver.answer = lambda _: 503 if len(receiver.got) < 3 else 200
    key = koi.key()
    task = ask(koi, key, receiver.url)
    got = receiver.wait(times=3)

    assert len({one.id for one in got}) == 1
    assert {one.json["data"]["id"] for one in got} == {task["id"]}
    found = until(koi, key, status="delivered", tries=3)
    assert (found["response_status"], found["next_try_at"]) == (200, None)


def test_a_receiver_that_is_gone_is_not_asked_again(koi: Koi, receiver: Receiver) -> None:
    receiver.answer = lambda _: 410
    key = koi.key()
    ask(koi, key, receiver.url)

    assert until(koi, key, status="gone")["tries"] == 1
    assert deliveries(koi, key, status="failed")[0]["error"] == "the receiver is gone (410)"


def test_a_redirect_is_a_failure_and_is_not_followed(koi: Koi, receiver: Receiver) -> None:
    receiver.answer = lambda _: (307, {"location": f"{receiver.url}/elsewhere"}, b"")
    key = koi.key()
    ask(koi, key, receiver.url)
    receiver.wait(times=2)

    found = until(koi, key, status="waiting", response_status=307)
    assert "redirects are not followed" in found["error"]
    assert receiver.at("/elsewhere") == []


def test_a_name_that_leads_to_a_private_address_gets_nothing(
    start: Start, receiver: Receiver
) -> None:
    koi = start(**QUICK_DELIVERY | {"webhook_hosts": ""})
    key = koi.key()
    ask(koi, key, receiver.url.replace("http://127.0.0.1", "https://localhost"))

    found = until(
        koi, key, status="waiting", error="the link leads to an address that is not public"
    )
    assert found["response_status"] is None
    assert receiver.got == []


def test_a_slow_receiver_holds_up_nobody_else(koi: Koi, receiver: Receiver) -> None:
    at_once: list[int] = []

    def answer(got: Received) -> int:
        if got.path == "/slow":
            at_once.append(1)
            most.append(len(at_once))
            time.sleep(0.8)
            at_once.pop()
        return 204

    most: list[int] = []

    receiver.answer = answer
    with receiving() as quick:
        key, other = koi.key("ann"), koi.key("bob")
        for number in range(12):
            ask(koi, key, f"{receiver.url}/slow", f"slow {number}")
        receiver.wait("/slow", times=4)
        mine = ask(koi, key, f"{quick.url}/mine", "mine")
        theirs = ask(koi, other, f"{receiver.url}/theirs", "theirs")
        first, second = quick.wait("/mine")[0], receiver.wait("/theirs")[0]

    assert (first.json["data"]["id"], second.json["data"]["id"]) == (mine["id"], theirs["id"])
    assert max(most) <= MAX_PER_RECEIVER


def test_a_rotated_secret_signs_beside_the_old_one(koi: Koi, receiver: Receiver) -> None:
    key = koi.key()
    old = secret_of(koi, key)
    new = secret_of(koi, key, rotate=True)
    ask(koi, key, receiver.url)
    [got] = receiver.wait()

    assert old != new == secret_of(koi, key)
    assert verifies(got, old)
    assert verifies(got, new)
    assert not verifies(got, "whsec_" + "A" * 44)
    page = koi.operate(
        lambda operator: operator.audit_log.page(AuditQuery(users=frozenset({"ann"})))
    )
    renewed = [record for record in page.records if record.kind == "user.webhook_secret_renewed"]
    assert [record.actor.partition(":")[0] for record in renewed] == ["key", "key"]
    assert old not in repr(page)
    assert new not in repr((page, koi.operate(lambda operator: operator.keyring.user("ann"))))


def test_a_secret_is_for_unrestricted_keys_and_rotated_once_a_day(koi: Koi) -> None:
    free = koi.key("ann")
    narrow = koi.key("ann", models=frozenset({"grok-imagine"}))
    ending = koi.key("ann", expires_in=timedelta(hours=1))
    refused = []
    for key in (narrow, ending):
        with koi.client(key) as client:
            refused += [client.get(SECRET), client.post(SECRET)]
    first = secret_of(koi, free)
    second = secret_of(koi, free, rotate=True)
    with koi.client(free) as client:
        again = client.post(SECRET)

    told = [(answer.status_code, answer.json()["error"]["code"]) for answer in refused]
    assert told == [(403, "not_allowed")] * 4
    assert (again.status_code, again.json()["error"]["code"]) == (400, "conflict")
    assert first != second == secret_of(koi, free)


def test_a_delivery_is_sent_again_on_demand_by_its_owner(koi: Koi, receiver: Receiver) -> None:
    key = koi.key("ann")
    ask(koi, key, receiver.url)
    delivery = until(koi, key, status="delivered")
    path = f"{DELIVERIES}/{delivery['id']}/redeliver"
    with koi.client(koi.key("bob")) as stranger:
        refused = stranger.post(path)
    with koi.client(key) as client:
        again = client.post(path)
    got = receiver.wait(times=2)

    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "object_not_found")
    assert again.json()["id"] == delivery["id"] == got[0].id == got[1].id
    assert until(koi, key, status="delivered", tries=2)["id"] == delivery["id"]


def test_whoever_is_answered_with_anothers_task_is_told_too(
    start: Start, receiver: Receiver
) -> None:
    koi = start(**QUICK_DELIVERY, cache_variants=1)
    key = koi.key()
    koi.sandbox.set(latency_s=60)
    first = ask(koi, key, f"{receiver.url}/first")
    joined = ask(koi, key, f"{receiver.url}/joined")
    same = ask(koi, key, f"{receiver.url}/joined", stream=False)
    at_the_provider(koi)
    koi.sandbox.advance(60)
    for path in ("/first", "/joined"):
        receiver.wait(path)
    hit = ask(koi, key, f"{receiver.url}/hit")
    again = ask(koi, key, f"{receiver.url}/hit", stream=False)
    hits = receiver.wait("/hit", times=2)

    assert first["id"] == joined["id"] == same["id"] == hit["id"] == again["id"]
    assert [len({got.id for got in receiver.at(path)}) for path in ("/first", "/joined")] == [1, 1]
    assert len({one.id for one in hits}) == 2
    assert {one.json["data"]["status"] for one in hits} == {"completed"}


def test_whoever_cannot_be_told_of_anothers_task_any_more_is_refused(
    start: Start, receiver: Receiver
) -> None:
    koi = start(**QUICK_DELIVERY, cache_variants=1, task_deadline_s=120)
    key = koi.key()
    koi.sandbox.set(latency_s=60)
    task = ask(koi, key, f"{receiver.url}/first")

    async def fill(operator: OperatorContext) -> str:
        for number in range(20):
            target = WebhookTarget(f"https://{number}.test/", "ann", koi.url, 60_000)
            added = await operator.deliveries.add_webhook(task["id"], target, None)
        return added

    assert koi.operate(fill) == "full"
    refused = post(koi, key, webhook=f"{receiver.url}/late", **{"async": True})
    at_the_provider(koi)
    koi.sandbox.advance(60)
    receiver.wait("/first")

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "webhook")
    assert "Nothing was charged" in refused.json()["error"]["message"]

    koi.settled()
    with redis.Redis.from_url(str(koi.settings.redis_url)) as client:
        client.delete(f"{keyspace.key('job')}{task['id']}")
    hit = post(koi, key, webhook=f"{receiver.url}/never", stream=False)
    assert "not kept any more" in hit.json()["error"]["message"], hit.text


def test_a_repeat_by_its_idempotency_key_is_told_once(koi: Koi, receiver: Receiver) -> None:
    key, once = koi.key(), {"headers": {"idempotency-key": "once"}}
    ask(koi, key, receiver.url, **once)
    until(koi, key, status="delivered")
    ask(koi, key, receiver.url, **once)
    ask(koi, key, f"{receiver.url}/last", "another")
    receiver.wait("/last")

    assert len(receiver.at("/")) == 1


def test_deliveries_are_counted_by_their_outcome(start: Start, receiver: Receiver) -> None:
    koi = start(**QUICK_DELIVERY)
    receiver.answer = lambda _: 500 if len(receiver.got) == 1 else 204
    key = koi.key()
    ask(koi, key, receiver.url)
    until(koi, key, status="delivered")

    with koi.client(key) as client:
        text = client.get("/metrics").text
    assert 'koi_deliveries_total{kind="webhook",outcome="waiting"} 1.0' in text
    assert 'koi_deliveries_total{kind="webhook",outcome="delivered"} 1.0' in text
