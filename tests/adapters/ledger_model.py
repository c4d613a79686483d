"""What the ledger ought to do, in plain Python. Times are virtual seconds, see `ledger_world`."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ledger_config import Asked, Config, Who, scope_keys

from app.domain.errors import (
    BillingEvidence,
    ConcurrencyLimited,
    FailureNote,
    InsufficientQuota,
)
from app.domain.job import JobPart, JobState, Outcome, PartResult, TaskStatus
from app.domain.ledger import EntryKind
from app.domain.limits import LimitKind, Limits, LimitSnapshot, LimitWindow

LEASE, HOLD, GRACE, MAX_GRACE, TASK, IMAGE = 60, 60, 60, 120, 260, 3600
"""Seconds that a reservation or a dispatch may stay silent, an ambiguous charge is held, a
concurrency slot outlives its job's due time (at least; at most, while it is polled), and an ended
job can be read."""

RANK = "RDUSX"


@dataclass
class ModelJob:
    """`born` sorts jobs by age as the store does; `entry` is what the ledger says of its end."""

    id: str
    who: Who
    body: str
    unit: int
    parts: tuple[JobPart, ...]
    windows: tuple[str, str]
    born: tuple[int, str]
    created: int
    due: int
    slots_end: int
    state: JobState = JobState.RESERVED
    status: TaskStatus = TaskStatus.QUEUED
    dispatched: int | None = None
    ended: int | None = None
    failure: FailureNote | None = None
    claims: int = 0
    gone: int | None = None
    replay: str | None = None
    bound: int = 0
    binding: int = 0
    tied: str | None = None
    abandoned: bool = False
    ever_abandoned: bool = False
    overtook: int | None = None
    heir: str | None = None
    received: bool = False
    told: int | None = None

    def schedule(self, due: int) -> None:
        self.due, self.slots_end = due, due + GRACE

    def move(self, due: int) -> None:
        """By a claim or a step: its slots move when they would end too soon, or far too late."""
        self.due = due
        if not GRACE < self.slots_end - due <= MAX_GRACE:
            self.slots_end = due + MAX_GRACE

    @property
    def ttl(self) -> int:
        """How long a record can be read once its job is over: with pictures, as long as these."""
        return max(TASK, IMAGE) if self.status is TaskStatus.COMPLETED else TASK

    @property
    def holder(self) -> str:
        """The call whose departure abandons the job."""
        return self.heir or self.id

    @property
    def n(self) -> int:
        return sum(part.n for part in self.parts)

    @property
    def scope_keys(self) -> list[str]:
        return scope_keys(self.who)

    @property
    def open(self) -> bool:
        return not self.state.terminal

    @property
    def asks_again(self) -> bool:
        """A free failure that asked to be repeated."""
        failure = self.failure
        return self.state is JobState.RELEASED and failure is not None and failure.retryable

    def takes(self, outcome: Outcome, now: int) -> bool:
        """End; false when the job had ended, or is as unknown as before."""
        if not self.open or self.state is outcome.state:
            return False
        late = outcome.failure is None
        if self.ended is None or late:
            self.status, self.ended = outcome.status, now
        self.failure = None if late else outcome.failure
        self.state = outcome.state
        return True

    def learns(self, index: int, **what: object) -> bool:
        """A part's id or result; a result stands, unless a later one is the first with images."""
        before, result = self.parts[index], what.get("result")
        if isinstance(result, PartResult) and before.result is not None:
            first_images = result.images and not before.result.images
            if not first_images:
                del what["result"]
        parts = list(self.parts)
        parts[index] = replace(before, **what)  # type: ignore[arg-type]
        self.parts = tuple(parts)
        return bool(what)


@dataclass
class ModelEntry:
    """An entry of the ledger; `at` sorts entries as they happened."""

    at: int
    job: str
    kind: EntryKind
    scope_keys: list[str]
    windows: tuple[str, str]
    images: int
    micros: int
    surplus: int = 0
    surplus_micros: int = 0
    presumed: int = 0

    @property
    def told(self) -> tuple[str, EntryKind, int, int, int, str]:
        return self.job, self.kind, self.images, self.presumed, self.surplus, self.windows[0]


@dataclass
class KeyBinding:
    """What an Idempotency-Key means, and until when."""

    job: str
    body: str
    until: int


