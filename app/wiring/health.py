"""What the console shows of a running gateway: the doctor's checks, each asked anew only once its
answer is old."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from app.adapters.journal.outbox import list_dead_letters
from app.adapters.redis.ledger_condition import ClosedReason
from app.domain.catalog import Catalog
from app.domain.check_result import CheckResult, fail, ok, warn
from app.domain.errors import LedgerDataLost, LedgerUnavailable
from app.domain.ledger import LedgerAudit
from app.domain.limits import Scope, ScopeKind
from app.domain.media import ImageStoreUnavailable
from app.domain.other_store import DataVersionUnknown
from app.domain.principal import HOUSE
from app.domain.upstream import UpstreamTraffic
from app.service.check_backup import check_backup
from app.service.check_gateways import check_gateways
from app.service.operations import Health
from app.service.people import People
from app.service.upstreams import Upstreams
from app.settings import Settings
from app.wiring.adapters import Adapters
from app.wiring.check_journal import check_journals, check_outbox
from app.wiring.check_machine import (
    check_catalog,
    check_data_dir,
    check_settings,
    check_time_zone,
)
from app.wiring.check_provider import ABSENT_FIX, check_providers
from app.wiring.check_store import check_store
from app.wiring.stores import journal_directory

T = TypeVar("T")
FIGURES_S, DISK_S, PROBE_S, AUDIT_S = 3.0, 15.0, 60.0, 60.0
"""How old an answer may be: counts; disk and people; provider and the store's settings; audit."""
PATIENCE_S = 2.0
"""How long a look waits for the provider."""
ABSENT_S = 600.0
"""How long the checks name a provider that has tasks and is not configured here."""
TROUBLE_S = 3.0
"""How soon a part that was in trouble is asked again."""
STORE_AWAY = (
    "Check the server and the network, or KOI_REDIS_URL. Until then nothing new is spent: cached "
    "pictures, and keys seen in the last minute, still work; what runs is finished and settled "
    "later."
)


@dataclass
class Cached(Generic[T]):
    """An answer that is asked for at most every `keep_s` seconds, once for all who wait."""

    ask: Callable[[], Awaitable[T]]
    keep_s: float
    _value: T | None = None
    _until_s: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self) -> T:
        async with self._lock:
            if self._value is None or time.monotonic() >= self._until_s:
                self._value = await self.ask()
                self._until_s = time.monotonic() + self.keep_s
            return self._value

    def expire_soon(self) -> None:
        self._until_s = min(self._until_s, time.monotonic() + TROUBLE_S)


