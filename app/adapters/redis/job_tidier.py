"""Makes records of jobs that ended long ago small (decision 59)."""

from datetime import timedelta

from app.adapters.redis.ledger_scripts import LedgerScripts

TIDY_AFTER = timedelta(days=2)
"""Repeats, late reports and Idempotency-Keys are over by then."""
ENTRIES_AT_ONCE = 25


class JobTidier:
    """`kept`: how long records of jobs are kept. Every process may do this at any time."""

    def __init__(self, scripts: LedgerScripts, kept: timedelta) -> None:
        self._scripts, self._kept = scripts, kept

    async def step(self, after: timedelta = TIDY_AFTER) -> bool:
        """Tidy the jobs of some more entries; false when there are none. Raises
        `LedgerUnavailable`."""
        position = self._scripts.position
        if position is None:
            return False
        now_ms = await self._scripts.now_ms()
        first_ms, last_ms = (now_ms - _ms(span) for span in (self._kept + after, after))
        found = await self._scripts.run(
            "tidy_jobs", position.epoch, first_ms, last_ms, ENTRIES_AT_ONCE
        )
        return bool(found["read"])


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
