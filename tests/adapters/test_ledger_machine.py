"""The ledger against a model of itself, driven through random histories on a real store.

Every step is checked: admission says exactly what the model says (I1), the counters equal the
model and the ledger's own audit (I2, I3), each job ends once and in the windows it reserved (I4,
I10). Longer runs: `pytest --hypothesis-profile=nightly`. The same machine must catch a planted
bug, so that it is known to be able to fail.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)  # fmt: skip
from store_rig import (
    CALENDAR,
    delivered,
    ledger_on,
    order,
    presumed,
    principal,
    programs,
    released,
    running,
    unknown,
)  # fmt: skip

from app.adapters.redis.connection import connect
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.loader import Script, assemble, load
from app.adapters.redis.store import Store
from app.domain.calendar import Calendar, Day
from app.domain.errors import ConcurrencyLimited, InsufficientQuota, InvalidRequest, Proof
from app.domain.job import JobState, Outcome, TaskStatus
from app.domain.ledger import Entry, EntryKind
from app.domain.limits import Limits, Meter, Window

EXAMPLES, STEPS = 1000, 11
LAPSED = -120_000
"""A lease that ended so long ago that the concurrency slot has lapsed with it."""

PEOPLE = (("key_1", "ann", "art"), ("key_2", "ann", "art"), ("key_3", "bob", None))


def rarely(most: int) -> st.SearchStrategy[int | None]:
    """Mostly no limit, so that many limits together still let something through."""
    return st.sampled_from([None, None, None, *range(most + 1)])


limits = st.builds(
    Limits,
    images_per_day=rarely(9),
    images_per_month=rarely(12),
    micros_per_day=rarely(30),
    micros_per_month=rarely(40),
    concurrency=rarely(5),
)


class Almanac(Calendar):
    """A calendar whose today is whatever the machine says; the store's clock stays real."""

    def __init__(self) -> None:
        super().__init__(CALENDAR.zone)
        self.today = date(2026, 11, 29)

    def around(self, now: datetime) -> tuple[Day, ...]:
        shown = []
        for shift in (-1, 0, 1):
            day = self.day(self.today + timedelta(days=shift))
            real = self.day(now.astimezone(self.zone).date() + timedelta(days=400 * shift))
            shown.append(replace(real, label=day.label, month=day.month))
        return tuple(shown)


@dataclass
class Modelled:
    """A job as the model knows it."""

    id: str
    who: tuple[str, str, str | None]
    n: int
    unit: int | None
    windows: tuple[str, str]
    slot: bool
    state: JobState = JobState.RESERVED
    status: TaskStatus = TaskStatus.QUEUED
    claimed: bool = False

    @property
    def lines(self) -> list[str]:
        return lines(self.who)

    @property
    def cost(self) -> int:
        return self.n * (self.unit or 0)


def lines(who: tuple[str, str, str | None]) -> list[str]:
    key, user, team = who
    return [f"key:{key}", f"user:{user}", *([f"team:{team}"] if team else []), "house:house"]


