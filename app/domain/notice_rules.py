"""When a notice is due: thresholds of limits, and keys that are about to end."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from app.domain.limits import LimitKind, LimitWindow, Scope
from app.domain.money import format_micros
from app.domain.notices import DAY_MS, Datum, Notice, NoticeKind
from app.domain.principal import ApiKey
from app.domain.spend_alerts import SpendAlert

THRESHOLDS = (100, 80)
"""Per cent of a limit, the higher first."""
EXPIRY_DAYS = (1, 7)
"""How long before a key's end, the nearer first."""


@dataclass(frozen=True, slots=True)
class ScopeUse:
    """What a scope has used of one limit; `label` is the window's, such as 2026-11-23."""

    scope: str
    kind: LimitKind
    window: LimitWindow
    label: str
    used: int
    limit: int


class NoticeFacts(Protocol):
    """Every method raises `LedgerUnavailable`."""

    async def take_turn(self, name: str, period_ms: int) -> bool:
        """Whether this process is the one that does something in this period."""

    async def read_use(self, scopes: Sequence[Scope]) -> Sequence[ScopeUse]:
        """What these scopes have used of their limits of this day and month."""


def find_crossed_thresholds(uses: Iterable[ScopeUse]) -> Iterator[Notice]:
    """The highest threshold that each limit has reached."""
    for use in uses:
        percent = next((p for p in THRESHOLDS if use.used * 100 >= use.limit * p), None)
        if percent is None:
            continue
        amount = format_micros if use.kind is LimitKind.MONEY else str
        data: dict[str, Datum] = {
            "percent": percent,
            "meter": use.kind,
            "window": use.window,
            "label": use.label,
            "used": amount(use.used),
            "limit": amount(use.limit),
        }
        occasion = f"{use.label} {use.kind} {percent} of {use.limit}"
        yield Notice(NoticeKind.BUDGET_THRESHOLD, use.scope, data, occasion)


def find_reached_alerts(alerts: Iterable[SpendAlert], uses: Iterable[ScopeUse]) -> Iterator[Notice]:
    """The spend alerts whose threshold the money of this month has reached, by the store's clock.
    Each is told once a month, and again when its threshold is changed."""
    spent = {
        use.scope: use
        for use in uses
        if (use.kind, use.window) == (LimitKind.MONEY, LimitWindow.MONTH)
    }
    for alert in alerts:
        use = spent.get(alert.scope)
        if use is None or use.used < alert.threshold_micros:
            continue
        threshold = alert.threshold_micros
        data: dict[str, Datum] = {
            "percent": use.used * 100 // threshold if threshold else 100,
            "meter": "spend alert",
            "window": "month",
            "used": format_micros(use.used),
            "limit": format_micros(threshold),
            "alert_id": alert.id,
            "recipients": ", ".join(alert.recipients),
            "subject_prefix": alert.subject_prefix or None,
        }
        occasion = f"{use.label} {alert.id} {threshold}"
        yield Notice(NoticeKind.BUDGET_THRESHOLD, alert.scope, data, occasion)


def find_expiring_keys(keys: Iterable[ApiKey], now_ms: int) -> Iterator[Notice]:
    """Keys that end within days; not those that were made for a shorter time anyway."""
    for key in keys:
        if key.expires_ms is None or not key.is_usable(now_ms):
            continue
        days = _days_left(key.expires_ms - now_ms, key.expires_ms - key.created_ms)
        if days is None:
            continue
        ends = datetime.fromtimestamp(key.expires_ms / 1000, UTC)
        data: dict[str, Datum] = {
            "key": key.id,
            "name": f'"{key.name}"' if key.name else None,
            "user": key.user,
            "left": f"{days} days" if days > 1 else "1 day",
            "expires_at": ends.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        occasion = f"{key.expires_ms} {days}"
        yield Notice(NoticeKind.KEY_EXPIRING, f"key:{key.id}", data, occasion)


def _days_left(left_ms: int, lifetime_ms: int) -> int | None:
    for days in EXPIRY_DAYS:
        if left_ms <= days * DAY_MS:
            return days if lifetime_ms > days * DAY_MS else None
    return None
