"""What one key may take of everybody's: its rate, its waiting calls, its entries."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from app.adapters.redis.client.scripts import load_scripts
from app.domain.limits import Limits
from tests.flow.conftest import Start
from tests.flow.test_generate import GENERATE
from tests.harness import KOI, Koi
from tests.store_node import until

STUCK = {**KOI, "prompt": "[fault:stuck-99] a koi that never comes"}
REFUSED = {**KOI, "prompt": "[fault:moderation-400] a koi nobody may see"}
ASYNC = {"async": True}


def journal_bytes(koi: Koi) -> int:
    """All but what gateways write by themselves: where journals are, and copies of each other's."""
    files = (koi.settings.data_dir / "journal").glob("*.jsonl")
    lines = (line for file in files for line in file.read_bytes().splitlines())
    return sum(len(line) for line in lines if b'"job"' in line or b'"entry"' in line)


def settle(koi: Koi) -> None:
    """In the journal too, which is told a moment after the store."""
    koi.settled(20)
    ids = [f'"{entry.id}"'.encode() for entry in koi.entries()]
    place = koi.settings.data_dir / "journal"

    def told() -> bytes:
        return b"".join(file.read_bytes() for file in place.glob("*.jsonl"))

    until(lambda: all(id in told() for id in ids), "every entry is in the journal")


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def ended(client: httpx.Client, **fields: Any) -> str:
    """The id of a task that ended."""
    task = client.post(GENERATE, json={**KOI, **ASYNC, **fields}).json()["id"]
    client.get(f"/v1/tasks/{task}?wait=20").raise_for_status()
    return str(task)


def test_a_thousand_refused_cancels_write_nothing(koi: Koi) -> None:
    with koi.client() as client:
        task = ended(client)
        client.delete(f"/v1/tasks/{task}")
        settle(koi)
        before = journal_bytes(koi)
        codes = Counter(code(client.delete(f"/v1/tasks/{task}")) for _ in range(1000))

    assert codes == {"task_not_cancellable": 1000}
    assert journal_bytes(koi) == before


def test_a_cancelled_task_is_told_once_however_often_it_is_cancelled(start: Start) -> None:
    koi = start(upstream_concurrency=1)
    with koi.client() as client:
        koi.sandbox.set(latency_s=60)
        client.post(GENERATE, json={**KOI, **ASYNC})
        until(lambda: koi.sandbox.posts == 1, "it is in the way")
        waits = client.post(GENERATE, json={**KOI, **ASYNC, "prompt": "in the queue"}).json()["id"]
        first = client.delete(f"/v1/tasks/{waits}")
        assert code(first) == "task_cancelled"
        koi.sandbox.advance(60)
        settle(koi)
        told = journal_bytes(koi)

        def told_again() -> bool:
            client.delete(f"/v1/tasks/{waits}")
            return journal_bytes(koi) > told

        # The answer to the first one may have been lost: its repeat is told once more.
        until(told_again, "a repeat is told")
        told = journal_bytes(koi)
        again = [client.delete(f"/v1/tasks/{waits}") for _ in range(100)]

    assert {(a.status_code, code(a)) for a in again} == {(200, "task_cancelled")}
    assert journal_bytes(koi) == told


def test_a_list_is_read_page_by_page_both_ways(koi: Koi) -> None:
    with koi.client() as client:
        made = [ended(client, prompt=f"koi {n}") for n in range(5)]
        refused = ended(client, prompt=REFUSED["prompt"])

        def pages(**query: Any) -> list[list[str]]:
            found: list[list[str]] = []
            while True:
                page = client.get("/v1/tasks", params=query).json()
                found.append([task["id"] for task in page["data"]])
                assert (page["first_id"], page["last_id"]) == (found[-1][0], found[-1][-1])
                if not page["has_more"]:
                    return found
                query["after"] = page["last_id"]

        newest = [refused, *reversed(made)]
        assert pages(limit=4) == [newest[:4], newest[4:]]
        assert pages(limit=3, order="asc") == [made[:3], [*made[3:], refused]]
        assert pages(limit=6) == [newest]
        assert pages(status="failed") == [[refused]]
        shown = client.get("/v1/tasks?limit=2&status=completed").json()["data"]
        one = client.get(f"/v1/tasks/{made[-1]}").json()
        links = [httpx.get(task["data"][0]["url"]).status_code for task in shown]
        wrong = [
            client.get(f"/v1/tasks?{query}")
            for query in ("after=task_" + "0" * 32, "after=x", "order=up", "status=lost", "limit=x")
        ]

    assert shown[0].keys() == one.keys()
    assert links == [200, 200]
    assert {(a.status_code, code(a)) for a in wrong} == {(400, "invalid_value")}


