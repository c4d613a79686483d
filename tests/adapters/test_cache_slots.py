"""The same question, the same picture, and never a duplicate in a burst."""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest
from store_rig import Engine, OpenStore, pictures

from app.adapters.redis import keyspace
from app.adapters.redis.cache import RedisResultCache
from app.adapters.redis.client.batching import BatchingStore
from app.domain.cache import CacheControl, CacheLookup, CacheOutcome
from app.domain.images import Picture
from app.domain.job import CacheVariant

ANY = CacheControl()
HIT, MISS, JOINED, BYPASS = (
    CacheOutcome.HIT, CacheOutcome.MISS, CacheOutcome.JOINED, CacheOutcome.BYPASS,
)  # fmt: skip


def cache_on(store: BatchingStore, **options: int) -> RedisResultCache:
    return RedisResultCache(store, **{"ttl_s": 3600, "variants": 3, "lease_s": 900} | options)


@pytest.fixture
async def cache(store: BatchingStore) -> RedisResultCache:
    return cache_on(store)


class Caller:
    """Asks the same question again and again."""

    def __init__(self, cache: RedisResultCache, engine: Engine) -> None:
        self.cache, self.engine = cache, engine
        self.asked = 0

    async def asks(self, control: CacheControl = ANY) -> CacheLookup:
        self.asked += 1
        return await self.cache.look_up("fp", f"job{self.asked}", control)

    async def makes(self, control: CacheControl = ANY) -> tuple[Picture, ...]:
        """Asks, makes what is missing, and keeps it."""
        recalled = await self.asks(control)
        assert recalled.outcome is MISS
        assert recalled.cache_variant is not None
        made = pictures(1)
        await self.cache.fill(recalled.cache_variant, f"job{self.asked}", made)
        return made

    def later(self, ms: int = 0) -> None:
        """The burst is over; what is stored is `ms` older."""
        starts_key, pictures_key = keyspace.cache_keys("fp")[::-1]
        with self.engine.client() as admin:
            admin.delete(starts_key)
            for slot, packed in admin.hgetall(pictures_key).items():
                if not slot.endswith(":making"):
                    job, at, rest = packed.split(" ", 2)
                    admin.hset(pictures_key, slot, f"{job} {int(at) - ms} {rest}")


@pytest.fixture
async def caller(cache: RedisResultCache, engine: Engine) -> Caller:
    return Caller(cache, engine)


async def test_three_parallel_calls_make_three_pictures(caller: Caller) -> None:
    answers = [await caller.asks() for _ in range(3)]

    assert [answer.outcome for answer in answers] == [MISS] * 3
    assert [answer.cache_variant for answer in answers] == [CacheVariant("fp", n) for n in range(3)]


async def test_beyond_the_variants_a_burst_joins_round_robin(caller: Caller) -> None:
    answers = [await caller.asks() for _ in range(7)]

    assert [answer.outcome for answer in answers[3:]] == [JOINED] * 4
    assert [answer.job_id for answer in answers[3:]] == ["job1", "job2", "job3", "job1"]


async def test_a_reload_gets_the_old_pictures_in_order(caller: Caller) -> None:
    began = time.monotonic()
    first, second = await caller.makes(), await caller.makes()
    caller.later(5000)

    again = [await caller.asks() for _ in range(3)]
    took_s = time.monotonic() - began

    assert [answer.outcome for answer in again] == [HIT, HIT, MISS]
    assert [answer.pictures for answer in again[:2]] == [first, second]
    assert again[0].job_id == "job1"
    assert 5 <= again[0].age_s <= 5 + took_s
    assert again[0].age_s + again[0].ttl_s in (3599, 3600)  # both in whole seconds


async def test_a_reload_while_it_is_being_made_joins(caller: Caller) -> None:
    await caller.asks()
    caller.later()

    joined = await caller.asks()

    assert (joined.outcome, joined.job_id) == (JOINED, "job1")


