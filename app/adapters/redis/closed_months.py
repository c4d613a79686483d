"""What the store knows of months whose entries left it (decision 58)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import orjson

from app.adapters.redis.records import read_journal
from app.domain.closed_months import ClosedMonth

if TYPE_CHECKING:
    from app.adapters.redis.ledger_scripts import LedgerScripts

TRIMMED_AT_ONCE = 200
"""Entries that one script takes out: a millisecond or two."""


@dataclass(frozen=True, slots=True)
class StoredMonth:
    """`journals` are the ids of those whose directories hold the file."""

    month: ClosedMonth
    journals: Sequence[str]


@dataclass(frozen=True, slots=True)
class MonthsState:
    """Entries written before `upto_ms` are read from files; there may be some of them in the stream
    still. `months` are in order; those after `upto_ms` are in the stream, too."""

    epoch: str | None
    quarantined: bool
    upto_ms: int
    months: Sequence[StoredMonth]
    now_ms: int

    @property
    def moved(self) -> list[StoredMonth]:
        return [stored for stored in self.months if stored.month.ends_ms <= self.upto_ms]


async def read_months(scripts: "LedgerScripts") -> MonthsState:
    """Raises `LedgerUnavailable`."""
    found = await scripts.run("read_months")
    known = {field.name for field in fields(ClosedMonth)}
    months = []
    for _, text, journals in found["months"]:
        row = {name: value for name, value in orjson.loads(text).items() if name in known}
        months.append(StoredMonth(ClosedMonth(**row), journals.split()))
    months.sort(key=lambda stored: stored.month.starts_ms)
    return MonthsState(
        epoch=found.get("epoch"),
        quarantined=bool(found["quarantined"]),
        upto_ms=found["upto"],
        months=months,
        now_ms=found["now_ms"],
    )


async def find_places(scripts: "LedgerScripts", stored: StoredMonth) -> str:
    """Where the month's file is, for a person. Raises `LedgerUnavailable`."""
    known = {row.id: row for row in map(read_journal, await scripts.records("journals"))}
    places = (known[id].location if id in known else id for id in stored.journals)
    return " and in ".join(places)


async def save_month(
    scripts: "LedgerScripts", epoch: str, month: ClosedMonth, journal: str, live_ms: int
) -> Sequence[str] | None:
    """Note that a journal's directory holds the month. The journals that are still waited for; None
    when it does not count. Raises `LedgerUnavailable`."""
    ask = {
        "epoch": epoch,
        "label": month.label,
        "record": orjson.dumps(asdict(month)).decode(),
        "digest": month.digest,
        "starts": month.starts_ms,
        "ends": month.ends_ms,
        "journal": journal,
        "live_ms": live_ms,
    }
    found = await scripts.run("save_month", orjson.dumps(ask))
    return list(found["waiting"]) if found["saved"] else None


async def trim_entries(scripts: "LedgerScripts", epoch: str) -> int | None:
    """Take some entries out of the stream: how many, None when the store's user may not. Raises
    `LedgerUnavailable`."""
    found = await scripts.run("trim_entries", epoch, TRIMMED_AT_ONCE)
    return None if "denied" in found else int(found["trimmed"])
