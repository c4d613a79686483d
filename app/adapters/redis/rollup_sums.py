"""What entries add up to by group: added up, narrowed, and written as rollups are stored."""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable

import orjson

from app.adapters.redis.codec import Record, read_entry
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.rollups import (
    KNOWN_OF_ALL,
    NOT_ATTRIBUTED,
    Group,
    RollupLevel,
    RollupSpan,
    RollupView,
    UsageSums,
    group_entry,
    spans_between,
    sum_entry,
)

GroupSums = dict[Group, UsageSums]
AS_ALL = "="
"""Stands for a rollup by everything in which nothing is attributed: it is as the one by `ALL`."""
KNOWN = len(KNOWN_OF_ALL)


async def sum_hours(
    scripts: LedgerScripts, since_ms: int, until_ms: int
) -> dict[RollupSpan, GroupSums]:
    """What the entries of each of these hours add up to. Raises `LedgerUnavailable`."""
    hours: dict[RollupSpan, GroupSums] = {
        hour: {} for hour in spans_between(RollupLevel.HOUR, since_ms, until_ms)
    }
    async for id, row in scripts.entries(str(since_ms), str(until_ms - 1)):
        written_ms = int(id.partition("-")[0])
        _add_row(hours[RollupSpan.around(RollupLevel.HOUR, written_ms)], id, row)
    return hours


def _add_row(sums: GroupSums, id: str, row: Record) -> None:
    entry = read_entry(id, row)
    sums.setdefault(group_entry(entry), UsageSums()).add(sum_entry(entry))


def total_of(parts: Iterable[GroupSums]) -> GroupSums:
    """What all of them add up to, by the same groups."""
    whole: GroupSums = {}
    for part in parts:
        add_sums(whole, part)
    return whole


def add_sums(whole: GroupSums, part: GroupSums) -> None:
    for group, sums in part.items():
        whole.setdefault(group, UsageSums()).add(sums)


def by_month(sums: GroupSums) -> GroupSums:
    """The same sums by the month instead of the day."""
    found: GroupSums = {}
    for (day, *rest), amounts in sums.items():
        group = ((day or "")[: len("2026-11")], *rest)
        found.setdefault(group, UsageSums()).add(amounts)
    return found


def split_by_view(sums: GroupSums) -> dict[RollupView, GroupSums]:
    """Sums grouped by everything, in every view."""
    views: dict[RollupView, GroupSums] = {RollupView.ATTRIBUTED: sums}
    for view in (RollupView.CALLERS, RollupView.PICTURES, RollupView.ALL):
        narrowed = views.setdefault(view, {})
        for group, amounts in sums.items():
            narrowed.setdefault(view.narrow(group), UsageSums()).add(amounts)
    return views


def pack(sums: GroupSums, view: RollupView) -> str:
    """Groups and sums as compressed JSON in ASCII: the connection to the store carries text."""
    if not sums:
        return ""
    if view is RollupView.ATTRIBUTED and all(group[KNOWN:] == NOT_ATTRIBUTED for group in sums):
        return AS_ALL
    rows = [(group, amounts.row) for group, amounts in sums.items()]
    return b64encode(zlib.compress(orjson.dumps(rows))).decode()


def unpack(text: str | None) -> list[tuple[list[str | None], list[int]]]:
    return orjson.loads(zlib.decompress(b64decode(text))) if text else []
