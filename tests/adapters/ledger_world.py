"""The world around the ledger: processes that die, a provider that may lie, and time.

Time passes by making everything written that much older: the store, the journals and the copies
that were taken. The clocks themselves stay real, so what is compared with a threshold must be
seconds away from it: time passes in pieces of 35 seconds and every threshold keeps its distance.
"""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import redis
from ledger_config import Asked
from store_rig import pictures

from app.adapters.journal.file import FileJournal
from app.adapters.journal.reader import JournalHistory
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.scripts import Script
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.calendar import Calendar
from app.domain.errors import BillingEvidence, FailureNote
from app.domain.job import PartResult
from app.domain.journal import ChangeKind, JournalRecord, OutboxMessage, Position, StoreChange
from app.domain.ledger import AdmissionRequest, JobClaim

PIECE = 35
TIMES = ("created", "dispatched", "ended", "overtook", "bound", "told")

AGE = """
local by, times = tonumber(ARGV[1]), cjson.decode(ARGV[2])
for _, key in ipairs(redis.call('KEYS', '*')) do
  local noun = string.match(key, '}:(%a+)')
  if noun == 'job' then
    for i, at in ipairs(redis.call('HMGET', key, unpack(times))) do
      if at then redis.call('HSET', key, times[i], string.format('%.0f', at - by)) end
    end
  elseif noun == 'due' or noun == 'slots' or noun == 'attempt' or noun == 'jobs' then
    local rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #rows, 2 do
      redis.call('ZADD', key, string.format('%.0f', rows[i + 1] - by), rows[i])
    end
  end
  local left = noun == 'window' and -1 or redis.call('PTTL', key)
  if left > by then redis.call('PEXPIRE', key, left - by) end
  if left >= 0 and left <= by then redis.call('DEL', key) end
end
"""
COPY = """
local all = {}
for i, key in ipairs(redis.call('KEYS', '*')) do
  all[i] = { key, redis.call('DUMP', key), math.max(redis.call('PTTL', key), 0) }
end
return all
"""


@dataclass(frozen=True)
class Fate:
    """What the provider does with one upstream call.

    `made` images it makes and bills. `told` is what the caller hears: result, lost (made, but not
    fetched), refused, failed, unreachable, silent, or task; a task later says `later`: result,
    failed or missing, after `polls` polls. `twice` gives the id of another task.
    """

    told: str
    made: int
    later: str = "result"
    polls: int = 0
    twice: bool = False

    def billed(self, n: int) -> int:
        """What must be charged for it at least: a surplus nobody heard of cannot be known."""
        end = self.later if self.told == "task" else self.told
        free = end in ("refused", "failed", "unreachable")
        return 0 if free else min(self.made, n)

    def result(self, n: int, end: str) -> PartResult | None:
        """As the upstream adapter understands it; None when nothing was heard."""
        match end:
            case "result":
                return PartResult(self.made, pictures(self.made)[:n])
            case "lost":
                note = FailureNote("image_unavailable", "It is gone.", charged=True)
                return PartResult(self.made, failure=note)
            case "refused":
                return _failure("upstream_rejected", BillingEvidence.REFUSED)
            case "failed":
                return _failure("upstream_error", BillingEvidence.FAILED)
            case "unreachable":
                return _failure("upstream_unreachable", BillingEvidence.NEVER_SENT, retryable=True)
            case "missing":
                return _failure("task_expired", BillingEvidence.UNKNOWN)
        return None


def _failure(code: str, proof: BillingEvidence, *, retryable: bool = False) -> PartResult:
    charged = proof is BillingEvidence.UNKNOWN
    return PartResult(failure=FailureNote(code, "…", retryable, charged), proof=proof)


FATES = (
    *(Fate("result", n) for n in (1, 1, 2, 2, 4, 4)),
    *(Fate("task", n, polls=n % 2) for n in (1, 2, 3, 4)),
    Fate("task", 2, twice=True),
    Fate("task", 2, "failed"),
    Fate("task", 2, "missing"),
    Fate("lost", 2),
    Fate("refused", 0),
    Fate("failed", 0),
    Fate("unreachable", 0),
    Fate("silent", 0),
    Fate("silent", 2),
)

SILENT = _failure("upstream_timeout", BillingEvidence.UNKNOWN)