def test_nobody_pages_from_a_task_that_is_another_users(koi: Koi) -> None:
    with koi.client() as ann, koi.client(koi.key("bob")) as bob:
        task = ended(ann)
        ended(bob)
        answer = bob.get(f"/v1/tasks?after={task}")

    assert (answer.status_code, code(answer)) == (400, "invalid_value")


def test_a_key_that_comes_too_fast_is_refused_before_its_body_is_read(start: Start) -> None:
    koi = start(key_requests_per_second=1)
    with koi.client() as fast, koi.client(koi.key("bob")) as polite:
        answers = [fast.post(GENERATE, content=b"{") for _ in range(20)]
        kept = polite.get("/v1/models").status_code

    refused = [a for a in answers if a.status_code == 429]
    assert 400 in {a.status_code for a in answers}
    assert refused
    assert {code(a) for a in refused} == {"rate_limit_exceeded"}
    assert {a.headers["retry-after"] for a in refused} == {"1"}
    assert kept == 200


@pytest.mark.parametrize("digits", [1, 20])
def test_a_long_body_counts_for_more_than_one_request(start: Start, digits: int) -> None:
    """Receiving 190 KB costs more than refusing them saves, so they count like six requests,
    whatever zeros are put before their length."""
    koi = start(key_requests_per_second=1.5, default_requests_per_minute=100_000)
    long = b'{"junk":"' + b"x" * 190_000 + b'"}'
    headers = {"content-length": f"{len(long):0{digits}d}"}
    with koi.client() as client:
        said = [client.post(GENERATE, content=long, headers=headers) for _ in range(2)]
        unannounced = client.post(GENERATE, content=iter([b"{}"]))
        until(lambda: client.post(GENERATE, content=long).status_code == 400, "it is taken again")

    assert [answer.status_code for answer in said] == [400, 429]
    assert code(said[1]) == code(unannounced) == "rate_limit_exceeded"
    assert koi.sandbox.posts == 0


def test_reads_have_a_rate_limit_of_their_own_and_long_lists_count_for_more(start: Start) -> None:
    koi = start(key_reads_per_second=10)
    for number in range(20):
        with koi.client(koi.key(f"ann-{number}")) as client:
            began = time.monotonic()
            lists = [client.get("/v1/tasks?limit=100").status_code for _ in range(6)]
            took_s = time.monotonic() - began
            posts = client.post(GENERATE, json=KOI).status_code
        if took_s < 0.5:  # after that there is room for a fifth
            break
    with koi.client(koi.key("bob")) as client:
        reads = [client.get("/v1/usage").status_code for _ in range(12)]

    assert lists == [200] * 4 + [429] * 2
    assert posts == 200
    assert reads == [200] * 12


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/v1/tasks?limit=20", "/v1/usage"])
def test_a_list_of_twenty_counts_once_however_it_is_read(
    start: Start, method: str, path: str
) -> None:
    koi = start(key_reads_per_second=1)
    with koi.client() as client:
        answers = [client.request(method, path).status_code for _ in range(6)]

    assert answers[:2] == [200, 200]
    assert 429 in answers


def test_what_the_store_said_of_a_keys_rate_limit_is_not_asked_again(
    koi: Koi, store_url: str
) -> None:
    key = koi.key(limits=Limits(requests_per_minute=1))
    with koi.client(key) as client, redis.Redis.from_url(store_url) as store:
        with scripts_run(store) as asked:
            assert client.post(GENERATE, json=KOI).status_code == 200
            assert client.post(GENERATE, json=KOI).status_code == 429
        with scripts_run(store) as names:
            answers = [client.post(GENERATE, content=b"not even JSON") for _ in range(10)]

    assert {code(a) for a in answers} == {"rate_limit_exceeded"}
    assert all(1 <= int(a.headers["retry-after"]) <= 60 for a in answers)
    assert asked["check_rate_limit"] + asked["admit"] > 1
    assert names["check_rate_limit"] + names["admit"] == 0


