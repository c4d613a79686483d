"""The provider's bills, compared by a running gateway."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from app.adapters.redis.keyring import RedisKeyRing
from app.adapters.redis.ledger import RedisLedger
from app.domain.calendar import Calendar
from app.domain.catalog import Catalog
from app.domain.ledger import Entry
from app.service.operations import BillRequest, BillUnreadable

MAX_LINES = 100_000
MAX_SHOWN = 1_000
"""Lines of each list in an answer."""


class UploadedBills:
    """`app.service.operations.Bills` over the code of `koi ledger import-bill`."""

    def __init__(
        self, ledger: RedisLedger, keyring: RedisKeyRing, catalog: Catalog, calendar: Calendar
    ) -> None:
        self._ledger, self._keyring = ledger, keyring
        self._catalog, self._calendar = catalog, calendar
        self._is_comparing = False

    async def compare(
        self, bill: BillRequest, enter: Callable[[Entry], Awaitable[Entry]]
    ) -> Mapping[str, object]:
        if self._is_comparing:
            raise BillUnreadable("Another bill is being compared here; try again in a minute.")
        if bill.content.count(b"\n") > MAX_LINES:
            raise BillUnreadable(
                f"A bill of more than {MAX_LINES:,} lines is for the command line."
            )
        self._is_comparing = True
        try:
            return await self._compare(bill, enter)
        finally:
            self._is_comparing = False

    async def _compare(
        self, bill: BillRequest, enter: Callable[[Entry], Awaitable[Entry]]
    ) -> Mapping[str, object]:
        from app.reconcile import compare, csv_text, report  # noqa: PLC0415 - once a month

        zone, now_ms = self._calendar.zone, await self._keyring.now_ms()
        comparison = compare.BillComparison(self._ledger, self._catalog, zone, now_ms)
        within_ms = compare.DEFAULT_WITHIN_MS if bill.within_ms is None else bill.within_ms
        scope = compare.BillScope(
            bill.since_ms, bill.until_ms, within_ms, bill.capability, bill.provider
        )
        with tempfile.NamedTemporaryFile(prefix="koi-bill-") as file:
            file.write(bill.content)
            file.flush()
            path = Path(file.name)
            try:
                found = await comparison.compare(path, bill.name, scope)
            except csv_text.NotABill as error:
                raise BillUnreadable(str(error).replace(str(path), bill.name)) from None
        if bill.apply_jobs is None or bill.apply_jobs:
            await compare.enter_corrections(found, enter, bill.apply_jobs)
        described = await asyncio.to_thread(report.describe_report, found, self._catalog.currency)
        return {
            **{name: _cut(value) for name, value in described.items()},
            "left_out": sum(
                len(value) - MAX_SHOWN
                for value in described.values()
                if isinstance(value, list) and len(value) > MAX_SHOWN
            ),
            "may_correct": found.may_correct,
            "open_corrections": found.open_adjustments,
        }


def _cut(value: object) -> object:
    return value[:MAX_SHOWN] if isinstance(value, list) else value
