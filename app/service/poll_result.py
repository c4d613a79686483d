"""What one poll says about the parts of a job, and when several of them are believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.domain.errors import BillingEvidence, UpstreamError
from app.domain.job import JobPart, PartResult, PollAnomaly, PollAnomalyKind
from app.domain.ledger import JobClaim
from app.domain.upstream import TaskPending
from app.service.downloads import PartDownloads
from app.service.timings import JobTimings

MAYBE_BILLED = "it may have billed an image, so nothing is sent again."

MIN_ANOMALOUS_POLLS = 5
"""How many polls in a row must speak against a task, over minutes, before they are believed. A
provider may not know a task right after it was submitted, or for a while later on."""


@dataclass(frozen=True, slots=True)
class PollResult:
    """A part after one poll."""

    part: JobPart
    running: TaskPending | None = None
    retry_after_s: float | None = None
    anomaly: PollAnomaly | None = None
    is_cleared: bool = False
    """The task gave a good answer after polls that spoke against it."""
    downloads: PartDownloads | None = None


def count_anomaly(
    claim: JobClaim, part: JobPart, kind: PollAnomalyKind, timings: JobTimings
) -> PollResult:
    """Count one more poll that speaks against a task; the part ends when enough of them did."""
    before = part.anomaly
    if before is None or before.kind is not kind:
        before = PollAnomaly(kind, 0, claim.now_ms)
    anomaly = replace(before, polls=before.polls + 1)
    long_ms = timings.empty_task_ms if kind is PollAnomalyKind.EMPTY else timings.missing_task_ms
    if anomaly.polls >= MIN_ANOMALOUS_POLLS and claim.now_ms - anomaly.since_ms >= long_ms:
        return PollResult(replace(part, result=lost_task_result(kind)))
    return PollResult(part, anomaly=anomaly)


def time_out(part: JobPart) -> JobPart:
    if part.result is not None:
        return part
    error = UpstreamError(
        "upstream_timeout", "The provider did not answer in time.", proof=BillingEvidence.UNKNOWN
    )
    return replace(part, result=PartResult(failure=error.note, proof=error.proof))


def give_up(look: PollResult) -> JobPart:
    """End a part whose time is over, by what its task said last."""
    anomaly = look.anomaly or look.part.anomaly
    if look.part.result is None and anomaly is not None:
        return replace(look.part, result=lost_task_result(anomaly.kind))
    return time_out(look.part)


def lost_task_result(kind: PollAnomalyKind) -> PartResult:
    if kind is PollAnomalyKind.EMPTY:
        code, message = "empty_result", f"The provider answered without an image; {MAYBE_BILLED}"
    else:
        code, message = "task_expired", f"The provider no longer knows this task; {MAYBE_BILLED}"
    error = UpstreamError(code, message, proof=BillingEvidence.UNKNOWN)
    return PartResult(failure=error.note, proof=error.proof)


def anomalies(seen: Sequence[PollResult]) -> dict[int, PollAnomalyKind | None]:
    """What these polls said against parts, by index; None where a task gave a good answer."""
    told = ((index, look) for index, look in enumerate(seen) if look.anomaly or look.is_cleared)
    return {index: look.anomaly.kind if look.anomaly else None for index, look in told}


def downloads_by_part(seen: Sequence[PollResult]) -> Mapping[int, PartDownloads]:
    return {index: look.downloads for index, look in enumerate(seen) if look.downloads is not None}
