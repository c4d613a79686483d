"""The way to the store: batching, lost scripts, lost replies, and the breaker."""

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.exceptions import ResponseError
from store_rig import (
    Engine,
    OpenStore,
    admission,
    delivered,
    ledger_on,
    quick_breaker,
    started,
)  # fmt: skip
from uvloop import new_event_loop

from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.breaker import BreakerState, CircuitBreaker
from app.adapters.redis.client.connection import connect
from app.adapters.redis.client.scripts import Script, build_script
from app.domain.errors import StoreUnavailable
from tests.faultproxy import FaultProxy
from tests.linkfaults import PASS, Fault, Way, lose_replies, reset

ECHO = build_script("echo", "#!lua flags=no-writes\nreturn ARGV[1]")
WRITE = build_script("write", "#!lua\nreturn redis.call('INCR', KEYS[1])")
SLOW = build_script(
    "slow",
    "#!lua flags=no-writes\nlocal n = 0; for i = 1, tonumber(ARGV[1]) do n = n + i end; return n",
)
WRONG = build_script("wrong", "#!lua\nreturn redis.call('INCR', 'x', 'y')")


async def echoes(store: BatchingStore, count: int) -> list[str]:
    return await asyncio.gather(*(store.run(ECHO, (), f"n{n}") for n in range(count)))


async def kind_of_trouble(store: BatchingStore, script: Script = WRITE) -> str:
    with pytest.raises(StoreUnavailable) as error:
        await store.run(script, ("koi:x",))
    return error.value.message.partition("(")[2].partition(")")[0]


# Batching ----------------------------------------------------------------------------------------


async def test_everybody_gets_their_own_answer(store: BatchingStore) -> None:
    assert await echoes(store, 500) == [f"n{n}" for n in range(500)]


async def test_calls_of_one_moment_share_one_exchange(engine: Engine, store: BatchingStore) -> None:
    await store.run(ECHO, (), "connected")
    with engine.client() as admin:
        before = admin.info("stats")["total_reads_processed"]
        await echoes(store, 64)
        reads = admin.info("stats")["total_reads_processed"] - before

    assert reads <= 4


async def test_a_cancelled_caller_disturbs_nobody(store: BatchingStore) -> None:
    """CVE-2023-28858: never somebody else's reply."""
    for round in range(30):
        calls = [asyncio.create_task(store.run(ECHO, (), f"{round}-{n}")) for n in range(20)]
        await asyncio.sleep(0 if round % 2 else 0.0005)
        for call in calls[::3]:
            call.cancel()

        answers = await asyncio.gather(*calls, return_exceptions=True)

        for n, answer in enumerate(answers):
            assert answer == f"{round}-{n}" or (
                n % 3 == 0 and isinstance(answer, asyncio.CancelledError)
            )


async def test_a_bad_argument_fails_its_own_caller_only(store: BatchingStore) -> None:
    good = asyncio.create_task(store.run(ECHO, (), "good"))

    with pytest.raises(UnicodeEncodeError):
        await store.run(ECHO, (), "\ud800")

    assert await good == "good"


async def test_an_error_of_a_script_stays_loud_and_private(store: BatchingStore) -> None:
    wrong, right = await asyncio.gather(
        store.run(WRONG, ("x",)), store.run(ECHO, (), "right"), return_exceptions=True
    )

    assert isinstance(wrong, ResponseError)
    assert right == "right"
    assert store.state is BreakerState.CLOSED


async def test_forgotten_scripts_are_loaded_again(engine: Engine, store: BatchingStore) -> None:
    """A restart or SCRIPT FLUSH goes unnoticed."""
    ledger = ledger_on(store)
    job_id = await started(ledger, admission())
    with engine.client() as admin:
        admin.script_flush()

    await asyncio.gather(
        ledger.settle(job_id, delivered(1)), *(started(ledger, admission()) for _ in "abc")
    )

    assert (await ledger.audit()).difference == 0


async def test_closing_finishes_what_is_queued(engine: Engine) -> None:
    store = BatchingStore(connect(engine.url))
    calls = [asyncio.create_task(store.run(ECHO, (), str(n))) for n in range(10)]
    await asyncio.sleep(0)

    await store.aclose()

    assert await asyncio.gather(*calls) == [str(n) for n in range(10)]


# The breaker -------------------------------------------------------------------------------------


async def test_the_breaker_opens_after_five_failures_and_a_probe_closes_it(
    own_engine: Engine, open_store: OpenStore
) -> None:
    states, now = list[str](), [0.0]
    breaker = quick_breaker(on_state=states.append, now=lambda: now[0])
    store = open_store(own_engine.url, breaker=breaker)
    own_engine.stop()

    kinds = [await kind_of_trouble(store) for _ in range(7)]
    own_engine.start()
    now[0] += 0.12

    assert kinds == ["connection"] * 5 + ["breaker"] * 2
    assert await store.run(ECHO, (), "back") == "back"
    assert states == ["open", "half-open", "closed"]


async def test_while_the_breaker_is_open_only_one_call_probes(tmp_path: Path) -> None:
    now = [0.0]
    breaker = quick_breaker(threshold=1, now=lambda: now[0])
    store = BatchingStore(connect(f"unix://{tmp_path}/none"), breaker=breaker)
    await kind_of_trouble(store)
    now[0] += 0.12

    kinds = await asyncio.gather(*(kind_of_trouble(store) for _ in range(5)))

    assert sorted(kinds) == ["breaker"] * 4 + ["connection"]
    await store.aclose()


