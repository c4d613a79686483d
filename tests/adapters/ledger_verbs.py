"""The ledger's verbs, each done for real and in the model, and compared.

Whoever calls may be told that the ledger is unavailable: exactly when its process has seen
something that the store does not know (any more), or when somebody has noticed before (I14).
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from ledger_config import Asked, Config, Who, scope_keys
from ledger_model import GRACE, HOLD, LEASE, Model, ModelEntry, ModelJob
from ledger_repeats import Reused, bind, doubts, joins, kept_until
from ledger_world import Process
from store_rig import admission

from app.domain.errors import (
    GatewayError,
    IdempotencyKeyReused,
    InsufficientQuota,
    InvalidRequest,
    LedgerUnavailable,
    TaskNotFound,
)
from app.domain.job import Job, JobState, Outcome, PartResult
from app.domain.ledger import (
    AdmissionRequest,
    AnswerReceipt,
    CallerPresence,
    DedupKeys,
    Entry,
    EntryKind,
    JobClaim,
    PossibleDuplicate,
)
from app.domain.limits import LimitKind, QuotaUsedUp
from app.domain.principal import Principal


class Verbs:
    """`now` is the virtual time; `quarantined` that somebody noticed a loss."""

    loop: asyncio.AbstractEventLoop
    model: Model
    config: Config
    now: int
    epoch: str
    quarantined: bool
    touched: bool
    happened: int

    def run(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)

    def forgotten(self, process: Process) -> bool:
        """Whether the store lacks something this process has seen."""
        if self.quarantined or self.model.flushed:
            return True
        position = process.position
        if position is None or position.epoch != self.epoch:
            return False  # an earlier epoch, which this one continues
        return (
            position.seq > self.model.seq
            or self.model.positions.get(position.seq, position.who) != position.who
        )

    def do(self, process: Process, verb: Coroutine[Any, Any, Any]) -> Any:
        """Raises `LedgerUnavailable` when that is due, and what else the verb raises."""
        due, refused = self.forgotten(process), None
        self.touched = True
        try:
            return self.run(verb)
        except LedgerUnavailable as error:
            refused, self.quarantined = error, True
            raise
        finally:
            assert due is (refused is not None), f"lost: {due}, told: {refused}"

    def in_step(self, process: Process) -> None:
        """The process knows the last number, and what it stands for."""
        position = process.position
        assert position is not None
        assert (position.seq, position.who) == (
            self.model.seq,
            self.model.positions.get(position.seq, ""),
        )

    def tick(self) -> int:
        self.happened += 1
        return self.happened

    # Requests ----------------------------------------------------------------------------------

    def admission_of(self, asked: Asked, lapsed: bool) -> AdmissionRequest:
        return admission(
            self.config.principal(asked.who), n=asked.n, unit=asked.unit, body=asked.body,
            part_sizes=asked.parts, idempotency_key=asked.replay, is_sdk_retry=asked.is_sdk_retry,
            fresh=asked.fresh,
            lease_ms=-1000 if lapsed else LEASE * 1000,
        )  # fmt: skip

    def check_rate_limit(
        self, process: Process, asked: Asked, wanted: AdmissionRequest
    ) -> ModelJob | None:
        """The job the request repeats. Raises `Reused`."""
        joined, reused = None, False
        callers = self.heard(
            asked,
            lambda repeat: self.do(
                process,
                process.ledger.check_rate_limit(wanted.principal, repeat, rate_limit_checked=True),
            ),
            wanted,
        )
        repeat = replace(wanted.dedup_keys, callers=callers)
        try:
            joined = self.do(
                process, process.ledger.check_rate_limit(wanted.principal, repeat)
            ).duplicate_of
        except IdempotencyKeyReused:
            reused = True
        return self.repeats(process, asked, joined, wanted.job_id, callers, reused=reused)

    def heard(
        self, asked: Asked, verb: Callable[[DedupKeys], object], wanted: AdmissionRequest
    ) -> dict[str, CallerPresence] | None:
        """What is said of earlier callers, if somebody asks and the ledger wants to know."""
        if asked.presence is None:
            return None
        with suppress(Reused):
            calls = doubts(self.model, asked, {}, self.now)
            if calls:
                with pytest.raises(PossibleDuplicate) as contested:
                    verb(replace(wanted.dedup_keys, callers={}))
                assert set(contested.value.calls) == calls
                return dict.fromkeys(calls, CallerPresence(asked.presence))
        return {}

    def repeats(
        self,
        process: Process,
        asked: Asked,
        joined: str | None,
        call: str,
        callers: dict[str, CallerPresence] | None,
        *,
        reused: bool,
    ) -> ModelJob | None:
        try:
            mine = joins(self.model, asked, call, callers, self.now, process)
        except Reused:
            assert reused, "a key was taken with another body"
            raise
        assert not reused
        assert joined == (mine and mine.id), "joined the wrong job, or none, or one too many"
        return mine

    def admit(self, process: Process, asked: Asked, wanted: AdmissionRequest) -> ModelJob | None:
        """The job opened; None when it was refused or joined. Raises `Reused`."""
        admitted, error = None, None
        callers = self.heard(
            asked,
            lambda repeat: self.do(
                process, process.ledger.admit(replace(wanted, dedup_keys=repeat))
            ),
            wanted,
        )
        wanted = replace(wanted, dedup_keys=replace(wanted.dedup_keys, callers=callers))
        try:
            admitted = self.do(process, process.ledger.admit(wanted))
        except LedgerUnavailable:
            raise
        except GatewayError as refused:
            error = type(refused)
        joined = admitted.job.id if admitted and admitted.joined else None
        joined_job = self.repeats(
            process, asked, joined, wanted.job_id, callers, reused=error is IdempotencyKeyReused
        )
        if joined_job is not None:
            self.agrees(admitted.job, joined_job)  # type: ignore[union-attr]
            return None
        config = self.config.known_to(wanted.principal)
        if error is QuotaUsedUp:
            error = self.model.refusal(asked, config, self.now, settled=True)
            assert error is InsufficientQuota, "what runs may be given back"
        assert error == self.model.refusal(asked, config, self.now)
        if admitted is None:
            return None
        job = self.opened(process, asked, wanted, admitted.job)
        self.in_step(process)
        self.stays_within_limits(process, wanted.principal)
        return job

    def opened(
        self, process: Process, asked: Asked, wanted: AdmissionRequest, told: Job
    ) -> ModelJob:
        born = (told.created_ms + self.now * 1000, told.id)
        job = ModelJob(
            told.id, asked.who, asked.body, asked.unit, told.parts, self.config.calendar.labels,
            born, created=self.now, due=(due := self.now + wanted.lease_ms // 1000),
            slots_end=due + GRACE,
            overtook=self.now if asked.is_sdk_retry else None,
        )  # fmt: skip
        assert job.n == asked.n
        assert job.id not in self.model.jobs
        self.model.jobs[job.id] = job
        bind(self.model, asked, job, self.now)
        self.model.record_change(job.id, process)
        return job

    def stays_within_limits(self, process: Process, who: Principal) -> None:
        """I1, as the ledger itself sees it: read back from the store."""
        snapshot = self.run(process.ledger.read_limits(who))
        for status in snapshot.statuses:
            if status.limit is not None and status.kind is not LimitKind.REQUESTS:
                assert status.used + status.held <= status.limit

    def abandon(self, process: Process, job_id: str, call: str) -> None:
        self.do(process, process.ledger.abandon(job_id, call))
        job = self.model.find(job_id, self.now)
        if job is not None and job.holder == call:
            job.abandoned = job.ever_abandoned = True

    def receive(self, process: Process, job_id: str, call: str) -> None:
        self.do(process, process.ledger.save_receipts([AnswerReceipt(job_id, call)]))
        job = self.model.find(job_id, self.now)
        if job is not None and job.holder == call:
            job.received = True

    # Jobs --------------------------------------------------------------------------------------

    def dispatch(self, process: Process, job_id: str) -> bool:
        """Whether the one POST may be sent (I8)."""
        sent = self.do(process, process.ledger.dispatch(job_id, LEASE * 1000))
        job = self.model.find(job_id, self.now)
        assert sent is (job is not None and job.state is JobState.RESERVED and not job.claims)
        if sent and job:
            job.state, job.dispatched = JobState.DISPATCHED, self.now
            job.schedule(self.now + LEASE)
            self.model.record_change(job_id, process)
        return bool(sent)

    def record_part(
        self,
        process: Process,
        job_id: str,
        part: int,
        *,
        due: int = -1,
        upstream_id: str | None = None,
        result: PartResult | None = None,
    ) -> bool:
        """Whether the id is this part's own."""
        verb = process.ledger.record_part(
            job_id, part, upstream_id=upstream_id, result=result, due_ms=due * 1000
        )
        job = self.model.find(job_id, self.now)
        try:
            ours = self.do(process, verb)
        except TaskNotFound:
            assert job is None
            return True
        assert job is not None
        if upstream_id is not None:
            owner = self.model.upstream.setdefault(upstream_id, (job_id, part))
            assert ours is (owner == (job_id, part)), "one id of the provider, two jobs"
            if not ours:
                return False
        if job.open:
            what = {"upstream_id": upstream_id} if upstream_id is not None else {}
            if job.learns(part, **what | ({"result": result} if result is not None else {})):
                self.model.record_change(job_id, process)
            job.schedule(self.now + due)
        return True

    def end(self, process: Process, job_id: str, outcome: Outcome) -> None:
        job = self.model.find(job_id, self.now)
        try:
            settled = self.do(process, process.ledger.settle(job_id, outcome, hold_ms=HOLD * 1000))
        except TaskNotFound:
            assert job is None
            return
        assert job is not None
        assert settled.first is self.ends(process, job, outcome), "ended twice, or not at all"
        self.agrees(settled.job, job)

    def ends(
        self, process: Process, job: ModelJob, outcome: Outcome, *, unsent: bool = False
    ) -> bool:
        if not job.takes(outcome, self.now):
            return False
        if job.open:
            job.due = self.now + HOLD
            self.model.record_change(job.id, process)
        else:
            self.model.close(job, outcome, self.tick(), process, unsent=unsent)
            job.gone = kept_until(self.model, job, self.now)
        return True

    def agrees(self, told: Job, mine: ModelJob) -> None:
        assert (told.id, told.n, told.unit_micros) == (mine.id, mine.n, mine.unit)
        assert (told.state, told.status, told.failure) == (mine.state, mine.status, mine.failure)
        # What the provider said of each part of an ended job is not kept.
        parts = [told.parts, mine.parts]
        if not mine.open:
            parts = [tuple(replace(part, result=None) for part in row) for row in parts]
        assert parts[0] == parts[1]
        assert (told.ended_ms is None) is (mine.ended is None)

    def claim(self, process: Process, lease: int) -> Sequence[JobClaim]:
        claims: Sequence[JobClaim] = self.do(process, process.ledger.claim(100, lease * 1000))
        due = {job.id for job in self.model.open_jobs if job.due <= self.now}
        assert {claim.job.id for claim in claims} == due
        for claim in claims:
            job = self.model.jobs[claim.job.id]
            job.claims += 1
            job.move(self.now + lease)
            assert claim.token == job.claims
            self.agrees(claim.job, job)
        return claims

    def reschedule(self, process: Process, claim: JobClaim) -> None:
        ours = self.do(process, process.ledger.reschedule(claim, due_ms=10_000))
        job = self.model.find(claim.job.id, self.now)
        assert ours is (job is not None and job.open and job.claims == claim.token)
        if ours and job:
            job.move(self.now + 10)

    # Corrections -------------------------------------------------------------------------------

    def correct(self, process: Process, who: Who, images: int, micros: int) -> None:
        day, month = self.config.calendar.labels
        entry = Entry(
            id="", kind=EntryKind.ADJUST, at_ms=0, job="", key=who[0], user=who[1], team=who[2],
            model="m", size="", quality="", images=images, micros=micros, delivered=0, presumed=0,
            surplus=0, day=day, month=month,
        )  # fmt: skip
        mine = ModelEntry(0, "", EntryKind.ADJUST, scope_keys(who), (day, month), images, micros)
        try:
            written = self.do(process, process.ledger.adjust(entry))
        except InvalidRequest:
            assert self.model.overdrawn(mine)
            return
        assert not self.model.overdrawn(mine), "a counter fell below zero"
        mine.at = self.tick()
        self.model.post(mine)
        self.model.record_change(written.id, process)
        self.in_step(process)
