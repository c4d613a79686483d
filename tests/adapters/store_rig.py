"""What the store's tests are made of: real engines, orders, outcomes and ways to look at them."""

import asyncio
import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import redis

from app.adapters.journal.file import FileJournal
from app.adapters.journal.months import FileMonths
from app.adapters.redis.client.batching import BatchingStore
from app.adapters.redis.client.breaker import CircuitBreaker
from app.adapters.redis.keyring import RedisKeyRing
from app.adapters.redis.ledger import RedisLedger
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.signals import RedisSignals
from app.domain.administration import Actor, ActorKind, AuditNote
from app.domain.attribution import MAX_COUNTED
from app.domain.calendar import Calendar
from app.domain.errors import BillingEvidence, FailureNote
from app.domain.images import GenerationRequest, Picture, digest
from app.domain.job import JobState, Outcome, new_job_id
from app.domain.ledger import AdmissionRequest, DedupKeys
from app.domain.limits import LimitKind, Limits, LimitSnapshot, LimitWindow, Scope, ScopeKind
from app.domain.principal import CachePolicy, Principal


def _zone_far_from_midnight() -> ZoneInfo:
    """Not UTC, and its next midnight is six hours away or more: no test spans two of its days."""
    return ZoneInfo("America/Denver" if 10 <= datetime.now(UTC).hour < 16 else "Asia/Shanghai")


CALENDAR = Calendar(_zone_far_from_midnight())
NOTE = AuditNote(Actor(ActorKind.CLI, "ops@test"), "key.updated", "a test")
REFUSED = FailureNote("upstream_rejected", "The provider refused it.")
AMBIGUOUS = FailureNote("upstream_timeout", "Nobody knows.", charged=True)


@dataclass
class Engine:
    """One server process of the test's own."""

    program: Path
    directory: Path
    options: Sequence[str] = ()
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def socket(self) -> Path:
        return self.directory / "s"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> "Engine":
        self.process = subprocess.Popen(
            [
                str(self.program), "--port", "0", "--unixsocket", str(self.socket),
                "--dir", str(self.directory), "--save", "", "--appendonly", "no",
                "--daemonize", "no", "--logfile", str(self.directory / "log"), *self.options,
            ]
        )  # fmt: skip
        for _ in range(6000):
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
                line.connect(str(self.socket))
                line.sendall(b"PING\r\n")
                if line.recv(64).startswith((b"+", b"-NOAUTH", b"-MASTERDOWN")):
                    return self
            if self.process.poll() is not None:
                break
            time.sleep(0.01)
        self.stop()
        raise RuntimeError((self.directory / "log").read_text())

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=True)

    def copy(self) -> dict[bytes, bytes]:
        """Everything in the store."""
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            return {key: client.dump(key) for key in client.scan_iter()}

    def put_back(self, copy: dict[bytes, bytes]) -> None:
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            client.flushall()
            for key, value in copy.items():
                client.restore(key, 0, value)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running(program: Path, *options: str) -> Iterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="koi", ignore_cleanup_errors=True) as directory:
        engine = Engine(program, Path(directory), options).start()
        try:
            yield engine
        finally:
            engine.stop()


OpenStore = Callable[..., BatchingStore]


_shelf = tempfile.TemporaryDirectory(prefix="koi-journals", ignore_cleanup_errors=True)
_volumes = count()


def new_journal() -> FileJournal:
    """A journal of its own, as a process on another machine has it."""
    return FileJournal(Path(_shelf.name) / f"{next(_volumes)}")


def scripts_on(
    store: BatchingStore, journal: FileJournal | None = None, **options: Any
) -> LedgerScripts:
    journal = journal or new_journal()
    scripts = LedgerScripts(store, **{"calendar": CALENDAR, "journal": journal} | options)
    if isinstance(journal, FileJournal):
        scripts.months = FileMonths(journal.directory)
    return scripts


def ledger_on(
    store: BatchingStore,
    journal: FileJournal | None = None,
    *,
    scripts: LedgerScripts | None = None,
    **options: Any,
) -> RedisLedger:
    ttls = {"task_ttl_s": options.pop("task_ttl_s", 86_400), "image_ttl_s": 3600}
    ttls["attributed"] = options.pop("attributed", MAX_COUNTED)
    return RedisLedger(scripts or scripts_on(store, journal, **options), **ttls)