async def test_a_full_store_does_not_open_the_breaker(
    own_engine: Engine, open_store: OpenStore
) -> None:
    store = open_store(own_engine.url)
    with own_engine.client() as admin:
        admin.config_set("maxmemory", 1)

    for _ in range(6):
        assert await kind_of_trouble(store) == "oom"

    assert await store.run(ECHO, (), "reads") == "reads"


def test_the_breakers_rhythm() -> None:
    now = [0.0]
    told: list[BreakerState] = []
    breaker = CircuitBreaker(threshold=2, probe_s=1, now=lambda: now[0], on_state=told.append)
    breaker.record_failure()
    breaker.record_success()
    breaker.record_failure()
    assert breaker.allows()
    breaker.record_failure()

    asked = []
    for at in (0.5, 1.0, 1.5, 2.0):
        now[0] = at
        asked.append(breaker.allows())
        if asked[-1]:
            breaker.record_failure()

    assert asked == [False, True, False, True]
    assert told == ["open", "half-open", "open", "half-open", "open"]


def test_a_connection_reset_while_it_is_made_is_trouble_with_the_connection(
    engine: Engine,
) -> None:
    """uvloop, which the gateway runs on, then says RuntimeError instead of an OSError."""

    async def answers(link: FaultProxy) -> set[str]:
        store = BatchingStore(
            connect(link.url, timeout_s=30), breaker=CircuitBreaker(threshold=1000)
        )
        seen = set()
        for size in range(150, 300):  # somewhere here the first reply ends and the reset follows
            link.set(reset(after=size, way=Way.BACK))
            try:
                seen.add(await store.run(ECHO, (), "arrived"))
            except StoreUnavailable as error:
                seen.add(error.message.partition("(")[2].partition(")")[0])
        await store.aclose()
        return seen

    with FaultProxy(engine.url) as link, asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(answers(link)) - {"arrived"} == {"connection"}


# A link that loses replies -----------------------------------------------------------------------


async def test_a_command_whose_reply_is_lost_runs_once(
    engine: Engine, open_store: OpenStore
) -> None:
    """No hidden retry anywhere below us."""
    left = [lose_replies()]

    def unlucky(request: bytes) -> Fault:
        return left.pop() if left and WRITE.sha.encode() in request else PASS

    with engine.client() as admin, FaultProxy(engine.url) as link:
        admin.script_load(WRITE.text)
        link.choose(unlucky)
        store = open_store(link.url)

        assert await kind_of_trouble(store) == "connection"

        assert admin.get("koi:x") == "1"
        assert await store.run(WRITE, ("koi:x",)) == 2
        await store.aclose()


async def test_a_whole_job_over_a_link_that_loses_every_first_reply(
    engine: Engine, open_store: OpenStore
) -> None:
    """Each step is repeated after its reply was lost, and each has its effect once."""
    seen: set[bytes] = set()
    ledger = ledger_on(open_store(engine.url))
    wanted = admission(n=2)
    await started(ledger, admission())

    def unlucky(request: bytes) -> Fault:
        for word in (b'"lease_ms":60000,"fields"', b'"upstream":', b'"billed":2'):
            if word in request and word not in seen:
                seen.add(word)
                return lose_replies()
        return PASS

    with FaultProxy(engine.url) as link:
        link.choose(unlucky)
        far = ledger_on(open_store(link.url))

        async def surely(ask: Callable[[], object]) -> object:
            try:
                answer = await ask()  # type: ignore[misc]
            except StoreUnavailable:
                answer = await ask()  # type: ignore[misc]
            return answer

        await surely(lambda: far.admit(wanted))
        await surely(lambda: far.dispatch(wanted.job_id, 60_000))
        assert await surely(
            lambda: far.record_part(wanted.job_id, 0, upstream_id="up", due_ms=1000)
        )
        await surely(lambda: far.settle(wanted.job_id, delivered(2)))

    assert len(seen) == 3
    assert [(e.job, e.images) async for e in ledger.entries()] == [(wanted.job_id, 2)]
    assert (await ledger.audit()).difference == 0
    assert (await ledger.open_job_stats()).held_images == 1


# Our own lag -------------------------------------------------------------------------------------


async def test_a_stall_of_this_process_is_no_silence_of_the_store(
    engine: Engine, open_store: OpenStore
) -> None:
    store = open_store(engine.url, timeout_s=0.3, breaker=CircuitBreaker(threshold=1))
    await store.run(ECHO, (), "connected")

    for turns in range(8):
        call = asyncio.create_task(store.run(ECHO, (), "here"))
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(0.5)  # whatever blocks the event loop

        assert await call == "here"
    assert store.state is BreakerState.CLOSED


async def test_a_silent_store_is_noticed_through_our_own_lag(
    own_engine: Engine, open_store: OpenStore
) -> None:
    store = open_store(own_engine.url, timeout_s=0.3, breaker=CircuitBreaker(threshold=1))
    await store.run(ECHO, (), "connected")
    own_engine.signal(signal.SIGSTOP)
    call = asyncio.create_task(kind_of_trouble(store, ECHO))
    await asyncio.sleep(0.05)
    time.sleep(0.5)

    assert await asyncio.wait_for(call, 30) == "timeout"
    assert store.state is BreakerState.OPEN