@dataclass
class Provider:
    """Keeps the truth: what it made for whom, whoever heard of it."""

    bill: dict[str, int] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    tasks: dict[str, Fate] = field(default_factory=dict)

    def post(self, job_id: str, asked: Asked, fates: tuple[Fate, ...]) -> None:
        assert job_id not in self.bill, "dispatched twice"
        if asked.replay:
            self.keys.setdefault(asked.replay, []).append(job_id)
        self.bill[job_id] = sum(fate.billed(n) for fate, n in zip(fates, asked.parts, strict=True))

    def accept(self, fate: Fate) -> str:
        known = list(self.tasks)
        if fate.twice and known:
            return known[-1]
        upstream_id = f"up_{secrets.token_hex(8)}"
        self.tasks[upstream_id] = fate
        return upstream_id

    def poll(self, upstream_id: str, n: int) -> PartResult | None:
        """None while it runs."""
        fate = self.tasks[upstream_id]
        if fate.polls:
            self.tasks[upstream_id] = replace(fate, polls=fate.polls - 1)
            return None
        return fate.result(n, fate.later)


@dataclass(eq=False)
class Request:
    """One caller's request as its process has it in memory: where it is, what it heard."""

    asked: Asked
    wanted: AdmissionRequest
    fates: tuple[Fate, ...]
    stage: str
    joined: str | None = None
    heard: list[PartResult | None] = field(default_factory=list)
    ids: list[str | None] = field(default_factory=list)

    @property
    def job_id(self) -> str | None:
        """The job whose answer the caller waits for."""
        opened = self.stage not in ("new", "arrived")
        return self.joined or (self.wanted.job_id if opened else None)


class Process:
    """One gateway on a host of its own: its memory dies with it, journal and outbox do not."""

    def __init__(self, store: BatchingStore, calendar: Calendar, directory: Path) -> None:
        self.store, self.calendar, self.directory = store, calendar, directory
        self.outbox: list[OutboxMessage] = []
        self.start()

    def start(self) -> None:
        self.journal = FileJournal(self.directory)
        self.scripts = LedgerScripts(self.store, self.calendar, self.journal)
        self.ledger = RedisLedger(self.scripts, task_ttl_s=260, image_ttl_s=3600)
        self.requests: list[Request] = []
        self.claims: list[JobClaim] = []

    def crash(self) -> None:
        self.journal.close()
        self.start()

    @property
    def position(self) -> Position | None:
        return self.scripts.position


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Shelf:
    """Hands on the store itself: to age, copy, replace and empty it."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self._age, self._copy = client.register_script(AGE), client.register_script(COPY)

    def age(self, seconds: int) -> int:
        """Give the real time, in milliseconds, up to which everything written is older now."""
        at_ms = _now_ms()
        self._age(args=[seconds * 1000, orjson.dumps(TIMES)])
        while _now_ms() == at_ms:
            time.sleep(0.0002)
        return at_ms

    def copy(self) -> list[tuple[bytes, bytes, int]]:
        return self._copy()  # type: ignore[return-value]

    def put_back(self, copy: list[tuple[bytes, bytes, int]]) -> None:
        with self.client.pipeline() as pipe:
            pipe.flushall()
            for key, value, ttl in copy:
                pipe.restore(key, ttl, value)
            pipe.execute()

    def empty(self) -> None:
        self.client.flushall()


class Aged:
    """What journals tell, as old as `passes` have made it: (real milliseconds, seconds) each."""

    def __init__(self, directories: Sequence[Path], passes: Sequence[tuple[int, int]]) -> None:
        self._history, self._passes = JournalHistory(directories), passes

    def __iter__(self) -> Iterator[JournalRecord]:
        for step in self._history:
            by = 1000 * sum(seconds for at_ms, seconds in self._passes if step.at_ms <= at_ms)
            yield replace(step, changes=[_aged(change, by) for change in step.changes])


def _aged(change: StoreChange, by: int) -> StoreChange:
    pairs = zip(change.fields[::2], change.fields[1::2], strict=True)
    if change.kind is not ChangeKind.JOB:
        return change
    fields = [(name, str(int(at) - by) if name in TIMES else at) for name, at in pairs]
    return replace(change, fields=[text for pair in fields for text in pair])


class Sabotaged(BatchingStore):
    """A store in which some scripts have been exchanged for broken ones."""

    broken: Mapping[str, Script] = MappingProxyType({})

    async def run(self, script: Script, keys: Any, *args: Any, **how: Any) -> Any:
        return await super().run(self.broken.get(script.name, script), keys, *args, **how)