def keyring_on(store: BatchingStore, *now: Callable[[], float]) -> RedisKeyRing:
    return RedisKeyRing(scripts_on(store), *now)


def principal(
    *,
    key: Limits | None = None,
    user: Limits | None = None,
    team: Limits | None = None,
    house: Limits | None = None,
    names: tuple[str, str, str | None] = ("key_1", "ann", "art"),
) -> Principal:
    key_id, user_name, team_name = names
    scopes = [
        Scope(ScopeKind.KEY, key_id, key or Limits()),
        Scope(ScopeKind.USER, user_name, user or Limits()),
        Scope(ScopeKind.HOUSE, "house", house or Limits()),
    ]
    if team_name is not None:
        scopes.insert(2, Scope(ScopeKind.TEAM, team_name, team or Limits()))
    return Principal(key_id, user_name, team_name, tuple(scopes), CachePolicy.PRIVATE)


_bodies = count()


def admission(
    who: Principal | None = None,
    *,
    n: int = 1,
    unit: int | None = 140_000,
    lease_ms: int = 60_000,
    body: str | None = None,
    **options: Any,
) -> AdmissionRequest:
    """An order of a body of its own, so that it repeats nothing by accident."""
    body = body or f"body {next(_bodies)}"
    job_id = new_job_id()
    repeat = DedupKeys(
        digest(body),
        options.pop("idempotency_key", None),
        options.pop("is_sdk_retry", False),
        options.pop("fresh", False),
        job_id,
    )
    request = GenerationRequest("grok-imagine", body, n, "1024x1024", "standard")
    return replace(
        AdmissionRequest(
            job_id=job_id,
            principal=who or principal(),
            request=request,
            part_sizes=(n,),
            unit_micros=unit,
            dedup_keys=repeat,
            lease_ms=lease_ms,
        ),
        **options,
    )


def pictures(n: int) -> tuple[Picture, ...]:
    return tuple(Picture(f"img_{new_job_id()}", "image/jpeg", 64, 64) for _ in range(n))


def delivered(n: int, *, surplus: int = 0) -> Outcome:
    return Outcome(JobState.SETTLED, pictures(n), billed=n, surplus=surplus)


def released(proof: BillingEvidence = BillingEvidence.REFUSED) -> Outcome:
    return Outcome(JobState.RELEASED, proof=proof, failure=REFUSED)


def unknown() -> Outcome:
    return Outcome(JobState.UNKNOWN, proof=BillingEvidence.UNKNOWN, failure=AMBIGUOUS)


def presumed(n: int) -> Outcome:
    return Outcome(
        JobState.SETTLED, billed=n, presumed=n, proof=BillingEvidence.UNKNOWN, failure=AMBIGUOUS
    )


def used_and_held(
    snapshot: LimitSnapshot, scope: ScopeKind, kind: LimitKind, window: LimitWindow
) -> tuple[int, int]:
    """What one allowance says is used and held."""
    [found] = [a for a in snapshot.statuses if (a.scope, a.kind, a.window) == (scope, kind, window)]
    return found.used, found.held


async def started(ledger: RedisLedger, wanted: AdmissionRequest) -> str:
    """A job of that order, dispatched."""
    admitted = await ledger.admit(wanted)
    assert await ledger.dispatch(admitted.job.id, 60_000)
    return admitted.job.id


@contextlib.asynccontextmanager
async def listening(
    store: BatchingStore, heard: list[str | None], quiet_s: float = 5.0
) -> AsyncIterator[None]:
    """Hears jobs end meanwhile, and None where some may have been missed."""

    async def listen() -> None:
        async for job_id in RedisSignals(store, quiet_s=quiet_s).ended():
            heard.append(job_id)  # noqa: PERF401  it never ends

    task = asyncio.create_task(listen())
    yield
    task.cancel()
    await asyncio.wait([task])


async def eventually(check: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.01)


def quick_breaker(**options: Any) -> CircuitBreaker:
    return CircuitBreaker(**{"probe_s": 0.1} | options)
