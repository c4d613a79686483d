"""Places and turns at the provider belong to open jobs.

They are given back with a job's settlement. A process that died in between, or whose word was lost,
leaves them behind: the ledger knows which jobs are over, so whatever those still hold is freed.
"""

from dataclasses import dataclass

from app.domain.ports import Governor, Ledger


@dataclass(frozen=True, slots=True)
class Places:
    ledger: Ledger
    governor: Governor

    async def reconcile(self) -> int:
        """Free what jobs that are over still hold; how many there were.

        Raises `LedgerUnavailable`: what is not known to be over keeps what it has.
        """
        holders = await self.governor.holders()
        if not holders:
            return 0
        active = await self.ledger.active([holder.job_id for holder in holders])
        over = [holder for holder in holders if holder.job_id not in active]
        for holder in over:
            await self.governor.withdraw(holder.job_id, holder.calls)
        return len(over)