async def test_one_variant_is_plain_single_flight(store: BatchingStore) -> None:
    cache = cache_on(store, variants=1)

    answers = await asyncio.gather(*(cache.look_up("fp", f"job{n}", ANY) for n in range(1000)))

    outcomes = [answer.outcome for answer in answers]
    assert (outcomes.count(MISS), outcomes.count(JOINED)) == (1, 999)


async def test_the_same_job_asking_twice_is_the_maker_both_times(cache: RedisResultCache) -> None:
    one, two = [await cache.look_up("fp", "job", ANY) for _ in range(2)]

    assert one == two
    assert one.outcome is MISS


async def test_other_questions_have_slots_of_their_own(caller: Caller) -> None:
    await caller.makes()

    other = await caller.cache.look_up("fp2", "x", ANY)

    assert other.cache_variant == CacheVariant("fp2", 0)


async def test_an_entry_expires(caller: Caller) -> None:
    await caller.makes()
    caller.later(3_600_000)

    assert (await caller.asks()).outcome is MISS


async def test_a_claim_outlives_no_lease(store: BatchingStore) -> None:
    cache = cache_on(store, lease_s=0)
    await cache.look_up("fp", "dead", ANY)

    answer = await cache_on(store, variants=1).look_up("fp", "alive", ANY)

    assert answer.outcome is MISS


async def test_the_claim_of_a_dead_maker_is_taken_over_by_one_and_joined_by_the_rest(
    store: BatchingStore,
) -> None:
    cache = cache_on(store, variants=1)
    await cache.look_up("fp", "dead", ANY)

    answers = await asyncio.gather(
        *(cache.look_up("fp", f"job{n}", ANY, instead_of="dead") for n in range(30))
    )

    [winner] = [n for n, answer in enumerate(answers) if answer.outcome is MISS]
    joined = {answer.job_id for n, answer in enumerate(answers) if n != winner}
    assert joined == {f"job{winner}"}


def move_claim(engine: Engine, ms: int) -> None:
    """Of the only variant."""
    with engine.client() as admin:
        key = keyspace.cache_keys("fp")[0]
        job, ends = admin.hget(key, "0:making").split()
        admin.hset(key, "0:making", f"{job} {int(ends) + ms}")


async def test_who_joins_hears_how_long_ago_the_maker_said_so(
    store: BatchingStore, engine: Engine
) -> None:
    cache = cache_on(store, variants=1)
    await cache.look_up("fp", "maker", ANY)
    move_claim(engine, -300)

    assert 0.3 <= (await cache.look_up("fp", "other", ANY)).claimed_s < 60


async def test_a_claim_from_before_the_clock_was_set_back_is_old(
    store: BatchingStore, engine: Engine
) -> None:
    cache = cache_on(store, variants=1)
    await cache.look_up("fp", "maker", ANY)
    move_claim(engine, 7_200_000)

    assert (await cache.look_up("fp", "other", ANY)).claimed_s == 900


async def test_a_failed_job_frees_its_slot_and_its_place_in_the_burst(caller: Caller) -> None:
    failed = await caller.asks()
    assert failed.cache_variant is not None

    await caller.cache.evict(failed.cache_variant, "job1")

    assert (await caller.asks()).cache_variant == failed.cache_variant


async def test_pictures_that_are_gone_are_forgotten_and_made_again(caller: Caller) -> None:
    await caller.makes()
    caller.later()
    hit = await caller.asks()
    assert hit.cache_variant is not None
    assert hit.job_id is not None

    await caller.cache.evict(hit.cache_variant, hit.job_id)

    again = await caller.cache.look_up("fp", "job2", ANY)
    assert (again.outcome, again.cache_variant) == (MISS, hit.cache_variant)


async def test_only_the_maker_fills_and_frees_a_slot(caller: Caller) -> None:
    slot = (await caller.asks()).cache_variant
    assert slot is not None

    await caller.cache.fill(slot, "stranger", pictures(1))
    await caller.cache.evict(slot, "stranger")
    caller.later()

    assert (await caller.asks()).outcome is JOINED


