"""The machine that drives the ledger and its model through the same histories.

What it checks after every step: admission says exactly what the model says (I1), the counters
equal the model and the ledger's own audit (I2, I3), each job ends once and in the windows it
reserved (I4, I10).
"""

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from ledger_model import PEOPLE, Model, ModelJob, Who, limits
from store_rig import (
    delivered,
    ledger_on,
    order,
    presumed,
    released,
    unknown,
)

from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.store import Store
from app.domain.errors import InvalidRequest, Proof
from app.domain.job import JobState, Outcome
from app.domain.ledger import Entry, EntryKind
from app.domain.limits import Limits, Meter

LAPSED = -120_000
"""A lease that ended so long ago that the concurrency slot has lapsed with it."""
BOUND = ("key:key_1", "user:ann", "team:art", "house:house")


class LedgerMachine(RuleBasedStateMachine):
    """`loop`, `store` and `flush` are given by the test that runs the machine."""

    loop: asyncio.AbstractEventLoop
    store: Store
    flush: Any

    open_jobs = Bundle("open_jobs")
    ended_jobs = Bundle("ended_jobs")

    def __init__(self) -> None:
        super().__init__()
        self.flush()
        self.model = Model()
        self.ledger: RedisLedger = ledger_on(self.store, calendar=self.model.almanac)

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def refuses(self, expected: type[Exception], awaitable: Any) -> None:
        try:
            self.run(awaitable)
        except expected:
            return
        raise AssertionError(f"{expected.__name__} was due")

    def end(self, job: ModelJob, outcome: Outcome) -> None:
        """Settle for real and in the model, and compare."""
        settled = self.run(self.ledger.settle(job.id, outcome, hold_ms=LAPSED))
        first = job.becomes(outcome)
        if first and outcome.state is not JobState.UNKNOWN:
            self.model.close(job, outcome)
        assert settled.first is first
        assert (settled.job.state, settled.job.status) == (job.state, job.status)
        if first and outcome.pictures:
            assert settled.job.pictures == outcome.pictures

    # What happens ------------------------------------------------------------------------------

    @initialize(given=st.fixed_dictionaries(dict.fromkeys(BOUND, limits)))
    def set_limits(self, given: dict[str, Limits]) -> None:
        self.model.limits = given

    @rule(line=st.sampled_from(BOUND), limit=limits)
    def change_a_limit(self, line: str, limit: Limits) -> None:
        self.model.limits[line] = limit

    @rule(days=st.sampled_from((1, 1, 3)))
    def midnight(self, days: int) -> None:
        self.model.almanac.today += timedelta(days=days)

    @rule(
        target=open_jobs,
        who=st.sampled_from(PEOPLE),
        sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
        unit=st.sampled_from((0, 1, 7)),
        lapsed=st.booleans(),
        twice=st.booleans(),
    )
    def admit(self, who: Who, sizes: list[int], unit: int, lapsed: bool, twice: bool) -> Any:
        admitted = [self.admit_one(who, n, unit, lapsed, twice) for n in sizes]
        return multiple(*(job for job in admitted if job is not None))

    def admit_one(self, who: Who, n: int, unit: int, lapsed: bool, twice: bool) -> ModelJob | None:
        lease_ms = LAPSED if lapsed else 60_000
        wanted = order(self.model.principal(who), n=n, unit=unit, lease_ms=lease_ms)
        expected = self.model.refusal(who, n, unit)
        if expected is not None:
            self.refuses(expected, self.ledger.admit(wanted))
            return None
        self.run(self.ledger.admit(wanted))
        if twice:
            again = self.run(self.ledger.admit(wanted))
            assert again.job.id == wanted.job_id
            assert not again.joined
        job = ModelJob(wanted.job_id, who, n, unit, self.model.almanac.labels, slot=not lapsed)
        self.model.jobs[job.id] = job
        self.stays_within_limits(who)
        return job

    def stays_within_limits(self, who: Who) -> None:
        """I1, as the ledger itself sees it: read back from the store."""
        standing = self.run(self.ledger.standing(self.model.principal(who)))
        for allowance in standing.allowances:
            if allowance.limit is not None and allowance.meter is not Meter.REQUESTS:
                assert allowance.used + allowance.held <= allowance.limit

    @rule(job=open_jobs)
    def dispatch(self, job: ModelJob) -> None:
        sent = self.run(self.ledger.dispatch(job.id, 60_000))

        assert sent is (job.state is JobState.RESERVED and not job.claimed)
        if sent:
            job.state, job.slot = JobState.DISPATCHED, True

    @rule(job=open_jobs, upstream_id=st.sampled_from("abc"))
    def the_provider_accepts(self, job: ModelJob, upstream_id: str) -> None:
        if job.state is JobState.RESERVED:
            return
        ours = self.run(self.ledger.record(job.id, 0, upstream_id=upstream_id, due_ms=LAPSED))

        assert ours is (self.model.upstream.setdefault(upstream_id, job.id) == job.id)
        if ours:
            job.slot = False

    @rule(
        target=ended_jobs,
        job=consumes(open_jobs),
        less=st.integers(0, 3),
        surplus=st.integers(0, 2),
    )
    def the_provider_delivers(self, job: ModelJob, less: int, surplus: int) -> ModelJob:
        self.end(job, delivered(max(job.n - less, 0), surplus=surplus))
        return job

    @rule(target=ended_jobs, job=consumes(open_jobs), proof=st.sampled_from(list(Proof)[:3]))
    def the_provider_refuses(self, job: ModelJob, proof: Proof) -> ModelJob:
        self.end(job, released(proof))
        return job

    @rule(job=open_jobs)
    def nobody_knows(self, job: ModelJob) -> None:
        self.end(job, unknown())

    @rule(target=ended_jobs, job=consumes(open_jobs))
    def nothing_resolves_it(self, job: ModelJob) -> ModelJob:
        self.end(job, presumed(job.n))
        return job

    @rule(job=open_jobs)
    def release_without_proof(self, job: ModelJob) -> None:
        if job.state in (JobState.DISPATCHED, JobState.UNKNOWN):
            self.refuses(ValueError, self.ledger.settle(job.id, released(Proof.UNKNOWN)))

    @rule(job=ended_jobs, proof=st.booleans())
    def settle_again(self, job: ModelJob, proof: bool) -> None:
        self.end(job, released() if proof else delivered(job.n))

    @rule(job=open_jobs | ended_jobs)
    def cancel(self, job: ModelJob) -> None:
        done = self.run(self.ledger.cancel(job.id))

        if job.state is JobState.RESERVED:
            assert done.first
            job.becomes(released(Proof.NEVER_SENT))
            self.model.close(job, released(Proof.NEVER_SENT))
        else:
            assert done is None or not done.first

    @rule()
    def reap(self) -> None:
        """Whatever is due is claimed; lapsed reservations are released."""
        for claim in self.run(self.ledger.claim(100, LAPSED)):
            job = self.model.jobs[claim.job.id]
            assert claim.job.state is job.state
            assert not job.state.terminal
            job.claimed, job.slot = True, False
            if job.state is JobState.RESERVED:
                self.end(job, released(Proof.NEVER_SENT))

    @rule(who=st.sampled_from(PEOPLE), images=st.integers(-3, 3), micros=st.integers(-5, 5))
    def correct(self, who: Who, images: int, micros: int) -> None:
        day, month = self.model.almanac.labels
        entry = Entry(
            id="", kind=EntryKind.ADJUST, at_ms=0, job="", key=who[0], user=who[1], team=who[2],
            model="m", size="", quality="", images=images, micros=micros, delivered=0, presumed=0,
            surplus=0, day=day, month=month,
        )  # fmt: skip
        if self.model.corrects(who, images, micros):
            self.run(self.ledger.adjust(entry))
        else:
            self.refuses(InvalidRequest, self.ledger.adjust(entry))

    # What always holds -------------------------------------------------------------------------

    @invariant()
    def the_books_are_right(self) -> None:
        self.run(self.compare())

    async def compare(self) -> None:
        audit, census, *standings = await asyncio.gather(
            self.ledger.audit(),
            self.ledger.census(),
            *(self.ledger.standing(self.model.principal(who)) for who in PEOPLE),
        )
        still = self.model.open_jobs
        assert audit.differences == ()
        assert (audit.entries, audit.open_jobs) == (len(self.model.entries), len(still))
        assert census.held_images == sum(job.n for job in still)
        assert census.held_micros == sum(job.cost for job in still)
        assert {s: n for s, n in census.jobs.items() if n} == Counter(job.state for job in still)
        for standing in standings:
            self.model.equals(standing)

    def teardown(self) -> None:
        self.run(self.the_ledger_tells_the_same_story())

    async def the_ledger_tells_the_same_story(self) -> None:
        told = [(e.job, e.kind, e.images, e.surplus, e.day) async for e in self.ledger.entries()]
        assert told == self.model.entries
        ends = Counter(job for job, kind, *_ in told if kind is not EntryKind.ADJUST)
        assert all(times == 1 for times in ends.values())
        assert (await ledger_on(self.store).audit()).differences == ()
