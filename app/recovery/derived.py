"""What a rebuild derives from entries and jobs: counters of windows, owners of pictures."""

from collections.abc import Iterator, Sequence
from typing import Any

from app.adapters.redis.codec import (
    Record,
    flatten,
    read_late_pictures,
    to_json,
)
from app.adapters.redis.counter_totals import CounterTotals
from app.adapters.redis.ledger_scripts import LedgerScripts
from app.adapters.redis.picture_records import pictures_of
from app.adapters.redis.request_days import window_kept_until_ms
from app.domain.principal import LEFT, TEAM_POOL
from app.domain.rebuild import RetentionTerms
from app.recovery.charges import Charges

BATCH_SIZE = 200


def chunks(things: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(things), BATCH_SIZE):
        yield things[start : start + BATCH_SIZE]


def deleted_names(job: Record) -> frozenset[str]:
    """The pictures that the job's user deleted."""
    return frozenset(job.get("deleted", "").split())


def owner_rows(job: Record, terms: RetentionTerms) -> Iterator[dict[str, Any]]:
    """Whose each of a job's pictures is. A deleted one is nobody's, or its team's only."""
    user, pool, deleted = job["user"], job["pool"], deleted_names(job)
    left = [f"{LEFT}{user}", pool] if pool.startswith(TEAM_POOL) else ["", ""]
    pictures = [*pictures_of(job), *read_late_pictures(job)]
    names = [picture.name for picture in pictures]
    since_ms = int(job.get("ended") or job.get("collecting") or job["created"])
    for name in names:
        record = to_json(left if name in deleted else [user, pool])
        yield {"picture": name, "record": record, "expires": since_ms + terms.image_ms}


def window_rows(
    charges: Charges,
    open_jobs: Sequence[Record],
    scripts: LedgerScripts,
    now_ms: int,
) -> Iterator[dict[str, Any]]:
    """The counters of each window that is still kept."""
    sums = charges.totals()
    for job in open_jobs:
        for label in (job["day"], job["month"]):
            sums.setdefault(label, CounterTotals()).add_open_job(job)
    for label, window in sums.items():
        keep = window_kept_until_ms(label, scripts.calendar)
        sums_by_scope = window.by_scope_key.items()
        rows = [(scope_key, " ".join(map(str, row))) for scope_key, row in sums_by_scope]
        for some in chunks(rows) if keep > now_ms else ():
            yield {"label": label, "rows": flatten(dict(some)), "keep": keep}