class LedgerMachine(RuleBasedStateMachine):
    """`loop` and `store` are given by the test that runs the machine."""

    loop: asyncio.AbstractEventLoop
    store: Store
    flush: Any

    open_jobs = Bundle("open_jobs")
    ended_jobs = Bundle("ended_jobs")

    def __init__(self) -> None:
        super().__init__()
        self.flush()
        self.almanac = Almanac()
        self.ledger: RedisLedger = ledger_on(self.store, calendar=self.almanac)
        self.jobs: dict[str, Modelled] = {}
        self.used: Counter[tuple[str, str, str]] = Counter()
        self.entries: list[tuple[str, EntryKind, int, int, str]] = []
        self.limits: dict[str, Limits] = {}
        self.upstream: dict[str, str] = {}

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def refuses(self, expected: type[Exception], awaitable: Any) -> None:
        try:
            self.run(awaitable)
        except expected:
            return
        raise AssertionError(f"{expected.__name__} was due")

    # The model ---------------------------------------------------------------------------------

    @property
    def today(self) -> tuple[str, str]:
        day = self.almanac.day(self.almanac.today)
        return day.label, day.month

    def held(self, line: str, window: str) -> tuple[int, int]:
        jobs = [
            job
            for job in self.jobs.values()
            if not job.state.terminal and line in job.lines and window in job.windows
        ]
        return sum(job.n for job in jobs), sum(job.cost for job in jobs)

    def running(self, line: str) -> int:
        return sum(job.slot and line in job.lines for job in self.jobs.values())

    def principal(self, who: tuple[str, str, str | None]) -> Any:
        given = {line.partition(":")[0]: self.limits.get(line) for line in lines(who)}
        return principal(**given, names=who)

    def refusal(self, who: tuple[str, str, str | None], n: int, unit: int) -> type | None:
        day, month = self.today
        for line in lines(who):
            limit = self.limits.get(line, Limits())
            for window, images, micros in (
                (day, limit.images_per_day, limit.micros_per_day),
                (month, limit.images_per_month, limit.micros_per_month),
            ):
                held_images, held_micros = self.held(line, window)
                total = self.used[line, window, "images"] + held_images + n
                money = self.used[line, window, "micros"] + held_micros + n * unit
                if images is not None and total > images:
                    return InsufficientQuota
                if micros is not None and money > micros:
                    return InsufficientQuota
        for line in lines(who):
            most = self.limits.get(line, Limits()).concurrency
            if most is not None and self.running(line) >= most:
                return ConcurrencyLimited
        return None

    def close(self, job: Modelled, outcome: Outcome) -> None:
        """What a first, final settlement does."""
        unit = job.unit or 0
        for line in job.lines:
            images = outcome.billed + (outcome.surplus if line.startswith("house") else 0)
            for window in job.windows:
                self.used[line, window, "images"] += images
                self.used[line, window, "micros"] += images * unit
        kind = EntryKind.SETTLE if outcome.state is JobState.SETTLED else EntryKind.RELEASE
        self.entries.append((job.id, kind, outcome.billed, outcome.surplus, job.windows[0]))

    def end(self, job: Modelled, outcome: Outcome) -> None:
        """Settle for real and in the model, and compare."""
        before = job.state
        settled = self.run(self.ledger.settle(job.id, outcome, hold_ms=LAPSED))
        first = not before.terminal and before is not outcome.state
        if first:
            if outcome.state is not JobState.UNKNOWN:
                self.close(job, outcome)
            if not job.status.terminal or outcome.failure is None:
                job.status = outcome.status
            job.state, job.slot = outcome.state, False
        assert settled.first is first
        assert (settled.job.state, settled.job.status) == (job.state, job.status)
        if first and outcome.pictures:
            assert settled.job.pictures == outcome.pictures

    # What happens ------------------------------------------------------------------------------

    @initialize(given=st.fixed_dictionaries(
        dict.fromkeys(("key:key_1", "user:ann", "team:art", "house:house"), limits)
    ))  # fmt: skip
    def set_limits(self, given: dict[str, Limits]) -> None:
        self.limits = given

    @rule(line=st.sampled_from(("key:key_1", "user:ann", "house:house")), limit=limits)
    def change_a_limit(self, line: str, limit: Limits) -> None:
        self.limits[line] = limit

    @rule(days=st.sampled_from((1, 1, 3)))
    def midnight(self, days: int) -> None:
        self.almanac.today += timedelta(days=days)

    @rule(
        target=open_jobs,
        who=st.sampled_from(PEOPLE),
        sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
        unit=st.sampled_from((0, 1, 7)),
        lapsed=st.booleans(),
        twice=st.booleans(),
    )
    def admit(self, who: Any, sizes: list[int], unit: int, lapsed: bool, twice: bool) -> Any:
        admitted = [self.admit_one(who, n, unit, lapsed, twice) for n in sizes]
        return multiple(*(job for job in admitted if job is not None))

    def admit_one(self, who: Any, n: int, unit: int, lapsed: bool, twice: bool) -> Modelled | None:
        lease_ms = LAPSED if lapsed else 60_000
        wanted = order(self.principal(who), n=n, unit=unit, lease_ms=lease_ms)
        expected = self.refusal(who, n, unit)
        if expected is not None:
            self.refuses(expected, self.ledger.admit(wanted))
            return None
        self.run(self.ledger.admit(wanted))
        if twice:
            again = self.run(self.ledger.admit(wanted))
            assert again.job.id == wanted.job_id
            assert not again.joined
        job = Modelled(wanted.job_id, who, n, unit, self.today, slot=not lapsed)
        self.jobs[job.id] = job
        self.stays_within_limits(who)
        return job

    def stays_within_limits(self, who: Any) -> None:
        """I1, as the ledger itself sees it: read back from the store."""
        standing = self.run(self.ledger.standing(self.principal(who)))
        for allowance in standing.allowances:
            if allowance.limit is not None and allowance.meter is not Meter.REQUESTS:
                assert allowance.used + allowance.held <= allowance.limit

    @rule(job=open_jobs)
    def dispatch(self, job: Modelled) -> None:
        sent = self.run(self.ledger.dispatch(job.id, 60_000))

        assert sent is (job.state is JobState.RESERVED and not job.claimed)
        if sent:
            job.state, job.slot = JobState.DISPATCHED, True

    @rule(job=open_jobs, upstream_id=st.sampled_from("abc"))
    def the_provider_accepts(self, job: Modelled, upstream_id: str) -> None:
        if job.state is JobState.RESERVED:
            return
        ours = self.run(self.ledger.record(job.id, 0, upstream_id=upstream_id, due_ms=LAPSED))

        assert ours is (self.upstream.setdefault(upstream_id, job.id) == job.id)
        if ours:
            job.slot = False

    @rule(target=ended_jobs, job=consumes(open_jobs), less=st.integers(0, 3),
          surplus=st.integers(0, 2))  # fmt: skip
    def the_provider_delivers(self, job: Modelled, less: int, surplus: int) -> Modelled:
        self.end(job, delivered(max(job.n - less, 0), surplus=surplus))
        return job

    @rule(target=ended_jobs, job=consumes(open_jobs), proof=st.sampled_from(list(Proof)[:3]))
    def the_provider_refuses(self, job: Modelled, proof: Proof) -> Modelled:
        self.end(job, released(proof))
        return job

    @rule(job=open_jobs)
    def nobody_knows(self, job: Modelled) -> None:
        self.end(job, unknown())

    @rule(target=ended_jobs, job=consumes(open_jobs))
    def nothing_resolves_it(self, job: Modelled) -> Modelled:
        self.end(job, presumed(job.n))
        return job

    @rule(job=open_jobs)
    def release_without_proof(self, job: Modelled) -> None:
        if job.state in (JobState.DISPATCHED, JobState.UNKNOWN):
            self.refuses(ValueError, self.ledger.settle(job.id, released(Proof.UNKNOWN)))

    @rule(job=ended_jobs, proof=st.booleans())
    def settle_again(self, job: Modelled, proof: bool) -> None:
        self.end(job, released() if proof else delivered(job.n))

    @rule(job=open_jobs | ended_jobs)
    def cancel(self, job: Modelled) -> None:
        done = self.run(self.ledger.cancel(job.id))

        if job.state is JobState.RESERVED:
            self.close(job, released(Proof.NEVER_SENT))
            job.state, job.status, job.slot = JobState.RELEASED, TaskStatus.FAILED, False
            assert done.first
        else:
            assert done is None or not done.first

    @rule()
    def reap(self) -> None:
        """Whatever is due is claimed; lapsed reservations are released."""
        claims = self.run(self.ledger.claim(100, LAPSED))
        for claim in claims:
            job = self.jobs[claim.job.id]
            assert claim.job.state is job.state
            assert not job.state.terminal
            job.claimed, job.slot = True, False
            if job.state is JobState.RESERVED:
                self.end(job, released(Proof.NEVER_SENT))

    @rule(who=st.sampled_from(PEOPLE), images=st.integers(-3, 3), micros=st.integers(-5, 5))
    def correct(self, who: Any, images: int, micros: int) -> None:
        day, month = self.today
        entry = Entry(
            id="", kind=EntryKind.ADJUST, at_ms=0, job="", key=who[0], user=who[1], team=who[2],
            model="m", size="", quality="", images=images, micros=micros, delivered=0, presumed=0,
            surplus=0, day=day, month=month,
        )  # fmt: skip
        cells = [(line, window) for line in lines(who) for window in (day, month)]
        if any(
            self.used[*cell, "images"] + images < 0 or self.used[*cell, "micros"] + micros < 0
            for cell in cells
        ):
            self.refuses(InvalidRequest, self.ledger.adjust(entry))
            return
        self.run(self.ledger.adjust(entry))
        for cell in cells:
            self.used[*cell, "images"] += images
            self.used[*cell, "micros"] += micros
        self.entries.append(("", EntryKind.ADJUST, images, 0, day))

    # What always holds -------------------------------------------------------------------------

    @invariant()
    def the_books_are_right(self) -> None:
        audit, census, *standings = self.run(
            self.gather(
                self.ledger.audit(),
                self.ledger.census(),
                *(self.ledger.standing(self.principal(who)) for who in PEOPLE),
            )
        )
        assert audit.differences == ()
        assert audit.entries == len(self.entries)
        still = [job for job in self.jobs.values() if not job.state.terminal]
        assert audit.open_jobs == len(still)
        assert census.held_images == sum(job.n for job in still)
        assert census.held_micros == sum(job.cost for job in still)
        assert {s: n for s, n in census.jobs.items() if n} == Counter(job.state for job in still)
        for standing in standings:
            self.equals_the_model(standing)

    def equals_the_model(self, standing: Any) -> None:
        day, month = self.today
        for a in standing.allowances:
            line = f"{a.scope.value}:{a.name}"
            if a.meter is Meter.CONCURRENCY:
                assert a.held == self.running(line)
            if a.meter in (Meter.IMAGES, Meter.MONEY):
                window = day if a.window is Window.DAY else month
                meter = "images" if a.meter is Meter.IMAGES else "micros"
                held = self.held(line, window)[a.meter is Meter.MONEY]
                assert (a.used, a.held) == (self.used[line, window, meter], held)
                assert min(a.used, a.held) >= 0

    @staticmethod
    async def gather(*awaitables: Any) -> Any:
        return await asyncio.gather(*awaitables)

    def teardown(self) -> None:
        self.run(self.the_ledger_tells_the_same_story())

    async def the_ledger_tells_the_same_story(self) -> None:
        told = [(e.job, e.kind, e.images, e.surplus, e.day) async for e in self.ledger.entries()]
        assert told == self.entries
        ends = Counter(job for job, kind, *_ in told if kind is not EntryKind.ADJUST)
        assert all(times == 1 for times in ends.values())


