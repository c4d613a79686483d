"""The open jobs and counters of one moment of the ledger, read in pages that hold up nobody."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from app.adapters.redis.codec import EntryId, Record, entry_id
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.replies import Fields
from app.domain.errors import LedgerUnavailable
from app.domain.job import OPEN_STATES

JOB_PAGE, COUNTER_PAGE = 100, 500
MAX_TRIES = 5
JOB_FIELDS = ("state", "n", "unit", "day", "month", "key", "user", "team")


@dataclass(slots=True)
class AuditScan:
    """Open jobs by id; scope key -> counters, by window; and of the same moment, the newest entry
    and what is counted of all open jobs together."""

    jobs: dict[str, Record] = field(default_factory=dict)
    windows: dict[str, dict[str, list[int]]] = field(default_factory=lambda: defaultdict(dict))
    labels: list[str] = field(default_factory=list)
    last_entry: EntryId = (0, 0)
    open_counts: Fields = field(default_factory=dict)

    def lay(self, page: Fields) -> None:
        """Lay a page of `audit_page.lua` over the earlier ones."""
        for id, *values in page["jobs"]:
            job = {name: text for name, text in zip(JOB_FIELDS, values, strict=True) if text}
            if job.get("state") in OPEN_STATES:
                self.jobs[id] = job
            else:
                self.jobs.pop(id, None)
        for label, scope_key, packed in page["counters"]:
            if packed:
                self.windows[label][scope_key] = [int(number) for number in packed.split()]
        self.labels, self.open_counts = page["labels"], page["open"]
        self.last_entry = entry_id(page.get("last_entry") or "0-0")


async def scan_ledger(scripts: LedgerScripts) -> AuditScan:
    """Raises `LedgerUnavailable`, also when the ledger changes faster than it can be read."""
    for _ in range(MAX_TRIES):
        scan = await _try_scan(scripts)
        if scan is not None:
            return scan
    raise LedgerUnavailable("The ledger changes too fast to be audited now.")


async def _try_scan(scripts: LedgerScripts) -> AuditScan | None:
    """None when more changed between two pages than the store remembers."""
    scan = AuditScan()
    page: Any = {"seq": "", "next": "0"}
    unread = ["jobs"]
    while unread or page["behind"]:
        what = unread[0] if unread else ""
        rows = JOB_PAGE if what == "jobs" else COUNTER_PAGE
        page = await scripts.run("audit_page", page["seq"], what, page["next"], rows)
        if "lost" in page:
            return None
        scan.lay(page)
        if unread and page["next"] == "0":
            unread.pop(0)
            if what == "jobs":
                unread = list(scan.labels)
    return scan
