"""Time, losses, and what must hold when all is over."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ledger_config import PEOPLE, Asked
from ledger_model import ModelJob
from ledger_steps import Steps
from ledger_world import PIECE, SILENT, Process, Shelf

from app.domain.errors import BillingEvidence, LedgerUnavailable
from app.domain.job import JobState, Outcome
from app.domain.ledger import EntryKind

ROUNDS = 12
DAY = 2500 * PIECE


class Ending(Steps):
    shelf: Shelf
    two: list[Process]
    passes: list[tuple[int, int]]

    def begin(self) -> None:
        self.asked: list[Asked] = []
        self.epoch = ""
        for process in self.two:
            self.correct(process, PEOPLE[2], 0, 0)
            assert process.position is not None
            self.epoch = process.position.epoch

    @contextmanager
    def refusable(self) -> Iterator[None]:
        """A refusal passes: `do` has checked that it was due."""
        with suppress(LedgerUnavailable):
            yield

    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.touched = True
        self.passes.append((self.shelf.age(seconds), seconds))

    def poll_all(self, poller: Process) -> None:
        while poller.claims:
            self.handle_claim(poller, poller.claims.pop())

    def deliver_all(self, process: Process) -> None:
        messages, process.outbox = process.outbox, []
        for message in messages:
            self.deliver_or_enqueue(process, message)

    # Comparing ---------------------------------------------------------------------------------

    async def compare(self) -> None:
        self.touched = False
        ledger = self.two[0].ledger
        stats, *snapshots = await asyncio.gather(
            ledger.open_job_stats(),
            *(ledger.read_limits(self.config.principal(who)) for who in PEOPLE),
        )
        still = self.model.open_jobs
        assert stats.held_images == sum(job.n for job in still)
        assert stats.held_micros == sum(job.n * job.unit for job in still)
        assert {s: n for s, n in stats.jobs.items() if n} == Counter(job.state for job in still)
        for snapshot in snapshots:
            self.model.equals(snapshot, self.config.calendar.labels, self.now)

    async def audited(self, process: Process) -> None:
        audit = await process.ledger.audit()
        assert audit.differences == ()
        assert audit.open_jobs == len(self.model.open_jobs)
        told = [
            (e.job, e.kind, e.images, e.presumed, e.surplus, e.day)
            async for e in process.ledger.entries()
        ]
        assert told == [entry.told for entry in self.model.entries]

    # The end -----------------------------------------------------------------------------------

    def settle_everything(self) -> None:
        for process in self.two:
            self.deliver_all(process)
        self.resolve()
        self.run(self.compare())
        self.run(self.audited(self.two[0]))
        self.fair()

    def resolve(self) -> None:
        """I9: with nobody left but pollers, every job ends."""
        for turn in range(ROUNDS):
            if not self.model.open_jobs:
                return
            self.pass_time(2 * PIECE)
            poller = self.two[turn % 2]
            poller.claims += self.claim(poller, 20)
            self.poll_all(poller)
        assert not self.model.open_jobs, "held for ever"

    def fair(self) -> None:
        """I5, I6, I7: what was charged against what the provider billed."""
        ends = [entry for entry in self.model.entries if entry.kind is not EntryKind.ADJUST]
        assert len({entry.job for entry in ends}) == len(ends)
        for entry in ends:
            billed = self.provider.bill.get(entry.job, 0)
            if entry.job not in self.doubtful:
                assert billed <= entry.images <= billed + entry.presumed, entry

    def cancels(self, process: Process, job: ModelJob) -> None:
        if not self.model.exists(job, self.now):
            return
        done = self.do(process, process.ledger.cancel(job.id))
        if job.dispatched is not None:
            assert done is None
            return
        first = job.state is JobState.RESERVED
        assert done.first is first
        if first:
            outcome = Outcome(JobState.RELEASED, failure=done.job.failure)
            self.ends(process, job, outcome, unsent=True)
        self.agrees(done.job, job)

    def refuses(self, process: Process, job_id: str, *, free: bool, n: int) -> None:
        """No release without proof, no charge beyond what was reserved."""
        unproven = Outcome(JobState.RELEASED, proof=BillingEvidence.UNKNOWN, failure=SILENT.failure)
        outcome = unproven if free else Outcome(JobState.SETTLED, billed=n + 1)
        try:
            self.do(process, process.ledger.settle(job_id, outcome))
        except ValueError:
            return
        raise AssertionError("an unlawful end was taken")
