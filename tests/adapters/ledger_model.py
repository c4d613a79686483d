"""What the ledger ought to do, in plain Python; what it is tried with; and how to break it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from store_rig import CALENDAR, principal

from app.adapters.redis.loader import Script, assemble
from app.adapters.redis.store import Store
from app.domain.calendar import Calendar, Day
from app.domain.errors import ConcurrencyLimited, InsufficientQuota
from app.domain.job import JobState, Outcome, TaskStatus
from app.domain.ledger import EntryKind
from app.domain.limits import Limits, Meter, Standing, Window
from app.domain.principal import Principal

Who = tuple[str, str, str | None]
PEOPLE: tuple[Who, ...] = (("key_1", "ann", "art"), ("key_2", "ann", "art"), ("key_3", "bob", None))


def lines(who: Who) -> list[str]:
    key, user, team = who
    return [f"key:{key}", f"user:{user}", *([f"team:{team}"] if team else []), "house:house"]


class Almanac(Calendar):
    """A calendar whose today is whatever the machine says; the store's clock stays real."""

    def __init__(self) -> None:
        super().__init__(CALENDAR.zone)
        self.today = date(2026, 11, 29)

    @property
    def labels(self) -> tuple[str, str]:
        day = self.day(self.today)
        return day.label, day.month

    def around(self, now: datetime) -> tuple[Day, ...]:
        shown = []
        for shift in (-1, 0, 1):
            day = self.day(self.today + timedelta(days=shift))
            real = self.day(now.astimezone(self.zone).date() + timedelta(days=400 * shift))
            shown.append(replace(real, label=day.label, month=day.month))
        return tuple(shown)


@dataclass
class ModelJob:
    id: str
    who: Who
    n: int
    unit: int
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
        return self.n * self.unit

    def becomes(self, outcome: Outcome) -> bool:
        """Take an outcome; false when the job had ended, or is as unknown as before."""
        if self.state.terminal or self.state is outcome.state:
            return False
        if not self.status.terminal or outcome.failure is None:
            self.status = outcome.status
        self.state, self.slot = outcome.state, False
        return True


@dataclass
class Model:
    """Everything the books should say."""

    almanac: Almanac = field(default_factory=Almanac)
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    used: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    entries: list[tuple[str, EntryKind, int, int, str]] = field(default_factory=list)
    limits: dict[str, Limits] = field(default_factory=dict)
    upstream: dict[str, str] = field(default_factory=dict)

    def principal(self, who: Who) -> Principal:
        given = {line.partition(":")[0]: self.limits.get(line) for line in lines(who)}
        return principal(**given, names=who)

    @property
    def open_jobs(self) -> list[ModelJob]:
        return [job for job in self.jobs.values() if not job.state.terminal]

    def held(self, line: str, window: str) -> tuple[int, int]:
        jobs = [j for j in self.open_jobs if line in j.lines and window in j.windows]
        return sum(job.n for job in jobs), sum(job.cost for job in jobs)

    def running(self, line: str) -> int:
        return sum(job.slot and line in job.lines for job in self.jobs.values())

    def refusal(self, who: Who, n: int, unit: int) -> type[Exception] | None:
        """What admission must say; None when it must admit."""
        for line in lines(who):
            for window, images, micros in self.bounds(line):
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

    def bounds(self, line: str) -> Iterator[tuple[str, int | None, int | None]]:
        day, month = self.almanac.labels
        limit = self.limits.get(line, Limits())
        yield day, limit.images_per_day, limit.micros_per_day
        yield month, limit.images_per_month, limit.micros_per_month

    def close(self, job: ModelJob, outcome: Outcome) -> None:
        """What a first, final settlement writes."""
        for line in job.lines:
            images = outcome.billed + (outcome.surplus if line.startswith("house") else 0)
            for window in job.windows:
                self.used[line, window, "images"] += images
                self.used[line, window, "micros"] += images * job.unit
        kind = EntryKind.SETTLE if outcome.state is JobState.SETTLED else EntryKind.RELEASE
        self.entries.append((job.id, kind, outcome.billed, outcome.surplus, job.windows[0]))

    def corrects(self, who: Who, images: int, micros: int) -> bool:
        """Take a correction; false when a counter would fall below zero."""
        cells = [(line, window) for line in lines(who) for window in self.almanac.labels]
        for cell in cells:
            if self.used[*cell, "images"] + images < 0 or self.used[*cell, "micros"] + micros < 0:
                return False
        for cell in cells:
            self.used[*cell, "images"] += images
            self.used[*cell, "micros"] += micros
        self.entries.append(("", EntryKind.ADJUST, images, 0, self.almanac.labels[0]))
        return True

    def equals(self, standing: Standing) -> None:
        day, month = self.almanac.labels
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


def rarely(most: int) -> st.SearchStrategy[int | None]:
    """Often no limit, so that many limits together still let something through."""
    return st.sampled_from([None, None, None, *range(most + 1)])


limits = st.builds(
    Limits,
    images_per_day=rarely(9),
    images_per_month=rarely(12),
    micros_per_day=rarely(30),
    micros_per_month=rarely(40),
    concurrency=rarely(5),
)


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
