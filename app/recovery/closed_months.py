"""Months whose entries left the store must be among those that a rebuild puts back."""

from bisect import bisect_left
from collections.abc import Iterable

from app.adapters.redis.closed_months import find_places, read_months
from app.adapters.redis.codec import entry_id
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.domain.rebuild import RebuildRefused


async def check_months(scripts: LedgerScripts, entries: Iterable[str]) -> None:
    """Raises `RebuildRefused` when a file of a closed month was not given: afterwards nothing would
    tell that its entries are missing."""
    moved = (await read_months(scripts)).moved
    if not moved:
        return
    written = sorted(entry_id(id)[0] for id in entries)
    for stored in moved:
        month = stored.month
        found = bisect_left(written, month.ends_ms) - bisect_left(written, month.starts_ms)
        if found < month.entries:
            raise RebuildRefused(
                f"The entries of {month.label} left the store, and their file {month.file_name} "
                f"was not given: it is in {await find_places(scripts, stored)}. Name that journal, "
                "too (--journal), or copy the file into this machine's. Nothing was changed."
            )