class HealthChecks:
    """`audit` is the comparison of the counters with the ledger, at most a minute old."""

    def __init__(
        self,
        adapters: Adapters,
        upstreams: Upstreams,
        settings: Settings,
        catalog: Catalog,
        people: People,
    ) -> None:
        self._adapters, self._settings, self._catalog = adapters, settings, catalog
        self._upstreams = upstreams
        self.audit: Cached[LedgerAudit] = Cached(adapters.ledger.audit, AUDIT_S)
        self._alarming = Cached(people.find_alarming, DISK_S)
        self._machine = Cached(self._check_machine, DISK_S)
        self._provider = Cached(lambda: check_providers(settings, catalog), PROBE_S)
        self._server = Cached(self._check_server, PROBE_S)
        self._probing: asyncio.Task[list[CheckResult]] | None = None
        self._whole = Cached(self._look, FIGURES_S)

    async def __call__(self) -> Health:
        """Never raises for a part that is away: its check says so."""
        return await self._whole()

    async def _look(self) -> Health:
        checks = [*await self._ask_provider(), *_check_absent(self._upstreams.absent)]
        for one in self._adapters.upstreams:
            checks += _check_breaker(one.name, one.traffic.latest)
        waiting = sum(one.traffic.latest.queued for one in self._adapters.upstreams)
        figures = None
        try:
            await self._require_open()
            checks += [*await self._server(), *await self._check_books()]
            house = Scope(ScopeKind.HOUSE, HOUSE, self._settings.house_limits)
            limits = await self._adapters.directory.read_scopes([house])
            stats = await self._adapters.ledger.open_job_stats()
            figures = limits, stats, await self._alarming()
        except (LedgerDataLost, DataVersionUnknown):
            closed = self._adapters.ledger.condition.closed or ClosedReason.LOST
            checks.append(fail("store", closed.sentence, closed.fix))
        except LedgerUnavailable:
            checks.append(fail("store", "it does not answer", STORE_AWAY))
        checks += [*self._check_journal(), *await self._machine()]
        standing, jobs, alarming = figures or (None, None, None)
        return Health(round(time.time() * 1000), checks, standing, jobs, waiting, alarming)

    async def _require_open(self) -> None:
        """Raises `LedgerDataLost`, `LedgerUnavailable`."""
        await self._adapters.ledger.ready()
        if self._adapters.ledger.condition.closed is not None:
            raise LedgerDataLost

    async def _ask_provider(self) -> list[CheckResult]:
        """A provider that hangs keeps nobody waiting: its answer is shown once it is there."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._provider())
        done, _ = await asyncio.wait({self._probing}, timeout=PATIENCE_S)
        if not done:
            fix = "Look again in a moment; `koi doctor` waits for it."
            return [warn("provider", "it has not answered yet", fix)]
        found = self._probing.result()
        if any(result.fix for result in found):
            self._provider.expire_soon()
        return found

    async def _check_server(self) -> list[CheckResult]:
        """What a server of one's own may be set wrong in; the embedded store is set right."""
        if self._settings.redis_url is None:
            return [ok("store", "embedded: it answers and keeps every write")]
        return await check_store("store", self._settings.redis_url, durable=True)

    async def _check_books(self) -> list[CheckResult]:
        audit = await self.audit()
        if audit.differences:
            self.audit.expire_soon()
        results = [_check_audit(audit)]
        results += [
            warn(
                "spending",
                f"stopped for {stop.scope.replace(':', ' ', 1)}: {stop.reason}",
                "Resume it here, or with `koi resume`.",
            )
            for stop in await self._adapters.keyring.stops()
        ]
        latest, now_ms = (
            await self._adapters.backups.latest(),
            await self._adapters.keyring.now_ms(),
        )
        results.append(check_backup(latest, now_ms))
        results += await self._check_pictures()
        return results + list(check_journals(self._settings, await self._adapters.journals.known()))

    async def _check_pictures(self) -> list[CheckResult]:
        alive = await self._adapters.gateways.list_alive()
        try:
            own = await self._adapters.pictures.identity()
        except ImageStoreUnavailable as error:
            fix = "Check KOI_IMAGE_STORE, its credentials and its disk."
            return [fail("image store", str(error), fix)]
        return list(check_gateways(alive, own))

    def _check_journal(self) -> Iterator[CheckResult]:
        adapters = self._adapters
        if adapters.gone() or adapters.journal.gone():
            fix = "Restart this gateway on its data directory; see `koi doctor` there."
            yield fail("journal", "its files were deleted while the gateway runs", fix)
        elif not adapters.journal.ready():
            fix = "Make room on its disk or let Koi's user write it: until then nothing is spent."
            yield fail("journal", "it cannot be written", fix)
        else:
            yield ok("journal", "every change is written")

    async def _check_machine(self) -> list[CheckResult]:
        return await asyncio.to_thread(self._check_files)

    def _check_files(self) -> list[CheckResult]:
        owed = journal_directory(self._settings) / "owed"
        waiting = list(check_outbox(owed))
        if not waiting and not list_dead_letters(owed):
            waiting = [ok("owed", "every settlement has reached the store")]
        return [
            *waiting,
            *check_data_dir(self._settings),
            *check_settings(self._settings),
            *check_time_zone(self._settings),
            *check_catalog(self._catalog, self._settings),
        ]


def _check_audit(audit: LedgerAudit) -> CheckResult:
    if not audit.differences:
        return ok("books", f"counters equal the ledger ({audit.entries} entries)")
    return fail(
        "books",
        f"{len(audit.differences)} counters differ from the ledger, by {audit.difference} in all",
        "Look at `koi ledger check`, then `koi ledger rebuild`: the ledger is the truth.",
    )


def _check_absent(absent: Mapping[str, float]) -> Iterator[CheckResult]:
    """Providers whose tasks were asked for lately, and that are not configured here."""
    for name, at_s in absent.items():
        if time.monotonic() - at_s < ABSENT_S:
            text = f"it has open tasks and is not in the catalog of {socket.gethostname()}"
            yield fail(f"provider {name}", text, ABSENT_FIX)


def _check_breaker(name: str | None, traffic: UpstreamTraffic) -> Sequence[CheckResult]:
    check = "breaker" if name is None else f"breaker {name}"
    if traffic.refused is not None:
        what = "account" if traffic.refused == "upstream_billing" else "key"
        where = "KOI_UPSTREAM_API_KEY" if name is None else "[[providers]] of the catalog"
        fix = f"Mend the {what} at the provider ({where}); one call in a while tries."
        return [fail(check, f"open: the provider refuses our {what}", fix)]
    if traffic.pause_s > 0 or traffic.share < 1:
        share = round(traffic.share * 100)
        text = f"the provider throttles: {share} % of the usual rate, pause {traffic.pause_s:.0f} s"
        return [warn(check, text, "Nothing to do: the rate recovers by itself.")]
    return [ok(check, "closed: calls go out")]
