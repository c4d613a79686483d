"""Corrections of a job by several operators at once: the use case on a real ledger."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from store_rig import CALENDAR, Engine, admission, delivered, released, scripts_on, started

from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.connection import connect
from app.adapters.redis.ledger import RedisLedger
from app.domain.administration import Actor, ActorKind, AuditNote
from app.domain.catalog import parse_catalog
from app.domain.ledger import Entry, correction_id
from app.service.adjustments import Adjustment, Adjustments, empty_entry
from app.service.admin_errors import AdjustmentRefused
from app.service.job_story import read_story
from app.service.keys import KeyAdmin


class Desks(RedisLedger):
    """A ledger for several operators: all have judged before the first one's correction is
    entered."""

    judging = asyncio.Barrier(1)
    readings = 0

    async def adjust(self, entry: Entry, note: AuditNote | None = None) -> Entry:
        await self.judging.wait()
        return await super().adjust(entry, note)

    def entries(self, *span: Any, **order: Any) -> AsyncIterator[Entry]:
        self.readings += 1
        return super().entries(*span, **order)


@pytest.fixture
async def desks(engine: Engine) -> AsyncIterator[Desks]:
    store = BatchingStore(connect(engine.url, timeout_s=5), timeout_s=5)
    yield Desks(scripts_on(store), task_ttl_s=86_400, image_ttl_s=3600)
    await store.aclose()


def adjustments(ledger: Desks, catalog_file: str = "catalog.toml") -> Adjustments:
    catalog = parse_catalog((Path(__file__).parents[1] / catalog_file).read_text())
    return Adjustments(
        ledger, cast(KeyAdmin, None), catalog, CALENDAR, Actor(ActorKind.ADMIN_KEY, "root")
    )


async def charged(ledger: Desks, images: int) -> str:
    job_id = await started(ledger, admission(n=images))
    await ledger.settle(job_id, delivered(images))
    return job_id


async def images_of(ledger: Desks, job_id: str) -> int:
    return (await read_story(ledger, job_id)).images


async def test_two_refunds_that_were_judged_at_once_do_not_both_pass(desks: Desks) -> None:
    job_id = await charged(desks, 2)
    await charged(desks, 2)  # so that no counter would go below zero
    desk = adjustments(desks)
    desks.judging = asyncio.Barrier(2)

    found = await asyncio.gather(
        desk.refund(job_id, None, "bad"),
        desk.adjust_job(job_id, Adjustment(-2, None, "another operator")),
        return_exceptions=True,
    )

    [refused] = [one for one in found if isinstance(one, BaseException)]
    assert isinstance(refused, AdjustmentRefused)
    assert "just now" in str(refused)
    assert await images_of(desks, job_id) == 0


async def test_a_bills_correction_takes_the_same_id_as_a_refund(desks: Desks) -> None:
    job_id = await charged(desks, 2)
    await charged(desks, 2)
    [own] = (await read_story(desks, job_id)).entries
    blank = empty_entry(own.user, own.day, own.month)
    bill = {"job": job_id, "team": own.team, "key": own.key, "id": correction_id(job_id, own.id)}
    entry = Entry(**{**_fields(blank), **bill, "images": -2, "note": "provider's bill"})
    desk = adjustments(desks)
    desks.judging = asyncio.Barrier(2)

    await asyncio.gather(desk.refund(job_id, 2, "bad"), desk.enter(entry), return_exceptions=True)

    assert await images_of(desks, job_id) == 0


async def test_the_same_refund_asked_twice_at_once_is_entered_once(desks: Desks) -> None:
    job_id = await charged(desks, 2)
    await charged(desks, 2)
    desk = adjustments(desks)
    desks.judging = asyncio.Barrier(2)

    one, two = await asyncio.gather(*(desk.refund(job_id, 1, "bad") for _ in range(2)))

    assert one == two
    assert one.job_images == await images_of(desks, job_id) == 1


async def test_the_price_of_what_reference_images_cost_more_for_is_not_guessed(
    desks: Desks,
) -> None:
    given = admission(unit=240_000)
    request = replace(given.request, model="doubao-seedream-4.5")
    job_id = await started(desks, replace(given, request=request))
    await desks.settle(job_id, released())
    await charged(desks, 1)
    desk = adjustments(desks, "references.toml")

    with pytest.raises(AdjustmentRefused, match="give the amount"):
        await desk.adjust_job(job_id, Adjustment(1, None, "it was billed"))
    entry = await desk.adjust_job(job_id, Adjustment(1, 240_000, "it was billed"))

    assert (entry.images, entry.micros) == (1, 240_000)


async def test_images_that_were_entered_without_a_price_are_given_back_once_there_is_one(
    desks: Desks,
) -> None:
    job_id = await started(desks, admission(n=2))
    await desks.settle(job_id, released())
    await charged(desks, 2)
    unpriced = adjustments(desks, "../app/catalog.toml")
    late = await unpriced.adjust_job(job_id, Adjustment(2, None, "the bill has them"))

    refund = await adjustments(desks).refund(job_id, None, "it does not")

    assert (late.images, late.micros) == (2, None)
    assert (refund.entry.images, refund.entry.micros) == (-2, None)
    assert await images_of(desks, job_id) == 0


async def test_an_expired_jobs_refund_reads_the_ledger_once_and_a_part_of_it(
    engine: Engine, desks: Desks
) -> None:
    job_id = await charged(desks, 2)
    await charged(desks, 1)
    with engine.client() as admin:
        admin.delete(*admin.keys(f"koi:*job:{job_id}"))
    desks.readings = 0

    refund = await adjustments(desks).refund(job_id, None, "bad")

    assert (refund.job_images, desks.readings) == (0, 1)
    assert (await read_story(desks, job_id, most=1)).end is None
    assert (await read_story(desks, job_id, most=3)).end is not None


def _fields(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in Entry.__slots__}