class Sabotaged(Store):
    """A store in which one script has been exchanged for a broken one."""

    broken: Script | None = None

    async def run(self, script: Script, keys: Any, *args: Any) -> Any:
        if self.broken is not None and script.name == self.broken.name:
            script = self.broken
        return await super().run(script, keys, *args)


def breaking(script: Script, line: str, instead: str) -> Script:
    assert line in script.text
    return assemble(script.name, script.text.replace(line, instead), [])


@pytest.fixture(scope="module")
def machine() -> Iterator[type[LedgerMachine]]:
    """The machine, bound to one embedded engine and one loop for all its examples."""
    program = programs().get("valkey") or programs()["redis"]
    with (
        running(program) as engine,
        engine.client() as admin,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):

        async def opened() -> Sabotaged:
            return Sabotaged(connect(engine.url, timeout_s=5), timeout_s=5)

        class Bound(LedgerMachine):
            loop = runner.get_loop()
            store = runner.run(opened())
            flush = staticmethod(admin.flushall)

        yield Bound
        runner.run(Bound.store.aclose())


def profile(examples: int) -> settings:
    return settings(
        max_examples=max(examples, settings.default.max_examples if examples == EXAMPLES else 0),
        stateful_step_count=STEPS,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def test_the_ledger_does_what_its_model_does(machine: type[LedgerMachine]) -> None:
    run_state_machine_as_test(machine, settings=profile(EXAMPLES))


PLANTED = {
    "settling without compare-and-set": (
        "settle",
        "if not OPEN[job.state] or job.state == ask.state then",
        "if false then",
    ),
    "settling one window only": (
        "settle",
        "for _, label in ipairs({ job.day, job.month }) do",
        "for _, label in ipairs({ job.month }) do",
    ),
    "admitting without counting what is held": (
        "admit",
        "limit.images_month, m[1], m[3], ask.images",
        "limit.images_month, m[1], 0, ask.images",
    ),
}


@pytest.mark.parametrize(("script", "line", "instead"), PLANTED.values(), ids=PLANTED)
def test_the_machine_catches_a_planted_bug(
    machine: type[LedgerMachine], script: str, line: str, instead: str
) -> None:
    machine.store.broken = breaking(load("ledger")[script], line, instead)
    try:
        with pytest.raises((AssertionError, ExceptionGroup)):
            run_state_machine_as_test(machine, settings=profile(300))
    finally:
        machine.store.broken = None