@pytest.mark.parametrize(
    ("control", "before", "outcome", "stored"),
    [
        (CacheControl(no_store=True), "made", BYPASS, True),
        (CacheControl(no_cache=True), "made", MISS, True),
        (CacheControl(no_cache=True), "making", MISS, True),
        (CacheControl(max_age_s=60), "made", HIT, True),
        (CacheControl(max_age_s=60), "old", MISS, True),
        (CacheControl(max_age_s=60), "making", JOINED, True),
        (CacheControl(only_if_cached=True), "made", HIT, True),
        (CacheControl(only_if_cached=True), "making", JOINED, True),
        (CacheControl(only_if_cached=True), "nothing", BYPASS, False),
        (CacheControl(only_if_cached=True, max_age_s=60), "old", BYPASS, False),
        (CacheControl(only_if_cached=True, no_cache=True), "made", BYPASS, False),
    ],
)
async def test_what_a_caller_may_ask_of_the_cache(
    caller: Caller, control: CacheControl, before: str, outcome: CacheOutcome, stored: bool
) -> None:
    if before == "making":
        await caller.asks()
    elif before != "nothing":
        await caller.makes()
    caller.later(120_000 if before == "old" else 0)

    answer = await caller.asks(control)

    assert (answer.outcome, answer.stored) == (outcome, stored)


async def test_no_cache_makes_the_picture_anew_and_keeps_it(caller: Caller) -> None:
    await caller.makes()
    caller.later()
    newer = await caller.makes(CacheControl(no_cache=True))
    caller.later()

    assert (await caller.asks()).pictures == newer


async def test_while_it_is_made_anew_the_old_picture_is_served(caller: Caller) -> None:
    old = await caller.makes()
    caller.later()
    await caller.asks(CacheControl(no_cache=True))
    caller.later()

    assert (await caller.asks()).pictures == old


async def test_no_cache_beside_a_job_that_makes_it_has_no_slot(caller: Caller) -> None:
    await caller.asks()
    caller.later()

    answer = await caller.asks(CacheControl(no_cache=True))

    assert (answer.outcome, answer.cache_variant) == (MISS, None)


async def test_no_store_leaves_no_trace(caller: Caller, engine: Engine) -> None:
    await caller.asks(CacheControl(no_store=True))
    await caller.asks(CacheControl(only_if_cached=True))

    with engine.client() as admin:
        assert admin.keys() == []


async def test_any_variant_will_do_for_only_if_cached(caller: Caller) -> None:
    await caller.asks()
    second = await caller.makes()
    await caller.cache.evict(CacheVariant("fp", 0), "job1")
    caller.later()

    assert (await caller.asks(CacheControl(only_if_cached=True))).pictures == second


async def test_everything_in_the_cache_expires(caller: Caller, engine: Engine) -> None:
    await caller.makes()
    await caller.asks()

    with engine.client() as admin:
        lives = {key.rpartition(":")[2]: admin.ttl(key) for key in admin.scan_iter()}
    assert 3590 < lives["pictures"] <= 3600
    assert lives["starts"] <= 2


async def test_pictures_keep_all_they_say(caller: Caller) -> None:
    slot = (await caller.asks()).cache_variant
    assert slot is not None
    kept = (replace(pictures(1)[0], revised_prompt='a koi — 鯉 "quoted" \\ and\nlines'),)
    await caller.cache.fill(slot, "job1", kept)
    caller.later()

    assert (await caller.asks()).pictures == kept


async def test_without_its_store_every_answer_is_a_bypass(
    open_store: OpenStore, tmp_path: Path
) -> None:
    cache = cache_on(open_store(f"unix://{tmp_path}/none"))

    assert (await cache.look_up("fp", "job", ANY)) == CacheLookup(BYPASS)
    assert not (await cache.look_up("fp", "job", CacheControl(only_if_cached=True))).stored
    await cache.fill(CacheVariant("fp", 0), "job", pictures(1))
    await cache.evict(CacheVariant("fp", 0), "job")
