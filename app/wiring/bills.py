"""The provider's bills, compared by a running gateway."""

import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from app.adapters.redis.keyring import RedisKeyRing
from app.adapters.redis.ledger import RedisLedger
from app.domain.calendar import Calendar
from app.domain.catalog import Catalog
from app.domain.ledger import Entry
from app.service.operations import BillRequest, BillUnreadable


class UploadedBills:
    """`app.service.operations.Bills` over the code of `koi ledger import-bill`."""

    def __init__(
        self, ledger: RedisLedger, keyring: RedisKeyRing, catalog: Catalog, calendar: Calendar
    ) -> None:
        self._ledger, self._keyring = ledger, keyring
        self._catalog, self._calendar = catalog, calendar

    async def compare(
        self, bill: BillRequest, enter: Callable[[Entry], Awaitable[Entry]]
    ) -> Mapping[str, object]:
        from app.reconcile import compare, csv_text, report  # noqa: PLC0415 - once a month

        zone, now_ms = self._calendar.zone, await self._keyring.now_ms()
        comparison = compare.BillComparison(self._ledger, self._catalog, zone, now_ms)
        within_ms = compare.DEFAULT_WITHIN_MS if bill.within_ms is None else bill.within_ms
        scope = compare.BillScope(bill.since_ms, bill.until_ms, within_ms, bill.capability)
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
        return {
            **report.describe_report(found, self._catalog.currency),
            "may_correct": found.may_correct,
            "open_corrections": found.open_adjustments,
        }
