"""What notices are judged by, read from the store."""

from collections.abc import Iterator, Sequence
from itertools import islice

from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.scope_set import scope_key_of
from app.domain.limits import LimitKind, LimitWindow, Scope
from app.domain.notice_rules import ScopeUse

SCOPES_PER_READ = 500


class RedisNoticeFacts:
    """`app.domain.notice_rules.NoticeFacts` says what each method does."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts

    async def take_turn(self, name: str, period_ms: int) -> bool:
        return bool((await self._scripts.run("take_turn", name, period_ms))["taken"])

    async def read_use(self, scopes: Sequence[Scope]) -> Sequence[ScopeUse]:
        found: list[ScopeUse] = []
        rest = iter(scopes)
        while some := list(islice(rest, SCOPES_PER_READ)):
            request = {"scope_keys": [scope_key_of(scope) for scope in some]}
            fields = await self._scripts.run_dated("read_counters", request)
            for noun, window in (("day", LimitWindow.DAY), ("month", LimitWindow.MONTH)):
                for scope, packed in zip(some, fields[f"in_{noun}"], strict=True):
                    found += _uses(scope, window, fields[noun], packed)
        return found


def _uses(scope: Scope, window: LimitWindow, label: str, packed: str) -> Iterator[ScopeUse]:
    if not packed:
        return
    images, micros, *_ = map(int, packed.split())
    name, limits, day = scope_key_of(scope), scope.limits, window is LimitWindow.DAY
    most_images = limits.images_per_day if day else limits.images_per_month
    most_micros = limits.micros_per_day if day else limits.micros_per_month
    if most_images:
        yield ScopeUse(name, LimitKind.IMAGES, window, label, images, most_images)
    if most_micros:
        yield ScopeUse(name, LimitKind.MONEY, window, label, micros, most_micros)