@contextmanager
def scripts_run(store: "redis.Redis[bytes]") -> Iterator[Counter[str]]:
    """How often each of the ledger's scripts ran meanwhile: the gateway's own loops run others."""
    known = {script.sha: name for name, script in load_scripts("ledger").items()}
    names: Counter[str] = Counter()
    store.config_set("slowlog-max-len", 10_000)
    store.config_set("slowlog-log-slower-than", 0)
    store.slowlog_reset()
    try:
        yield names
        for entry in store.slowlog_get(10_000):
            words = entry["command"].decode(errors="replace").split(" ", 2)
            names[known.get(words[1], "") if len(words) > 1 else ""] += 1
    finally:
        store.config_set("slowlog-log-slower-than", -1)


def test_a_raised_limit_holds_at_once_although_the_key_was_refused(koi: Koi) -> None:
    key = koi.key()
    none: dict[str, Any] = {"team": None, "cache": None}
    koi.operate(
        lambda operator: operator.keys.set_user("ann", **none, limits=Limits(requests_per_minute=1))
    )
    with koi.client(key) as client:
        statuses = [client.post(GENERATE, json=KOI).status_code for _ in range(3)]
        koi.operate(lambda operator: operator.keys.set_user("ann", **none, limits=Limits()))
        deadline = time.monotonic() + 20
        while (last := client.post(GENERATE, json=KOI).status_code) != 200:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    assert 429 in statuses
    assert last == 200


def test_a_body_of_countless_brackets_is_refused_by_name(koi: Koi) -> None:
    body = json.dumps({**KOI, "x": [{}] * 65_000})
    prompt = {**KOI, "prompt": json.dumps({"a": ["b"] * 1_500}, separators=(",", ":")) + ",:[]" * 5}
    with koi.client() as client:
        answer = client.post(GENERATE, content=body)
        text = client.post(GENERATE, json={**prompt, "prompt": prompt["prompt"] + "," * 20_000})

    assert (answer.status_code, code(answer)) == (400, "too_complex")
    assert text.status_code == 200


def test_waiting_callers_of_one_key_leave_room_for_everybody_else(start: Start) -> None:
    koi = start(max_in_flight=8, waiting_share=0.25, task_deadline_s=3)
    greedy, polite = koi.key("ann"), koi.key("bob")

    async def crowd() -> tuple[list[httpx.Response], int]:
        async with httpx.AsyncClient(base_url=koi.url, timeout=30) as client:
            headers = {"authorization": f"Bearer {greedy}", "idempotency-key": "again-and-again"}
            calls = [
                asyncio.create_task(client.post(GENERATE, json=STUCK, headers=headers))
                for _ in range(12)
            ]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            served = await client.post(
                GENERATE, json=KOI, headers={"authorization": f"Bearer {polite}"}
            )
            return list(await asyncio.gather(*calls)), served.status_code

    answers, served = asyncio.run(crowd())

    refused = [a for a in answers if a.status_code == 429]
    assert served == 200
    assert len(refused) == 10
    assert {code(a) for a in refused} == {"too_many_waiting"}
    assert {(a.headers["x-should-retry"], a.headers["retry-after"]) for a in refused} == {
        ("true", "2")
    }


def test_long_polls_and_other_keys_of_the_user_are_in_the_same_share(start: Start) -> None:
    koi = start(max_in_flight=8, waiting_share=0.25, task_deadline_s=3)
    one, other = koi.key("ann"), koi.key("ann")
    with koi.client(one) as client:
        task = client.post(GENERATE, json={**STUCK, **ASYNC}).json()["id"]

    async def crowd() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=koi.url, timeout=30) as client:
            calls = [
                client.get(f"/v1/tasks/{task}?wait=25", headers={"authorization": f"Bearer {key}"})
                for key in (one, other) * 3
            ]
            return list(await asyncio.gather(*calls))

    answers = asyncio.run(crowd())
    with koi.client(one) as client:
        free_again = client.get(f"/v1/tasks/{task}?wait=1").status_code

    assert Counter(a.status_code for a in answers) == {200: 2, 429: 4}
    assert free_again == 200


