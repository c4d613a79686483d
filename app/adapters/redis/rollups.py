"""The `Rollups` on Redis: one hash for each span and view, a group's JSON -> its sums' JSON."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.adapters.redis import keyspace
from app.adapters.redis.client.scripts import SCAN_ROLLUP
from app.adapters.redis.codec import to_json
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.rollups import (
    Group,
    RollupCoverage,
    RollupLevel,
    RollupSpan,
    RollupView,
    UsageSums,
)

SPANS_AT_ONCE = 64
GROUPS_AT_ONCE = 500
"""How many groups one call to the store reads or writes, so that none keeps others waiting."""
POSITIONS = {RollupLevel.HOUR: "hours", RollupLevel.DAY: "days", RollupLevel.MONTH: "months"}
GroupSums = dict[Group, UsageSums]


@dataclass(frozen=True, slots=True)
class RollupState:
    """What there is to roll up. `epoch` is None in an empty store; `oldest_ms` and `newest_ms` are
    when the first and the last entry were written, 0 without any. `audited_ms` is when everything
    was compared last."""

    epoch: str | None
    quarantined: bool
    coverage: RollupCoverage
    oldest_ms: int
    newest_ms: int
    audited_ms: int


class RedisRollups:
    """Every method raises `LedgerUnavailable`."""

    def __init__(self, scripts: LedgerScripts) -> None:
        self._scripts = scripts

    async def coverage(self) -> RollupCoverage:
        return (await self.state()).coverage

    async def state(self) -> RollupState:
        found = await self._scripts.run("read_rollups")
        return RollupState(
            epoch=found.get("epoch"),
            quarantined=bool(found["quarantined"]),
            coverage=RollupCoverage(
                now_ms=found["now_ms"],
                from_ms=found["from"],
                hours_ms=found["hours"],
                days_ms=found["days"],
                months_ms=found["months"],
            ),
            oldest_ms=_written_ms(found.get("oldest")),
            newest_ms=_written_ms(found.get("newest")),
            audited_ms=found["audited"],
        )

    async def rows(
        self, spans: Sequence[RollupSpan], view: RollupView
    ) -> AsyncIterator[tuple[RollupSpan, Group, UsageSums]]:
        for start in range(0, len(spans), SPANS_AT_ONCE):
            some = spans[start : start + SPANS_AT_ONCE]
            asked = (self._read(keyspace.key("rollup", f"{_name(span)}:{view}")) for span in some)
            for span, row in zip(some, await asyncio.gather(*asked), strict=True):
                for group, sums in row.items():
                    yield span, tuple(orjson.loads(group)), UsageSums(*orjson.loads(sums))

    async def _read(self, key: str) -> dict[str, str]:
        """One hash, page by page; a page may repeat what an earlier one had."""
        found: dict[str, str] = {}
        cursor = "0"
        while True:
            cursor, flat = await self._scripts.command(
                SCAN_ROLLUP, key, cursor, "COUNT", GROUPS_AT_ONCE
            )
            found.update(zip(flat[::2], flat[1::2], strict=True))
            if str(cursor) == "0":
                return found

    async def save(
        self, state: RollupState, span: RollupSpan, sums: GroupSums, coverage: RollupCoverage
    ) -> bool:
        """Put a whole rollup in its place and advance its level to what `coverage` says; false when
        another process was faster."""
        ask: dict[str, Any] = {"epoch": state.epoch, "draft": secrets.token_hex(8)}
        pages = list(_pages(_by_view(sums))) or [{}]
        for page in pages[:-1]:
            if not await self._scripts.run("save_rollup", orjson.dumps({**ask, "rows": page})):
                return False
        finish = {
            "name": _name(span),
            "views": [view.value for view in RollupView],
            "keep_ms": span.expires_ms(),
            "level": POSITIONS[span.level],
            "before": state.coverage.until_ms(span.level),
            "after": coverage.until_ms(span.level),
            "from": coverage.from_ms,
        }
        last = orjson.dumps({**ask, "rows": pages[-1], "finish": finish})
        return bool(await self._scripts.run("save_rollup", last))


def _by_view(sums: GroupSums) -> dict[RollupView, GroupSums]:
    views: dict[RollupView, GroupSums] = {RollupView.ALL: sums}
    for view in (RollupView.CALLERS, RollupView.PICTURES):
        narrowed = views.setdefault(view, {})
        for group, amounts in sums.items():
            narrowed.setdefault(view.narrow(group), UsageSums()).add(amounts)
    return views


def _pages(views: Mapping[RollupView, GroupSums]) -> Iterator[dict[str, list[str]]]:
    """The rows of all views, so many in one page."""
    page: dict[str, list[str]] = {}
    count = 0
    for view, sums in views.items():
        for row in sums.items():
            page.setdefault(view.value, []).extend(_write_row(*row))
            count += 1
            if count % GROUPS_AT_ONCE == 0:
                yield page
                page = {}
    if page:
        yield page


def _write_row(group: Group, sums: UsageSums) -> tuple[str, str]:
    return to_json(group), to_json(sums.row)


def _name(span: RollupSpan) -> str:
    return f"{span.level}:{span.starts_ms}"


def _written_ms(entry_id: str | None) -> int:
    return int(entry_id.partition("-")[0]) if entry_id else 0
