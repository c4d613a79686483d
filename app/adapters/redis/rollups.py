"""The `Rollups` on Redis: one string for each span and view, written whole."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from app.adapters.redis import keyspace
from app.adapters.redis.client.scripts import NOTE_AUDIT, READ_ROLLUP
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.rollup_sums import (
    AS_ALL,
    GroupSums,
    by_month,
    pack,
    split_by_view,
    sum_hours,
    total_of,
    unpack,
)
from app.domain.rollups import (
    DAY_MS,
    NOT_ATTRIBUTED,
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
WITHOUT_ROWS = (None, "", AS_ALL)
POSITIONS = {RollupLevel.HOUR: "hours", RollupLevel.DAY: "days", RollupLevel.MONTH: "months"}


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
                attributed_ms=found.get("attributed", max(found["hours"] - DAY_MS, 0)),
            ),
            oldest_ms=_written_ms(found.get("oldest")),
            newest_ms=_written_ms(found.get("newest")),
            audited_ms=found["audited"],
        )

    async def rows(
        self, spans: Sequence[RollupSpan], view: RollupView
    ) -> AsyncIterator[tuple[RollupSpan, Group, UsageSums]]:
        coverage = await self.coverage() if view is RollupView.ATTRIBUTED and spans else None
        for start in range(0, len(spans), SPANS_AT_ONCE):
            some = spans[start : start + SPANS_AT_ONCE]
            asked = (self._read(span, view) for span in some)
            for span, text in zip(some, await asyncio.gather(*asked), strict=True):
                if coverage is not None and text in WITHOUT_ROWS:
                    for group, sums in (await self._attribute(span, text, coverage)).items():
                        yield span, group, sums
                    continue
                for number, (names, amounts) in enumerate(unpack(text)):
                    if number % ROWS_AT_ONCE == ROWS_AT_ONCE - 1:
                        await asyncio.sleep(0)
                    yield span, tuple(names), UsageSums(*amounts)

    async def is_attributed(self, span: RollupSpan) -> bool:
        """Whether a gateway that knows attributions made it."""
        return bool(await self._read(span, RollupView.ATTRIBUTED))

    async def _read(self, span: RollupSpan, view: RollupView) -> str | None:
        text: str | None = await self._scripts.command(
            READ_ROLLUP, keyspace.key("rollup", _key(span, view))
        )
        return text

    async def _attribute(
        self, span: RollupSpan, text: str | None, coverage: RollupCoverage
    ) -> GroupSums:
        """A rollup by everything where it is as the one by all that every job has; otherwise an
        earlier version made it, and it is made again from its parts, or from its entries."""
        rows = [row async for row in self.rows([span], RollupView.ALL)]
        sums = {(*group, *NOT_ATTRIBUTED): amounts for _, group, amounts in rows}
        if text == AS_ALL or not sums or span.ends_ms <= coverage.attributed_ms:
            return sums
        parts = [] if span.level is RollupLevel.HOUR else span.parts()
        if parts and all(map(coverage.has, parts)):
            rows = [row async for row in self.rows(parts, RollupView.ATTRIBUTED)]
            made = total_of({group: amounts} for _, group, amounts in rows)
        else:
            hours = await sum_hours(self._scripts, span.starts_ms, span.ends_ms)
            made = total_of(hours.values())
        return by_month(made) if span.level is RollupLevel.MONTH else made

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
                packed[_key(span, view)] = await asyncio.to_thread(pack, narrowed, view)
        before = state.coverage
        ask = {
            "epoch": state.epoch,
            "keys": list(packed),
            "from": coverage.from_ms,
            "attributed": coverage.attributed_ms,
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


def _key(span: RollupSpan, view: RollupView) -> str:
    return f"{span.level}:{span.starts_ms}:{view}"


def _written_ms(entry_id: str | None) -> int:
    return int(entry_id.partition("-")[0]) if entry_id else 0
