"""The loop that looks for what the operator is to be told, and publishes it.

What concerns the whole deployment is looked at by one process at a time; what only a process knows
(its disk, what it noticed of the store) by each. Requests pay nothing for it.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from app.domain.administration import AuditLog, AuditQuery
from app.domain.catalog_providers import MAIN
from app.domain.errors import LedgerUnavailable
from app.domain.limits import Limits, Scope, ScopeKind
from app.domain.notice_rules import (
    NoticeFacts,
    ScopeUse,
    find_crossed_thresholds,
    find_expiring_keys,
    find_reached_alerts,
)
from app.domain.notices import Datum, Notice, NoticeKind, Notices
from app.domain.principal import HOUSE, KeyRing, at, is_enabled, scope_of
from app.domain.spend_alerts import SpendAlert, SpendAlerts
from app.domain.upstream import UpstreamTraffic

KEYS_INTERVAL_S = 600.0
SPENDING_SPAN_MS = 900_000
"""How far back stops of spending are looked for: a notice of each is published once."""
MAX_REMEMBERED = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFacts:
    """What this process knows by itself."""

    data_lost: Callable[[], bool]
    """Not of a store that was closed on purpose."""
    traffic: Callable[[], Mapping[str, UpstreamTraffic]]
    """By provider; `main` is the one of the settings."""
    low_disk: Callable[[], tuple[str, int] | None]
    """A directory with little room, and its free bytes."""
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeWatch:
    notices: Notices
    facts: NoticeFacts
    local: LocalFacts
    keyring: KeyRing
    audit_log: AuditLog
    alerts: SpendAlerts
    house: Limits
    interval_s: float
    published: set[tuple[str, str, str]] = field(default_factory=set)
    """What this process need not publish again; the store knows it too."""

    async def run(self) -> None:
        while True:
            with suppress(LedgerUnavailable):
                await self._publish(await self._find_local())
                await self._look_at_deployment()
            await asyncio.sleep(self.interval_s)

    async def _look_at_deployment(self) -> None:
        interval_ms = round(self.interval_s * 1000)
        if await self.facts.take_turn("spending", max(interval_ms * 9 // 10, 1)):
            await self._publish(await self._find_stops())
            await self._publish(find_crossed_thresholds(await self._read_use()))
            await self._publish(await self._find_alerts())
        if await self.facts.take_turn("keys", round(KEYS_INTERVAL_S * 1000)):
            now_ms = await self.keyring.now_ms()
            await self._publish(find_expiring_keys(await self.keyring.keys(), now_ms))

    async def _publish(self, found: Iterable[Notice]) -> None:
        for notice in found:
            name = (notice.kind.value, notice.subject, notice.occasion)
            if notice.occasion and name in self.published:
                continue
            await self.notices.publish(notice)
            if len(self.published) >= MAX_REMEMBERED:
                self.published.clear()
            self.published.add(name)

    async def _find_local(self) -> list[Notice]:
        found = []
        if self.local.data_lost():
            found.append(Notice(NoticeKind.LEDGER_DATA_LOST, HOUSE))
        for name, traffic in self.local.traffic().items():
            if (code := traffic.refused) is not None:
                subject = "provider" if name == MAIN else f"provider:{name}"
                data: dict[str, Datum] = {"code": code}
                data |= {} if name == MAIN else {"provider": name}
                found.append(Notice(NoticeKind.UPSTREAM_BREAKER_OPEN, subject, data))
        if (low := await asyncio.to_thread(self.local.low_disk)) is not None:
            data = {
                "host": self.local.host,
                "directory": low[0],
                "free_mb": low[1] >> 20,
            }
            found.append(Notice(NoticeKind.DISK_LOW, f"disk:{self.local.host}", data))
        return found

    async def _find_stops(self) -> list[Notice]:
        since_ms = await self.keyring.now_ms() - SPENDING_SPAN_MS
        kinds = frozenset({NoticeKind.SPENDING_STOPPED.value, NoticeKind.SPENDING_RESUMED.value})
        page = await self.audit_log.page(AuditQuery(since_ms=since_ms, kinds=kinds, limit=100))
        return [
            Notice(
                NoticeKind(record.kind),
                record.target,
                {"actor": record.actor, "reason": _reason(record.changes, record.reason)},
                record.id,
            )
            for record in reversed(page.records)
        ]

    async def _find_alerts(self) -> Iterable[Notice]:
        alerts = await self.alerts.alerts()
        return find_reached_alerts(alerts, await self.facts.read_use(_scopes_of(alerts)))

    async def _read_use(self) -> Iterable[ScopeUse]:
        users, teams = await self.keyring.users(), await self.keyring.teams()
        now_ms = await self.keyring.now_ms()
        scopes = [Scope(ScopeKind.HOUSE, HOUSE, self.house)]
        scopes += [scope_of(at(now_ms, team)) for team in teams if is_enabled(team)]
        scopes += [scope_of(at(now_ms, user)) for user in users if is_enabled(user)]
        return await self.facts.read_use([scope for scope in scopes if _is_limited(scope.limits)])


def _scopes_of(alerts: Iterable[SpendAlert]) -> list[Scope]:
    """The house and the teams that have alerts, with a limit of money that is not kept: what is
    used is read of limited ones."""
    spending = Limits(micros_per_month=1)
    named = dict.fromkeys(alert.scope.partition(":")[2] for alert in alerts)
    return [
        Scope(ScopeKind.TEAM, name, spending) if name else Scope(ScopeKind.HOUSE, HOUSE, spending)
        for name in named
    ]


def _is_limited(limits: Limits) -> bool:
    images = limits.images_per_day is not None or limits.images_per_month is not None
    return images or limits.has_budget


def _reason(changes: Mapping[str, tuple[object, object]], reason: str) -> str:
    """What callers are told, which the stop's own record holds."""
    said = changes.get("reason", (None, None))[1]
    return str(said or reason)