@dataclass
class Model:
    """Everything the ledger should say. `positions` names what each number of this epoch stands
    for, `told` the process that wrote it down."""

    jobs: dict[str, ModelJob] = field(default_factory=dict)
    used: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    entries: list[ModelEntry] = field(default_factory=list)
    upstream: dict[str, tuple[str, int]] = field(default_factory=dict)
    keys: dict[str, KeyBinding] = field(default_factory=dict)
    positions: dict[int, str] = field(default_factory=dict)
    told: dict[int, Any] = field(default_factory=dict)
    seq: int = 0
    binds: int = 0
    flushed: bool = False

    @property
    def open_jobs(self) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.open]

    def record_change(self, who: str, by: Any = None) -> None:
        self.seq += 1
        self.positions[self.seq] = who
        if by is not None:
            self.told[self.seq] = by

    def exists(self, job: ModelJob, now: int) -> bool:
        return job.gone is None or now < job.gone

    def find(self, job_id: str, now: int) -> ModelJob | None:
        job = self.jobs.get(job_id)
        return job if job is not None and self.exists(job, now) else None

    # Limits ------------------------------------------------------------------------------------

    def held(self, scope_key: str, window: str) -> tuple[int, int]:
        jobs = [j for j in self.open_jobs if scope_key in j.scope_keys and window in j.windows]
        return sum(job.n for job in jobs), sum(job.n * job.unit for job in jobs)

    def running(self, scope_key: str, now: int) -> int:
        """Jobs that hold a concurrency slot: one in U has answered and holds none."""
        return sum(
            job.state.value in "RD" and job.slots_end > now and scope_key in job.scope_keys
            for job in self.open_jobs
        )

    def refusal(
        self, asked: "Asked", config: "Config", now: int, *, settled: bool = False
    ) -> type[Exception] | None:
        """What admission must say; None when it must admit (I1). `settled`: if all that runs were
        given back."""
        for scope_key in scope_keys(asked.who):
            for window, images, micros in config.bounds(scope_key):
                held_images, held_micros = (0, 0) if settled else self.held(scope_key, window)
                total = self.used[scope_key, window, "images"] + held_images + asked.n
                money = self.used[scope_key, window, "micros"] + held_micros + asked.n * asked.unit
                if images is not None and total > images:
                    return InsufficientQuota
                if micros is not None and money > micros:
                    return InsufficientQuota
        for scope_key in scope_keys(asked.who):
            most = config.limits.get(scope_key, Limits()).concurrency
            if most is not None and self.running(scope_key, now) >= most and not settled:
                return ConcurrencyLimited
        return None

    # Entries -----------------------------------------------------------------------------------

    def post(self, entry: ModelEntry) -> None:
        """Write an entry of the ledger and move the counters of its windows with it (I3, I10)."""
        self.entries.append(entry)
        for scope_key in entry.scope_keys:
            is_house = scope_key.startswith("house")
            for window in entry.windows:
                images = entry.images + (entry.surplus if is_house else 0)
                micros = entry.micros + (entry.surplus_micros if is_house else 0)
                self.used[scope_key, window, "images"] += images
                self.used[scope_key, window, "micros"] += micros

    def close(
        self, job: ModelJob, outcome: Outcome, at: int, by: Any, *, unsent: bool = False
    ) -> None:
        """What a first, final settlement writes (I4); a job cancelled in time leaves no entry."""
        if unsent:
            self.record_change(job.id, by)
            return
        kind = EntryKind.SETTLE if outcome.state is JobState.SETTLED else EntryKind.RELEASE
        self.post(
            ModelEntry(
                at, job.id, kind, job.scope_keys, job.windows, outcome.billed,
                outcome.billed * job.unit, outcome.surplus, outcome.surplus * job.unit,
                outcome.presumed,
            )
        )  # fmt: skip
        self.record_change(job.id, by)

    def overdrawn(self, entry: ModelEntry) -> bool:
        """Whether a correction would take a counter below zero (I2)."""
        cells = [(scope_key, window) for scope_key in entry.scope_keys for window in entry.windows]
        return any(
            self.used[*cell, "images"] + entry.images < 0
            or self.used[*cell, "micros"] + entry.micros < 0
            for cell in cells
        )

    def equals(self, snapshot: LimitSnapshot, labels: tuple[str, str], now: int) -> None:
        for a in snapshot.statuses:
            scope_key = f"{a.scope.value}:{a.name}"
            if a.kind is LimitKind.CONCURRENCY:
                assert a.held == self.running(scope_key, now), a
            if a.kind in (LimitKind.IMAGES, LimitKind.MONEY):
                window = labels[0] if a.window is LimitWindow.DAY else labels[1]
                cell = "images" if a.kind is LimitKind.IMAGES else "micros"
                held = self.held(scope_key, window)[a.kind is LimitKind.MONEY]
                assert (a.used, a.held) == (self.used[scope_key, window, cell], held), a
                assert min(a.used, a.held) >= 0


def verdict(parts: Iterable[JobPart]) -> tuple[JobState, int, int, int]:
    """State, images billed, presumed and surplus of a job all of whose parts ended (I5, I6, I7)."""
    made = presumed = surplus = 0
    for part in parts:
        assert part.result is not None
        made += min(part.result.images, part.n)
        surplus += max(part.result.images - part.n, 0)
        presumed += part.n * (part.result.proof is BillingEvidence.UNKNOWN)
    if made:
        return JobState.SETTLED, made + presumed, presumed, surplus
    return (JobState.UNKNOWN if presumed else JobState.RELEASED), 0, 0, surplus