def test_an_hours_free_refusals_are_counted_and_cost_no_more_posts(start: Start) -> None:
    koi = start(free_refusals_per_hour=3, upstream_mode="sync")
    with koi.client() as client:
        told = [
            client.post(GENERATE, json={**KOI, "prompt": f"{REFUSED['prompt']} {n}"})
            for n in range(5)
        ]
        hit = client.post(GENERATE, json=KOI)
    with koi.client(koi.key("bob")) as client:
        other = client.post(GENERATE, json=KOI)

    assert [code(a) for a in told] == ["content_policy_violation"] * 3 + ["too_many_refusals"] * 2
    assert (told[-1].status_code, told[-1].headers["x-should-retry"]) == (429, "false")
    assert "60 min" in told[-1].json()["error"]["message"]
    assert code(hit) == "too_many_refusals"
    assert other.status_code == 200
    assert koi.sandbox.posts == 4


def test_failures_of_the_provider_are_not_counted_against_its_caller(start: Start) -> None:
    koi = start(free_refusals_per_hour=1, upstream_mode="sync")
    with koi.client() as client:
        failed = [
            client.post(GENERATE, json={**KOI, "prompt": f"[fault:500] {n}"}) for n in range(3)
        ]
        made = client.post(GENERATE, json=KOI)

    assert "too_many_refusals" not in {code(a) for a in failed}
    assert made.status_code == 200


def test_replays_are_kept_up_to_so_many_an_hour_and_hits_go_on(
    start: Start, store_url: str
) -> None:
    koi = start(replays_per_hour=5, cache_variants=1)
    with koi.client() as client, redis.Redis.from_url(store_url) as store:
        client.post(GENERATE, json=KOI).raise_for_status()

        def hits(count: int, **headers: str) -> set[str | None]:
            return {
                client.post(
                    GENERATE, json=KOI, headers={"idempotency-key": f"{time.time_ns()}", **headers}
                ).headers.get("x-koi-cache")
                for _ in range(count)
            }

        looks = hits(5, **{"cache-control": "only-if-cached"})
        kept_by_looks = replays(store)
        found = hits(20)
        kept = replays(store)

    assert looks == found == {"hit"}
    assert (kept_by_looks, kept) == (0, 5)


def replays(store: "redis.Redis[bytes]") -> int:
    return len(store.keys("*:replay:*"))


def test_one_picture_is_sent_to_so_many_at_once_and_all_get_it(start: Start) -> None:
    koi = start()
    with koi.client() as client:
        link = client.post(GENERATE, json=KOI).json()["data"][0]["url"]

    async def crowd() -> set[int]:
        async with httpx.AsyncClient(timeout=30) as client:
            answers = await asyncio.gather(*(client.get(link) for _ in range(60)))
            return {answer.status_code for answer in answers}

    assert asyncio.run(crowd()) == {200}


def test_the_journal_says_once_what_a_repeated_write_tells_again(tmp_path: Path) -> None:
    from app.adapters.journal.file import FileJournal
    from app.domain.journal import ChangeKind, JournalRecord, Position, StoreChange

    journal = FileJournal(tmp_path)

    def note(*changes: StoreChange) -> int:
        journal.append(JournalRecord(Position(7, "me", "life"), changes, 1))
        return sum(file.stat().st_size for file in tmp_path.glob("*.jsonl"))

    opened = StoreChange(ChangeKind.JOB, "task_1", ["state", "R", "n", "1"], 5)
    sent = StoreChange(ChangeKind.JOB, "task_1", ["state", "D"], 6)
    entry = StoreChange(ChangeKind.ENTRY, "1-0", ["job", "task_1"], 7)
    user = StoreChange(ChangeKind.USERS, "ann", ["ann", "{}"], 7)
    written = note(opened)

    assert note(opened) == written
    assert note(sent) > written
    assert note(sent, entry) > (both := note(sent)) - 1
    assert note(entry, sent) == note(entry) >= both
    assert note(opened) > both, "an earlier state told again is a change"
    assert note(user) < note(user), "what an operator changes may change back"
    journal.close()
