"""What the operator is told without asking, as its receiver meets it."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from standardwebhooks import Webhook

from app.domain.limits import Limits
from app.domain.notices import Notice, NoticeKind
from app.sandbox.server import Sandbox
from app.service.webhook_signature import new_webhook_secret
from tests.flow.command import Cli, cli_on
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi, gateway, operator_settings
from tests.receiver import Receiver, receiving

SECRET = new_webhook_secret()
DAY_MS = 86_400_000


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def sends_to(receiver: Receiver, **settings: Any) -> dict[str, Any]:
    quick = {"notice_interval_s": 0.05, "webhook_retry_s": 0.02, "webhook_timeout_s": 20}
    known = {"notice_webhook": receiver.url, "notice_webhook_secret": SECRET, "notice_disk_mb": 0}
    return {**quick, **known, **settings}


def buy(koi: Koi, key: str, *prompts: str) -> list[int]:
    with koi.client(key) as client:
        return [client.post(GENERATE, json={**KOI, "prompt": p}).status_code for p in prompts]


def told(receiver: Receiver, kind: str, times: int = 1) -> list[Any]:
    """The notices of one kind, once so many came."""
    deadline = time.monotonic() + 20
    while len(found := [one.json for one in receiver.at("/") if one.json["type"] == kind]) < times:
        assert time.monotonic() < deadline, [one.json for one in receiver.got]
        time.sleep(0.02)
    return found


def test_the_same_notice_is_queued_once_in_its_period(koi: Koi) -> None:
    def publish(subject: str, occasion: str = "") -> bool:
        notice = Notice(NoticeKind.LIMIT_REQUESTED, subject, {"reason": "a poster"}, occasion)
        return koi.operate(lambda operator: operator.notices.publish(notice))

    assert publish("user:ann")
    assert not publish("user:ann")
    assert publish("user:bob")
    assert publish("user:ann", "another day")


def test_a_limit_is_told_at_80_and_100_per_cent_once_in_its_window(
    start: Start, receiver: Receiver
) -> None:
    koi = start(**sends_to(receiver, house_images_per_month=5))
    key = koi.key("ann")
    limits = Limits(images_per_day=5, micros_per_month=100_000_000)
    koi.operate(lambda operator: operator.keys.set_user_limits("ann", limits))
    assert buy(koi, key, "a", "b", "c") == [200] * 3
    assert buy(koi, key, "d") == [200]
    told(receiver, "budget.threshold", 2)
    assert buy(koi, key, "e") == [200]
    found = told(receiver, "budget.threshold", 4)
    house = [one["data"]["percent"] for one in found if one["data"]["subject"] == "house"]
    first, second = (one for one in found if one["data"]["subject"] == "user:ann")

    assert sorted(house) == [80, 100]
    assert first["data"]["text"] == (
        "User ann has used 80 % of its images limit of this day: 4 of 5."
    )
    assert (second["data"]["percent"], second["data"]["subject"]) == (100, "user:ann")
    got = receiver.at("/")[0]
    assert Webhook(SECRET).verify(got.body, dict(got.headers)) == got.json


def test_stops_of_spending_are_told_with_who_and_why(start: Start, receiver: Receiver) -> None:
    koi = start(**sends_to(receiver))
    koi.operate(lambda operator: operator.keys.stop_spending("house", "The provider charges twice"))
    [stopped] = told(receiver, "spending.stopped")
    koi.operate(lambda operator: operator.keys.resume_spending("house"))
    [resumed] = told(receiver, "spending.resumed")

    assert stopped["data"]["text"].startswith("Spending is stopped for the whole house by cli:")
    assert "The provider charges twice" in stopped["data"]["text"]
    assert "goes on for the whole house" in resumed["data"]["text"]


def test_a_key_that_ends_soon_is_told_unless_it_was_made_for_a_short_time(
    sandbox: Sandbox, store_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    settings = operator_settings(redis_url=store_url, data_dir=tmp_path / "koi")
    before = Koi("", sandbox, settings)

    async def issue(operator: Any) -> str:
        await operator.keys.issue("ann", name="short", expires_in=timedelta(hours=2))
        key = (await operator.keys.issue("ann", name="old", expires_in=timedelta(days=6))).key
        long_ago = replace(key, created_ms=key.created_ms - 30 * DAY_MS)
        note = operator.keys._note("key.updated")
        await operator.keyring.save_key(long_ago, note)
        return str(key.id)

    key_id = before.operate(issue)
    with gateway(sandbox, store_url, tmp_path / "koi", **sends_to(receiver)):
        [notice] = told(receiver, "key.expiring")

    assert notice["data"]["subject"] == f"key:{key_id}"
    assert f'Key {key_id} "old" of user ann expires in 7 days' in notice["data"]["text"]


def test_a_full_disk_a_refused_key_and_wrong_counters_are_told(
    start: Start, receiver: Receiver, store_url: str
) -> None:
    koi = start(upstream_mode="sync", notice_interval_s=60, notice_disk_mb=0)
    assert buy(koi, koi.key(), "a") == [200]
    with redis.Redis.from_url(store_url, decode_responses=True) as client:
        [day] = list(client.scan_iter("koi:1:{ledger}:window:*-*-*"))
        right = client.hget(day, "house")
        client.hset(day, "house", "7 980000 0 0")
        second = start(**sends_to(receiver, notice_disk_mb=10**12, upstream_mode="sync"))
        [difference] = told(receiver, "ledger.difference")
        client.hset(day, "house", right)
    [disk] = told(receiver, "disk.low")
    koi.sandbox.script(*["401"] * 20)
    for number in range(20):
        buy(second, second.key(), f"refused {number}")
        if any(one.json["type"] == "upstream.breaker_open" for one in receiver.at("/")):
            break
    [breaker] = told(receiver, "upstream.breaker_open")

    assert "koi ledger check" in difference["data"]["text"]
    assert "MB left" in disk["data"]["text"]
    assert breaker["data"]["code"] == "upstream_auth"


def test_a_store_that_lost_its_data_is_told_although_nothing_is_spent(
    sandbox: Sandbox, store_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    with gateway(sandbox, store_url, tmp_path / "koi", **sends_to(receiver)) as koi:
        key = koi.key()
        assert buy(koi, key, "a") == [200]
        with redis.Redis.from_url(store_url) as client:
            client.flushdb()
        assert buy(koi, key, "b") == [503]
        [notice] = told(receiver, "ledger.data_lost")

    assert "koi ledger rebuild" in notice["data"]["text"]


@pytest.mark.parametrize(("form", "answer", "read"), [
    ("slack", (200, {}, b"ok"), lambda body: body["text"]),
    ("feishu", (200, {}, b'{"code":0,"msg":"success"}'), lambda body: body["content"]["text"]),
])  # fmt: skip
def test_slack_and_feishu_get_the_sentence_in_their_own_form(
    tmp_path: Path, store_url: str, receiver: Receiver, form: str, answer: Any,
    read: Callable[[Any], str],
) -> None:  # fmt: skip
    receiver.answer = lambda _: answer
    cli = notice_cli(tmp_path, store_url, receiver, KOI_NOTICE_FORM=form)
    assert "took it" in cli.text("notices", "test")

    [got] = receiver.wait()
    assert read(got.json).startswith("This is a test of the notices of ")


@pytest.mark.parametrize(("form", "shown"), [
    ("slack", "&lt;!channel&gt; &amp; more"), ("feishu", "\u2039!channel\u203a & more"),
])  # fmt: skip
def test_what_a_user_wrote_calls_nobody_and_links_nowhere(
    start: Start, receiver: Receiver, form: str, shown: str
) -> None:
    koi = start(**sends_to(receiver, notice_form=form))
    data = {"reason": "<!channel> & more", "images_per_day": 80}
    ask = Notice(NoticeKind.LIMIT_REQUESTED, "user:ann", data)
    assert koi.operate(lambda operator: operator.notices.publish(ask))
    body = receiver.wait()[0].json

    text = body["text"] if form == "slack" else body["content"]["text"]
    assert text == f"User ann asks for a higher limit of 80 images a day: {shown}"


def test_a_feishu_that_took_nothing_is_believed(
    tmp_path: Path, store_url: str, receiver: Receiver
) -> None:
    receiver.answer = lambda _: (200, {}, b'{"code":19024,"msg":"Key Words Not Found"}')
    cli = notice_cli(tmp_path, store_url, receiver, KOI_NOTICE_FORM="feishu")

    assert "Key Words Not Found" in cli.refused("notices", "test", code=1)


def test_doctor_says_whether_the_latest_notice_arrived(
    start: Start, tmp_path: Path, store_url: str, receiver: Receiver
) -> None:
    koi = start(**sends_to(receiver))
    cli = notice_cli(tmp_path, store_url, receiver)
    assert doctor(cli) == ("ok", "none was sent yet; try one with: koi notices test")
    answers = iter([500, 410])
    receiver.answer = lambda _: next(answers)
    ask = Notice(NoticeKind.LIMIT_REQUESTED, "user:ann", {"reason": "a poster"})
    assert koi.operate(lambda operator: operator.notices.publish(ask))
    koi_told = receiver.wait(times=2)

    until(lambda: doctor(cli)[0] == "warn")
    assert "the receiver is gone" in doctor(cli)[1]
    assert koi_told[0].json["data"]["text"] == "User ann asks for a higher limit: a poster"
    [listed] = cli.json("notices", "list")
    assert (listed["type"], listed["status"]) == ("limit.requested", "gone")


def test_without_a_receiver_notices_are_listed_only(koi: Koi, tmp_path: Path) -> None:
    url = koi.settings.redis_url
    assert url is not None
    cli = cli_on(tmp_path, url)
    ask = Notice(NoticeKind.LIMIT_REQUESTED, "team:art", {"reason": "a wall"})
    assert koi.operate(lambda operator: operator.notices.publish(ask))

    [listed] = cli.json("notices", "list")
    assert (listed["status"], listed["text"]) == (
        "kept",
        "Team art asks for a higher limit: a wall",
    )
    assert "KOI_NOTICE_WEBHOOK is not set" in cli.refused("notices", "test", code=1)


def notice_cli(path: Path, store_url: str, receiver: Receiver, **settings: str) -> Cli:
    return cli_on(path, store_url, KOI_NOTICE_WEBHOOK=receiver.url, **settings)


def doctor(cli: Cli) -> tuple[str, str]:
    """What doctor says of notices; other checks may fail here."""
    done = None
    for code in (0, 1):
        with contextlib.suppress(AssertionError):
            done = cli.run("doctor", "--json", code=code)
            break
    assert done is not None
    [found] = [row for row in json.loads(done.stdout) if row["check"] == "notices"]
    return found["status"], found["text"]


def until(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)
