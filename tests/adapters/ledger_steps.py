"""What a request and a poller do, one store trip or one call of the provider at a time.

As `app.service.generate`, `run_job` and `poller` do it. Between any two steps anything may
happen, and a process may die.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from ledger_model import LEASE, verdict
from ledger_repeats import Reused
from ledger_verbs import Verbs
from ledger_world import SILENT, Process, Provider, Request

from app.domain.charging import assume_billed
from app.domain.errors import BillingEvidence, LedgerUnavailable, RequestInterrupted
from app.domain.job import Job, JobPart, JobState, Outcome
from app.domain.journal import OutboxMessage, OutboxOutcome, OutboxPart
from app.domain.ledger import JobClaim

DEADLINE = 150
NEVER_SENT = Outcome(
    JobState.RELEASED, proof=BillingEvidence.NEVER_SENT, failure=LedgerUnavailable().note
)
LAPSED = Outcome(
    JobState.RELEASED, proof=BillingEvidence.NEVER_SENT, failure=RequestInterrupted().note
)


class Steps(Verbs):
    compute_outcome: Callable[[Sequence[JobPart]], Outcome]
    provider: Provider
    doubtful: set[str]
    """Jobs whose truth nobody can know: the provider gave their task's id to others too."""

    # A request ---------------------------------------------------------------------------------

    def go(self, process: Process, request: Request, steps: int) -> None:
        stages: dict[str, Callable[[Process, Request], str]] = {
            "new": self.step_check_rate_limit,
            "arrived": self.step_admit,
            "admitted": self.step_dispatch,
            "dispatched": self.step_post,
            "heard": self.step_accepted,
            "accepted": self.step_settle,
        }
        for _ in range(steps):
            if request.stage == "over":
                return
            try:
                request.stage = stages[request.stage](process, request)
            except (LedgerUnavailable, Reused):
                request.stage = "over"

    def step_check_rate_limit(self, process: Process, request: Request) -> str:
        joined = self.check_rate_limit(process, request.asked, request.wanted)
        request.joined = joined and joined.id
        return "over" if joined else "arrived"

    def step_admit(self, process: Process, request: Request) -> str:
        job = self.admit(process, request.asked, request.wanted)
        if job is None:
            return "over"
        return "admitted"

    def step_dispatch(self, process: Process, request: Request) -> str:
        job_id = request.wanted.job_id
        try:
            return "dispatched" if self.dispatch(process, job_id) else "over"
        except LedgerUnavailable:
            # Whatever the store wrote down, no byte was sent.
            process.outbox.append(OutboxOutcome(job_id, NEVER_SENT))
            raise

    def step_post(self, _: Process, request: Request) -> str:
        """The one POST of each part, and what is heard of it."""
        sizes = request.asked.parts
        self.provider.post(request.wanted.job_id, request.asked, request.fates)
        for fate, n in zip(request.fates, sizes, strict=True):
            task = fate.told == "task"
            request.ids.append(self.provider.accept(fate) if task else None)
            request.heard.append(None if task else fate.result(n, fate.told) or SILENT)
            if fate.twice:
                self.doubtful.add(request.wanted.job_id)
        return "heard"

    def step_accepted(self, process: Process, request: Request) -> str:
        for part, upstream_id in enumerate(request.ids):
            if upstream_id is None or request.heard[part] is not None:
                continue
            if not self.deliver_or_enqueue(
                process, OutboxPart(request.wanted.job_id, part, upstream_id)
            ):
                request.heard[part] = SILENT  # the provider gave one id twice
        return "accepted"

    def step_settle(self, process: Process, request: Request) -> str:
        """Settle, or write down what ended and leave the rest to pollers."""
        job_id, heard = request.wanted.job_id, request.heard
        ended = [
            JobPart(n, id, result)
            for n, id, result in zip(request.asked.parts, request.ids, heard, strict=True)
        ]
        if all(result is not None for result in heard):
            self.settle(process, job_id, self.outcome_of(ended))
            return "over"
        for part, result in enumerate(heard):
            if result is not None:
                self.deliver_or_enqueue(process, OutboxPart(job_id, part, result=result))
        return "over"

    def deliver_or_enqueue(self, process: Process, message: OutboxMessage) -> bool:
        """What the store does not take is kept in the outbox on the process's disk."""
        try:
            return self.deliver(process, message)
        except LedgerUnavailable:
            process.outbox.append(message)
            return True

    def settle(self, process: Process, job_id: str, outcome: Outcome) -> None:
        self.deliver_or_enqueue(process, OutboxOutcome(job_id, outcome))

    def deliver(self, process: Process, message: OutboxMessage) -> bool:
        if isinstance(message, OutboxOutcome):
            self.end(process, message.job_id, message.outcome)
            return True
        what = {"upstream_id": message.upstream_id, "result": message.result}
        return self.record_part(process, message.job_id, message.part, **what)  # type: ignore[arg-type]

    def outcome_of(self, parts: Sequence[JobPart]) -> Outcome:
        outcome = self.compute_outcome(parts)
        said = (outcome.state, outcome.billed, outcome.presumed, outcome.surplus)
        assert said == verdict(parts), "the rules of money"
        return outcome

    # A poller ----------------------------------------------------------------------------------

    def handle_claim(self, process: Process, claim: JobClaim) -> None:
        """One step of one claimed job, however old the claim is by now."""
        job = claim.job
        watched = [part for part in job.parts if part.upstream_id and part.result is None]
        if job.state is JobState.RESERVED:
            self.settle(process, job.id, LAPSED)
        elif watched:
            self.poll(process, claim)
        elif job.state is JobState.UNKNOWN:
            self.settle(process, job.id, self.resolved(job, ()))
        else:
            self.settle(process, job.id, self.outcome_of(silent(job.parts)))

    def poll(self, process: Process, claim: JobClaim) -> None:
        job = claim.job
        parts = [self.seen(process, job, index) for index in range(len(job.parts))]
        ended = all(part.result is not None for part in parts)
        if job.state is JobState.UNKNOWN:
            self.settle(process, job.id, self.resolved(job, parts if ended else ()))
        elif ended:
            self.settle(process, job.id, self.outcome_of(parts))
        elif self.age(job) > DEADLINE:
            self.settle(process, job.id, self.outcome_of(silent(parts)))
        else:
            self.reschedule(process, claim)

    def seen(self, process: Process, job: Job, index: int) -> JobPart:
        part = job.parts[index]
        if part.result is not None:
            return part
        if part.upstream_id is None:
            return silent([part])[0] if self.age(job) > LEASE else part
        result = self.provider.poll(part.upstream_id, part.n)
        if result is not None and len(job.parts) > 1:
            self.record_part(process, job.id, index, result=result)
        return replace(part, result=result)

    def resolved(self, job: Job, parts: Sequence[JobPart]) -> Outcome:
        """The hold is over: late proof decides, or it is presumed billed."""
        outcome = self.outcome_of(parts) if parts else None
        if outcome is None or outcome.state is JobState.UNKNOWN:
            return assume_billed(Outcome(job.state, failure=job.failure), job.n)
        return outcome

    def age(self, job: Job) -> int:
        mine = self.model.jobs.get(job.id)
        return self.now - ((mine.dispatched or mine.created) if mine else 0)


def silent(parts: Sequence[JobPart]) -> list[JobPart]:
    return [part if part.result else replace(part, result=SILENT) for part in parts]
