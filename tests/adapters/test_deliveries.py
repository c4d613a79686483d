"""Waiting deliveries in the store: created with the end of a task, in order, bounded, fair."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from store_rig import (
    NOTE,
    Engine,
    admission,
    delivered,
    ledger_on,
    principal,
    released,
    scripts_on,
    started,
    unknown,
)
from test_ledger_rebuild import Host, empty, host  # noqa: F401  a fixture

from app.adapters.redis import keyspace
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.deliveries import RedisDeliveryQueue, RedisNotices
from app.adapters.redis.keyring import RedisKeyRing
from app.adapters.redis.ledger import RedisLedger
from app.adapters.webhooks.poster import HttpWebhookPoster
from app.domain.errors import LedgerDataLost
from app.domain.job import JobState, Outcome, PendingImage
from app.domain.ledger import CollectionReport
from app.domain.limits import Limits
from app.domain.notices import Notice, NoticeKind
from app.domain.principal import User
from app.domain.webhooks import (
    Delivery,
    DeliveryReport,
    DeliveryRoom,
    DeliveryState,
    WebhookEvent,
    WebhookTarget,
)
from app.service.background import BackgroundTasks
from app.service.delivery_sender import DeliverySender
from app.service.notice_forms import NoticeReceiver
from app.service.webhook_secrets import WebhookSecrets
from tests.receiver import receiving

DAY_MS = 86_400_000
ROOM = DeliveryRoom(64, 4, 16)


def hook(url: str = "https://a.test/hook", user: str = "ann", **options: Any) -> WebhookTarget:
    return WebhookTarget(url, user, "https://koi.test", DAY_MS, **options)


def queue_on(store: BatchingStore) -> RedisDeliveryQueue:
    return RedisDeliveryQueue(scripts_on(store))


async def claimed(queue: RedisDeliveryQueue, room: DeliveryRoom = ROOM) -> list[Delivery]:
    return list((await queue.claim(room, 60_000)).deliveries)


async def awaited(queue: RedisDeliveryQueue, room: DeliveryRoom = ROOM) -> list[Delivery]:
    """What is claimed as soon as something is due."""
    while not (found := await claimed(queue, room)):
        await asyncio.sleep(0.001)
    return found


class NoRecorder:
    def delivery_tried(self, kind: str, outcome: str) -> None: ...


def sender_on(
    store: BatchingStore, ledger: RedisLedger, keyring: RedisKeyRing, poster: HttpWebhookPoster
) -> DeliverySender:
    return DeliverySender(
        queue=queue_on(store),
        ledger=ledger,
        secrets=WebhookSecrets(keyring, NOTE.actor),
        poster=poster,
        notices=NoticeReceiver(poster, None, "generic", None),
        compose=lambda *_: b"{}",
        recorder=NoRecorder(),
        background=BackgroundTasks(lambda *_: None),
        timeout_ms=5_000,
        first_pause_ms=1,
    )


async def test_the_end_of_a_task_creates_its_delivery_once(
    store: BatchingStore, ledger: RedisLedger
) -> None:
    queue = queue_on(store)
    job_id = await started(ledger, admission(webhook=hook()))
    assert await claimed(queue) == []
    for _ in range(2):
        await ledger.settle(job_id, delivered(1))

    [delivery] = await claimed(queue)
    assert (delivery.kind, delivery.job_id, delivery.user) == ("task.completed", job_id, "ann")
    assert (delivery.url, delivery.tries) == ("https://a.test/hook", 1)
    assert await claimed(queue) == []
    assert await queue.report(DeliveryReport(delivery, DeliveryState.DELIVERED)) == "delivered"
    [listed] = await queue.list_newest("ann", 10)
    assert (listed.state, listed.due_ms) == (DeliveryState.DELIVERED, None)


async def test_a_task_without_a_webhook_leaves_no_trace_of_one(
    engine: Engine, ledger: RedisLedger
) -> None:
    await ledger.settle(await started(ledger, admission()), delivered(1))

    with engine.client() as admin:
        assert [key for key in admin.scan_iter() if "deliver" in key or "receivers" in key] == []


async def test_the_end_of_a_collection_creates_the_delivery(
    store: BatchingStore, ledger: RedisLedger
) -> None:
    queue = queue_on(store)
    job_id = await started(ledger, admission(webhook=hook()))
    link = PendingImage(0, 0, "https://cdn.test/")
    await ledger.settle(job_id, Outcome(JobState.SETTLED, billed=1, pending=(link,)), collect_ms=9)
    assert await claimed(queue) == []
    await ledger.record_collection(job_id, CollectionReport(lost=(link,), due_ms=9))

    assert [one.kind for one in await claimed(queue)] == ["task.failed"]


async def test_a_later_end_replaces_an_earlier_one_that_was_not_told(
    store: BatchingStore, ledger: RedisLedger
) -> None:
    queue = queue_on(store)
    job_id = await started(ledger, admission(webhook=hook()))
    await ledger.settle(job_id, unknown(), hold_ms=60_000)
    await ledger.settle(job_id, delivered(1))

    assert [one.kind for one in await claimed(queue)] == ["task.completed"]
    states = {one.kind: one.state for one in await queue.list_newest("ann", 10)}
    assert states["task.failed"] == DeliveryState.SUPERSEDED


async def test_a_later_end_waits_for_an_earlier_one_that_is_being_told(
    store: BatchingStore, ledger: RedisLedger
) -> None:
    queue = queue_on(store)
    job_id = await started(ledger, admission(webhook=hook()))
    await ledger.settle(job_id, unknown(), hold_ms=60_000)
    [failed] = (await queue.claim(ROOM, 60_000)).deliveries
    await ledger.settle(job_id, delivered(1))

    assert (await queue.claim(ROOM, 1)).deliveries == []
    await queue.report(DeliveryReport(failed, DeliveryState.DELIVERED))
    assert [one.kind for one in await awaited(queue)] == ["task.completed"]


async def test_a_report_after_the_lease_was_lost_changes_nothing(
    store: BatchingStore, ledger: RedisLedger
) -> None:
    queue = queue_on(store)
    await ledger.settle(await started(ledger, admission(webhook=hook())), delivered(1))
    [late] = (await queue.claim(ROOM, 0)).deliveries
    [again] = await awaited(queue)

    assert again.tries == late.tries + 1
    assert await queue.report(DeliveryReport(late, DeliveryState.GONE)) == "waiting"
    assert await queue.report(DeliveryReport(again, due_ms=DAY_MS * 2)) == "failed"


async def test_receivers_take_turns_and_none_gets_more_than_its_share(
    store: BatchingStore, ledger: RedisLedger
) -> None:
    queue = queue_on(store)
    job_id = await started(ledger, admission())
    await ledger.settle(job_id, delivered(1))
    for number in range(30):
        await queue.add_webhook(job_id, hook(), f"call {number}")
    await queue.add_webhook(job_id, hook("https://b.test/"), "call")
    await queue.add_webhook(job_id, hook("https://a.test/", "bob"), "call")

    first = await claimed(queue)
    mine = [one for one in first if one.receiver == "ann https://a.test"]
    assert (len(mine), len(first)) == (4, 6)
    carried = DeliveryRoom(64, 4, 16, {"ann https://a.test": 3, "ann": 3})
    assert len(await awaited(queue, carried)) == 1
    assert await claimed(queue, replace(carried, in_flight={"ann": 16})) == []


async def test_one_users_queue_is_bounded_and_the_log_is_too(
    engine: Engine, store: BatchingStore, ledger: RedisLedger
) -> None:
    queue = queue_on(store)
    job_id = await started(ledger, admission())
    await ledger.settle(job_id, released())
    for number in range(1003):
        await queue.add_webhook(job_id, hook(f"https://{number}.test/"), "call")

    newest = await queue.list_newest("ann", 2000)
    assert [one.state for one in newest].count(DeliveryState.DROPPED) == 3
    assert len(newest) == 500
    assert await queue.users() == ["ann"]
    with engine.client() as admin:
        assert admin.hgetall("koi:1:{ledger}:undelivered") == {"ann": "1000"}


async def test_a_webhook_is_added_to_a_running_job_once_and_events_choose(
    store: BatchingStore, ledger: RedisLedger
) -> None:
    queue = queue_on(store)
    job_id = await started(ledger, admission(webhook=hook()))
    for url in ("https://a.test/hook", "https://b.test/", "https://b.test/"):
        await queue.add_webhook(job_id, hook(url), None)
    only = hook("https://c.test/", events=(WebhookEvent.TASK_FAILED,))
    await queue.add_webhook(job_id, only, None)
    await ledger.settle(job_id, delivered(1))

    told = sorted(one.url for one in await claimed(queue))
    assert told == ["https://a.test/hook", "https://b.test/"]


async def test_an_open_task_is_told_after_a_rebuild_from_the_journal(
    engine: Engine,
    store: BatchingStore,
    host: Host,  # noqa: F811
) -> None:
    job_id = await started(host.ledger, admission(principal(), webhook=hook()))
    empty(engine)
    await host.rebuild()
    await ledger_on(store, host.journal).settle(job_id, delivered(1))

    assert [one.job_id for one in await claimed(queue_on(store))] == [job_id]


async def test_a_delivery_that_no_process_survives_ends_with_its_day(
    store: BatchingStore, ledger: RedisLedger
) -> None:
    queue = queue_on(store)
    short = replace(hook(), lifetime_ms=1)
    await ledger.settle(await started(ledger, admission(webhook=short)), delivered(1))
    assert [one.tries for one in (await queue.claim(ROOM, 0)).deliveries] == [1]
    while (await queue.list_newest("ann", 1))[0].state is DeliveryState.WAITING:
        await queue.claim(ROOM, 0)

    assert (await queue.list_newest("ann", 1))[0].state is DeliveryState.FAILED
    assert await claimed(queue) == []


async def test_a_closed_store_keeps_users_deliveries_and_tells_the_operator(
    engine: Engine, store: BatchingStore, ledger: RedisLedger
) -> None:
    queue = queue_on(store)
    await ledger.settle(await started(ledger, admission(webhook=hook())), delivered(1))
    notices = RedisNotices(scripts_on(store), sent=True, lifetime_ms=DAY_MS)
    await notices.publish(Notice(NoticeKind.LEDGER_DATA_LOST, "house"))
    [waiting] = await queue.list_newest("ann", 1)
    with engine.client() as admin:
        admin.set(keyspace.key("suspect"), "moved redis://elsewhere.test")

    assert [one.user for one in await claimed(queue)] == ["@house"]
    with pytest.raises(LedgerDataLost):
        await queue.redeliver(waiting.id, DAY_MS)
    assert [replace(one, due_ms=None) for one in await queue.list_newest("ann", 1)] == [
        replace(waiting, due_ms=None)
    ]
    with engine.client() as admin:
        admin.delete(keyspace.key("suspect"))
    assert [one.id for one in await awaited(queue)] == [waiting.id]


async def test_a_task_that_fails_collects_and_fails_again_is_told(
    store: BatchingStore, ledger: RedisLedger, keyring: RedisKeyRing
) -> None:
    queue = queue_on(store)
    await keyring.save_user(User("ann", Limits(), 1), NOTE, create=True)
    with receiving() as receiver:
        poster = HttpWebhookPoster([receiver.url.removeprefix("http://")])
        sender = sender_on(store, ledger, keyring, poster)
        job_id = await started(ledger, admission(webhook=hook(receiver.url)))
        await ledger.settle(job_id, unknown(), hold_ms=60_000)
        link = PendingImage(0, 0, "https://cdn.test/")
        late = Outcome(JobState.SETTLED, billed=1, pending=(link,))
        await ledger.settle(job_id, late, collect_ms=9)
        loop = asyncio.create_task(sender.run())
        while not (await queue.list_newest("ann", 1))[0].tries:
            await asyncio.sleep(0.01)
        await ledger.record_collection(job_id, CollectionReport(lost=(link,), due_ms=9))
        while (await queue.list_newest("ann", 1))[0].due_ms is not None:
            await asyncio.sleep(0.01)
        sender.background.is_draining = True
        await loop
        await poster.close()

    [only] = await queue.list_newest("ann", 10)
    assert (only.kind, only.state) == ("task.failed", DeliveryState.DELIVERED)
    assert [got.id for got in receiver.got] == [only.id]
