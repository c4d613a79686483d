"""Stores that forget: emptied, replaced by an old copy, gone on from it; and what a rebuild makes.

A copy is taken of the store and of the model together. While an old copy goes on, so does its
model; the histories given up meanwhile are put together again with it by the rebuild.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

from hypothesis import assume
from ledger_ending import Ending
from ledger_model import HOLD, LEASE, TASK, KeyBinding, Model, ModelJob
from ledger_repeats import REPLAY
from ledger_world import PIECE, Aged, Process

from app.adapters.journal.reader import JournalHistory
from app.domain.job import JobPart, JobState
from app.domain.rebuild import RebuildRefused, RebuildReport, RetentionTerms
from app.recovery.rebuild import rebuild_ledger

TERMS = RetentionTerms(LEASE * 1000, LEASE * 1000, HOLD * 1000, TASK * 1000, 3_600_000)
RANK = {"R": 0, "D": 1, "U": 2, "S": 3, "X": 3}


@dataclass
class Copy:
    taken: int
    store: list[tuple[bytes, bytes, int]]
    model: Model


class Losses(Ending):
    """`pasts` are the histories given up in this epoch, `epochs` who wrote each number of the
    earlier ones."""

    copies: list[Copy]
    pasts: list[Model]
    epochs: list[dict[int, Process]]

    @property
    def whole(self) -> bool:
        return not self.pasts

    def keep_copy(self) -> None:
        if self.whole:
            self.copies = [*self.copies, Copy(self.now, self.shelf.copy(), self.fork(self.model))][
                -2:
            ]

    def fork(self, model: Model) -> Model:
        told, model.told = model.told, {}
        copy = deepcopy(model)
        model.told, copy.told = told, dict(told)
        return copy

    def lose(self, copy: Copy | None) -> None:
        """The store as it was, or nothing. Nobody has noticed yet."""
        self.pasts.append(self.model)
        self.quarantined, self.touched = False, True
        if copy is None:
            self.shelf.empty()
            self.model = Model(flushed=True)
        else:
            self.shelf.put_back(copy.store)
            self.shelf.age(self.now - copy.taken)
            self.model = self.fork(copy.model)

    def probe(self) -> None:
        """Every process finds out what has become of the store."""
        for process in self.two:
            with self.refusable():
                self.do(process, process.ledger.claim(0, 1000))

    def rebuild(self, process: Process, *, alone: bool) -> None:
        self.pass_time(PIECE)
        self.probe()
        if not self.quarantined:
            self.nothing_to_rebuild(process)
            return
        if alone:
            rebuilt = self.rebuilt(process, [process])
            assert rebuilt.lost_changes == self.missing(process)
            self.lose(None)
            self.probe()
        rebuilt = self.rebuilt(process, self.two)
        assert rebuilt.lost_changes == 0
        self.model = self.together([*self.pasts, self.model])
        self.epochs.append({n: p for past in self.pasts for n, p in past.told.items()})
        self.pasts, self.copies, self.quarantined, self.epoch = [], [], False, ""
        self.touched = True
        self.probe()
        assert self.two[0].position is not None
        self.epoch = self.two[0].position.epoch
        for one in self.two:
            self.in_step(one)
            self.run(self.audited(one))

    def rebuilt(self, process: Process, hosts: Sequence[Process]) -> RebuildReport:
        history = Aged([host.directory for host in hosts], self.passes)
        told: RebuildReport = self.run(rebuild_ledger(process.ledger._scripts, history, TERMS))
        return told

    def nothing_to_rebuild(self, process: Process) -> None:
        """What was lost nobody had seen."""
        try:
            self.rebuilt(process, self.two)
        except RebuildRefused:
            return
        raise AssertionError("a ledger that lacks nothing was rebuilt")

    def missing(self, alone: Process) -> int:
        """How many numbers this host knows to exist, but neither it nor the store remembers."""
        numbers = {n: p for past in self.pasts for n, p in past.told.items()}
        count = 0
        if any(process is alone for process in numbers.values()):
            newest = max(n for n in numbers if n <= self.known_by(alone, numbers))
            count += self.foreign(alone, numbers, self.model.seq, newest)
        if self.model.flushed:
            # The epoch that followed says how far each earlier one came.
            count += sum(
                self.foreign(alone, numbered, 0, max(numbered, default=0))
                for numbered in self.epochs
            )
        return count

    def foreign(self, alone: Process, told: dict[int, Process], kept: int, newest: int) -> int:
        """What others wrote, unless a repeat of the same step let this host hear of it too."""
        heard = {
            change.seq for step in JournalHistory([alone.directory]) for change in step.changes
        }
        others = (n for n, p in told.items() if p is not alone and n not in heard)
        return sum(kept < n <= newest for n in others)

    def known_by(self, process: Process, told: dict[int, Process]) -> int:
        seen = [step.mark.seq for step in JournalHistory([process.directory])]
        return max(n for n in seen if n in told)

    def bought_once(self) -> None:
        """I8: of what one Idempotency-Key sent, all but one were released; while nothing is lost
        (no example is as long as a key lives)."""
        for jobs in self.provider.keys.values() if not self.epochs else ():
            states = [self.model.jobs[job].state for job in jobs]
            assert sum(state is not JobState.RELEASED for state in states) <= 1

    # The model of a rebuild --------------------------------------------------------------------

    def together(self, histories: Sequence[Model]) -> Model:
        whole = Model(seq=max(history.seq for history in histories))
        whole.binds = max(history.binds for history in histories)
        whole.record_change("rebuilt")
        for history in histories:
            for job in history.jobs.values():
                other = whole.jobs.get(job.id)
                whole.jobs[job.id] = deepcopy(job) if other is None else self.later(other, job)
        entries = {entry.at: entry for history in histories for entry in history.entries}
        for _, entry in sorted(entries.items()):
            whole.post(entry)
        for job in whole.jobs.values():
            self.restored(job)
        self.restore_keys(whole)
        return whole

    def later(self, one: ModelJob, other: ModelJob) -> ModelJob:
        """Two accounts of one job: the later state knows more."""
        older, newer = sorted((one, other), key=lambda job: RANK[job.state.value])
        told = deepcopy(newer)
        if older.state is newer.state:
            assume(older.ended == newer.ended and older.dispatched == newer.dispatched)
            told.parts = tuple(map(either, older.parts, newer.parts))
        if older.bound > newer.bound or not newer.replay:
            told.replay, told.bound = older.replay, older.bound
            told.binding = older.binding
        told.ever_abandoned = older.ever_abandoned or newer.ever_abandoned
        return told

    def restored(self, job: ModelJob) -> None:
        """An open job is due as if it had never been forgotten; nobody has claimed it."""
        job.abandoned, job.overtook, job.claims = job.ever_abandoned, None, 0
        job.heir, job.received, job.told, job.tied = None, False, None, None
        if not job.open:
            assert job.ended is not None
            job.gone = job.ended + max(job.ttl, REPLAY if job.replay else 0)
            return
        if job.state is JobState.RESERVED:
            due = job.created + LEASE
            job.claims = int(due <= self.now)  # never sent any more
        elif job.state is JobState.UNKNOWN:
            due = (job.ended or 0) + HOLD
        elif any(part.upstream_id for part in job.parts):
            due = self.now
        else:
            due = (job.dispatched or 0) + LEASE
        job.schedule(max(due, self.now))

    def restore_keys(self, whole: Model) -> None:
        known = [job for job in whole.jobs.values() if whole.exists(job, self.now)]
        for job in sorted(known, key=lambda job: (job.bound, job.binding)):
            if job.replay:
                whole.keys[job.replay] = KeyBinding(job.id, job.body, job.bound + REPLAY)
            for index, part in enumerate(job.parts):
                if part.upstream_id:
                    whole.upstream[part.upstream_id] = (job.id, index)


def either(one: JobPart, other: JobPart) -> JobPart:
    results = [part.result for part in (one, other) if part.result is not None]
    assume(len(set(results)) <= 1)
    result = results[0] if results else None
    return replace(one, upstream_id=one.upstream_id or other.upstream_id, result=result)
