"""How a job comes back into the store: what it holds, when it is due, and how long it is kept."""

from collections.abc import Mapping
from typing import Any

from app.adapters.redis.codec import (
    Record,
    drop_finished_images,
    flatten,
    has_pending_images,
)
from app.domain.job import OPEN_STATES
from app.domain.rebuild import RetentionTerms

IDEMPOTENCY_TTL_MS = 86_400_000
DETAILS = ("result:", "doubt:", "denied:")
"""What only an open job needs; the scripts drop it at the end, too."""
EPOCH_FIELDS = frozenset({"claims", "seq", "sent", "over", "shift", "tied"})


def job_row(job: Record, terms: RetentionTerms, now_ms: int) -> dict[str, Any]:
    ended = int(job.get("ended", job["created"]))
    shown = job.get("status") == "completed"
    kept_ms = max(terms.task_ms, terms.image_ms) if shown else terms.task_ms
    lives = max(kept_ms, IDEMPOTENCY_TTL_MS if "replay" in job else 0)
    row: dict[str, Any] = {"id": job["id"], "fields": flatten(job)}
    row["expires"] = (now_ms if job["state"] in OPEN_STATES else ended) + lives
    if job["state"] in OPEN_STATES:
        due = _due_ms(job, terms, now_ms)
        row["due"] = min(max(due, now_ms), now_ms + _max_due_ms(job, terms))
        if job["state"] == "R" and due <= now_ms:
            # A process may have claimed it and be about to release it: it must never be sent.
            row["fields"] += ["claims", "1"]
    elif has_pending_images(job):
        row["collect"], row["expires"] = now_ms, now_ms + lives
    return row


def needs_attention(row: Mapping[str, Any]) -> bool:
    """It is kept even when it has expired: it must still be finished."""
    return "due" in row or "collect" in row


def restore_order(job: Record) -> tuple[int, bool]:
    """The job an Idempotency-Key was bound to last is restored last, after those it gave up."""
    return int(job.get("bound", job["created"])), job["state"] != "X"


def _due_ms(job: Record, terms: RetentionTerms, now_ms: int) -> int:
    """When an open job is due, as if it had never been lost."""
    if job["state"] == "R":
        return int(job["created"]) + terms.reserved_ms
    if job["state"] == "U":
        return int(job["ended"]) + terms.hold_ms
    if any(field.startswith("upstream:") for field in job):
        return now_ms
    return int(job["dispatched"]) + terms.silence_ms


def _max_due_ms(job: Record, terms: RetentionTerms) -> int:
    """How far off its due time can be: the clock may have been set back since it was written."""
    longest = {"R": terms.reserved_ms, "U": terms.hold_ms}
    return longest.get(job["state"], terms.silence_ms)


def drop_stale_fields(job: Record) -> Record:
    """Without fields that were taken away, and without numbers of the epoch that is over."""
    kept = {field: text for field, text in job.items() if text != "" and field not in EPOCH_FIELDS}
    kept = drop_finished_images(kept)
    over = job["state"] not in OPEN_STATES and not has_pending_images(kept)
    stale = ("told:", *(DETAILS if over else ()))
    kept = {field: text for field, text in kept.items() if not field.startswith(stale)}
    return kept | ({"entry": f"{kept['entry'].partition(' ')[0]} 0"} if "entry" in kept else {})
