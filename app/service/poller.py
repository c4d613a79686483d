"""The one loop that moves time forward: polls provider tasks, lapses leases, resolves silence.

Every open job has exactly one due time in the ledger. Any process may claim a due job; it then
owns it for one short lease. A job whose process died is simply due at some moment.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from app.domain.errors import Interrupted, LedgerUnavailable, Proof, UpstreamError
from app.domain.governor import PollGrant
from app.domain.job import (
    DoubtKind,
    Job,
    JobState,
    Outcome,
    Part,
    TaskStatus,
)
from app.domain.ledger import Claim
from app.domain.ports import Governor, ImageProvider, Ledger, Recorder
from app.domain.settlement import conclude, presume
from app.domain.upstream import Finished, PollTroubled
from app.service.about import about_job
from app.service.books import Books
from app.service.deliver import Deliver
from app.service.drain import Drain
from app.service.jobs import Pace, failed
from app.service.lease import LEASE_MS, renewed
from app.service.looks import Seen, coming_of, doubted, doubts, given_up, silent

AT_ONCE = 256
BATCH = 64
"""Of so many jobs looked at, and so many claimed by one script."""
LOOK_AGAIN_S = 0.25
SLOWEST = 8
"""Pauses between such polls double up to so many intervals."""
LOOK_AGAIN_SHARE = 0.5
LONGEST_LOOK_MS = 60_000
"""An ambiguous job is looked at again after half of its age as such, at least every minute."""
EARLY_MS = 30_000
SLOWER = 4 / 3
"""A result is to be seen within 5 s of its completion, so no interval is that long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Poller:
    ledger: Ledger
    provider: ImageProvider
    deliver: Deliver
    books: Books
    recorder: Recorder
    drain: Drain
    governor: Governor
    pace: Pace
    free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def run(self) -> None:
        """Claim and step due jobs until cancelled, or until a drain leaves them to others."""
        look_again_s = min(LOOK_AGAIN_S, self.pace.poll_interval_s / 4)
        while not self.drain.handing_over:
            room = await self._room()
            try:
                with suppress(LedgerUnavailable):
                    for claim, polls in await self._claim(room):
                        self._launch(claim, polls)
                        room -= 1
            finally:
                for _ in range(room):
                    self.free.release()
            if room > 0:
                await asyncio.sleep(look_again_s)

    def _launch(self, claim: Claim, polls: int) -> None:
        with about_job(claim.job.id, claim.job.request_id):
            self.drain.launch(self._step(claim, polls), f"step {claim.job.id}")

    async def _room(self) -> int:
        """Take free steps: a job is claimed when it can be looked at, not before."""
        await self.free.acquire()
        room = 1
        while room < BATCH and not self.free.locked():
            await self.free.acquire()
            room += 1
        return room

    async def _claim(self, room: int) -> list[tuple[Claim, int]]:
        """Due jobs, and how many of its parts each may poll.

        Under a rate, room for polls is asked for first: what finds none stays due, in order of its
        age, and who needs no poll passes by.
        """
        if not self.governor.paced:
            self.recorder.polls_waiting(0)
            claims = await self.ledger.claim(room, LEASE_MS)
            due = sum(len(_pollable(claim.job)) for claim in claims)
            return _shared(claims, (await self.governor.polls(due)).count if due else 0)
        claims, due = await self.ledger.claim_within(room, LEASE_MS, 0)
        grant = await self.governor.polls(min(due, room)) if due else PollGrant(0)
        granted = grant.count
        self.recorder.polls_waiting(due - granted)
        if granted and len(claims) < room:
            with suppress(LedgerUnavailable):
                more, _ = await self.ledger.claim_within(room - len(claims), LEASE_MS, granted)
                claims += more
        shared = _shared(claims, granted)
        await self.governor.unused(grant, granted - sum(polls for _, polls in shared))
        return shared

    async def _step(self, claim: Claim, polls: int) -> None:
        """One step, its lease renewed for as long as it takes; if it breaks, the lease lapses."""
        kept = partial(self.ledger.advance, claim, due_ms=LEASE_MS)
        try:
            with suppress(LedgerUnavailable):
                await renewed(self.step(claim, polls), kept)
        finally:
            self.free.release()

    async def step(self, claim: Claim, polls: int) -> None:
        """One look at one due job, with so many polls."""
        job = claim.job
        self.recorder.polled(claim.late_ms / 1000)
        if job.state is JobState.RESERVED:
            await self.books.settle(job, _lapsed())
        elif _pollable(job) and polls == 0:
            await self._look_later(claim, [])
        elif _pollable(job) or self._awaited(claim):
            await self._poll(claim, polls)
        elif job.state is JobState.UNKNOWN:
            await self._resolve(claim, [Seen(part) for part in job.parts])
        else:
            await self.books.end(job, [silent(part) for part in job.parts])

    def _awaited(self, claim: Claim) -> bool:
        """Whether another call of the same job may still be on its way in some process: the job is
        due for the sake of the call whose task has ended."""
        job = claim.job
        several = len(job.parts) > 1 and job.state is JobState.DISPATCHED
        return several and claim.age_ms <= self.pace.silence_ms

    async def _presume(self, job: Job, seen: Sequence[Seen]) -> None:
        """The hold is over: what was made is delivered, what nobody knows is presumed billed."""
        if any(look.part.result is not None and look.part.result.images for look in seen):
            await self.deliver.end(job, [given_up(look) for look in seen], coming_of(seen))
            return
        outcome = Outcome(job.state, failure=job.failure, calls=job.calls)
        await self.books.settle(job, presume(outcome, job.n))

    async def _resolve(self, claim: Claim, seen: Sequence[Seen]) -> None:
        """Late proof decides on an ambiguous job. Without any it is looked at again and again, and
        presumed billed when its hold is over."""
        job, parts = claim.job, [look.part for look in seen]
        ended = all(part.result is not None for part in parts)
        if ended and conclude(parts).state is not JobState.UNKNOWN:
            await self.deliver.end(job, parts, coming_of(seen))
            return
        since_ms = claim.now_ms if job.ended_ms is None else job.ended_ms
        age_ms = claim.now_ms - since_ms
        left_ms = round(self.books.resolve_after_s * 1000) - age_ms
        if left_ms <= 0:
            await self._presume(job, seen)
            return
        self._go_on(job, seen)
        pause_ms = min(max(age_ms * LOOK_AGAIN_SHARE, self._interval_ms(claim)), LONGEST_LOOK_MS)
        await self.ledger.advance(claim, due_ms=round(min(pause_ms, left_ms)))

    async def _poll(self, claim: Claim, polls: int) -> None:
        job = claim.job
        # Where not all may be polled, any of them: one that never ends must not hide the others.
        chosen = set(random.sample(_pollable(job), polls))
        seen = await asyncio.gather(
            *(self._look(claim, i, part, poll=i in chosen) for i, part in enumerate(job.parts))
        )
        parts = [look.part for look in seen]
        ended = all(part.result is not None for part in parts)
        if job.state is JobState.UNKNOWN:
            await self._resolve(claim, seen)
            return
        if not ended and claim.age_ms <= self.pace.deadline_s * 1000:
            self._go_on(job, seen)
            await self._look_later(claim, seen)
            return
        await self.deliver.end(job, [given_up(look) for look in seen], coming_of(seen))

    def _go_on(self, job: Job, seen: Sequence[Seen]) -> None:
        for look in seen:
            if look.coming is not None:
                self.deliver.go_on(job, look.coming)

    async def _look(self, claim: Claim, index: int, part: Part, *, poll: bool) -> Seen:
        if part.result is not None:
            return Seen(part)
        if part.upstream_id is None:
            return Seen(part if self._awaited(claim) else silent(part))
        return await self._ask(claim, index, part.upstream_id) if poll else Seen(part)

    async def _ask(self, claim: Claim, index: int, upstream_id: str) -> Seen:
        part = claim.job.parts[index]
        started = time.perf_counter()
        try:
            answer = await self.provider.poll(upstream_id)
        except PollTroubled as trouble:
            self.recorder.upstream("poll", "troubled", time.perf_counter() - started)
            if trouble.throttled:
                await self.governor.failed("upstream_rate_limited", trouble.retry_after_s)
            return self._troubled(claim, part, trouble)
        except UpstreamError as error:
            self.recorder.upstream("poll", error.reason, time.perf_counter() - started)
            if error.reason == "empty_result":
                return doubted(claim, part, DoubtKind.EMPTY, self.pace)
            return Seen(replace(part, result=failed(part, error, self.pace)))
        except Exception as error:  # noqa: BLE001 - it says nothing about the task
            self.drain.broke(f"poll {claim.job.id}", error)
            return Seen(part)
        self.recorder.upstream("poll", "ok", time.perf_counter() - started)
        if isinstance(answer, Finished):
            return await self._finished(claim, index, answer)
        return Seen(part, running=answer, assured=part.doubt is not None)

    def _troubled(self, claim: Claim, part: Part, trouble: PollTroubled) -> Seen:
        if trouble.missing or trouble.empty:
            kind = DoubtKind.MISSING if trouble.missing else DoubtKind.EMPTY
            return doubted(claim, part, kind, self.pace)
        return Seen(part, retry_after_s=trouble.retry_after_s)

    async def _finished(self, claim: Claim, index: int, answer: Finished) -> Seen:
        """What the provider shows is kept from here on, whatever it shows later."""
        job, part = claim.job, claim.job.parts[index]
        coming = await self.deliver.begin(job, index, answer.images)
        result = coming.result()
        if len(job.parts) > 1:
            await self.books.record(job.id, index, result=result, due_ms=LEASE_MS)
        return Seen(replace(part, result=result), coming=coming)

    async def _look_later(self, claim: Claim, seen: list[Seen]) -> None:
        running = [look.running for look in seen if look.running is not None]
        started = any(r.status is TaskStatus.PROCESSING for r in running)
        said = [r.progress for r in running if r.progress is not None]
        asked = [look.retry_after_s for look in seen if look.retry_after_s is not None]
        against = max((look.doubt.polls for look in seen if look.doubt), default=1)
        pause_ms = self._interval_ms(claim) * min(2 ** (against - 1), SLOWEST)
        await self.ledger.advance(
            claim,
            due_ms=max(pause_ms, round(max(asked, default=0) * 1000)),
            status=TaskStatus.PROCESSING if started else None,
            progress=min(said, default=None),
            doubts=doubts(seen),
        )

    def _interval_ms(self, claim: Claim) -> int:
        """Every 3 s, every 4 s after half a minute, up to a fifth earlier."""
        slow = SLOWER if claim.age_ms > EARLY_MS else 1.0
        return round(self.pace.poll_interval_s * slow * random.uniform(0.8, 1.0) * 1000)  # noqa: S311


def _pollable(job: Job) -> list[int]:
    """The parts that the provider can still be asked about."""
    return [
        index
        for index, part in enumerate(job.parts)
        if part.upstream_id is not None and part.result is None
    ]


def _shared(claims: Sequence[Claim], polls: int) -> list[tuple[Claim, int]]:
    """Polls for the claimed jobs in their order, until there are none left."""
    shared = []
    for claim in claims:
        some = min(len(_pollable(claim.job)), polls)
        shared.append((claim, some))
        polls -= some
    return shared


def _lapsed() -> Outcome:
    return Outcome(JobState.RELEASED, proof=Proof.NEVER_SENT, failure=Interrupted().note)
