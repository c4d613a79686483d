"""What `koi doctor` checks of closed months: their files are where the store says (decision 58)."""

from typing import TYPE_CHECKING

from app.adapters.journal.id_file import read_journal_id
from app.adapters.redis.closed_months import read_months
from app.domain.check_result import CheckResult, fail, ok
from app.wiring.stores import journal_directory

if TYPE_CHECKING:
    from app.adapters.redis.ledger_scripts import LedgerScripts
    from app.settings import Settings

CHECK = "closed months"


async def check_months(scripts: "LedgerScripts", settings: "Settings") -> list[CheckResult]:
    """Nothing while all entries are in the store. Raises `LedgerUnavailable`."""
    moved = (await read_months(scripts)).moved
    if not moved:
        return []
    directory = journal_directory(settings)
    own = read_journal_id(directory)
    gone = [m for m in moved if own in m.journals and not scripts.months.holds(m.month)]
    if not gone:
        entries = sum(stored.month.entries for stored in moved)
        return [ok(CHECK, f"{entries:,} entries of {len(moved)} months are in files")]
    named = ", ".join(stored.month.file_name for stored in gone)
    return [
        fail(
            CHECK,
            f"{named} is gone from {directory}: the store no longer holds these entries",
            "Put it back from a backup of this directory, or copy another gateway's.",
        )
    ]
