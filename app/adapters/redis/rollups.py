"""The `Rollups` on Redis: one string for each span and view, written whole."""

import asyncio
import zlib
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from app.adapters.redis import keyspace
from app.adapters.redis.client.scripts import NOTE_AUDIT, READ_ROLLUP
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
ROWS_AT_ONCE = 500
"""How many groups are read before others in this process have a turn."""
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
            keys = (keyspace.key("rollup", _key(span, view)) for span in some)
            asked = (self._scripts.command(READ_ROLLUP, key) for key in keys)
            for span, text in zip(some, await asyncio.gather(*asked), strict=True):
                for number, (group, amounts) in enumerate(_unpack(text)):
                    if number % ROWS_AT_ONCE == ROWS_AT_ONCE - 1:
                        await asyncio.sleep(0)
                    yield span, tuple(group), UsageSums(*amounts)

    async def note_audit(self, at_ms: int) -> None:
        """Remember that everything is compared now."""
        await self._scripts.command(NOTE_AUDIT, keyspace.key("rollups"), "audited", at_ms)

    async def save(
        self, state: RollupState, made: Mapping[RollupSpan, GroupSums], coverage: RollupCoverage
    ) -> bool:
        """Put whole rollups in their place and advance to `coverage`; false when another process
        was faster."""
        packed = {}
        for span, sums in made.items():
            for view, narrowed in split_by_view(sums).items():
                packed[_key(span, view)] = await asyncio.to_thread(_pack, narrowed)
        before = state.coverage
        ask = {
            "epoch": state.epoch,
            "keys": list(packed),
            "from": coverage.from_ms,
            "advance": {
                word: [before.until_ms(level), coverage.until_ms(level)]
                for level, word in POSITIONS.items()
                if before.until_ms(level) != coverage.until_ms(level)
            },
            "expire": {
                _key(span, view): span.expires_ms()
                for whole in made
                for span in _superseded(whole)
                for view in RollupView
            },
        }
        return bool(await self._scripts.run("save_rollup", orjson.dumps(ask), *packed.values()))


def _superseded(span: RollupSpan) -> list[RollupSpan]:
    """What is not needed for other rollups any more once this one is made."""
    if span.level is RollupLevel.HOUR:
        return []
    return [*span.parts(), *([span] if span.level is RollupLevel.MONTH else [])]


def split_by_view(sums: GroupSums) -> dict[RollupView, GroupSums]:
    """Sums grouped by everything, in every view."""
    views: dict[RollupView, GroupSums] = {RollupView.ALL: sums}
    for view in (RollupView.CALLERS, RollupView.PICTURES):
        narrowed = views.setdefault(view, {})
        for group, amounts in sums.items():
            narrowed.setdefault(view.narrow(group), UsageSums()).add(amounts)
    return views


def _pack(sums: GroupSums) -> str:
    """Groups and sums as compressed JSON in ASCII: the connection to the store carries text."""
    if not sums:
        return ""
    rows = [(group, amounts.row) for group, amounts in sums.items()]
    return b64encode(zlib.compress(orjson.dumps(rows))).decode()


def _unpack(text: str | None) -> list[tuple[list[str | None], list[int]]]:
    return orjson.loads(zlib.decompress(b64decode(text))) if text else []


def _key(span: RollupSpan, view: RollupView) -> str:
    return f"{span.level}:{span.starts_ms}:{view}"


def _written_ms(entry_id: str | None) -> int:
    return int(entry_id.partition("-")[0]) if entry_id else 0
