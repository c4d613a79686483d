"""What one look at the provider says about the parts of a job, and when it is the last word."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from app.domain.errors import Proof, UpstreamError
from app.domain.job import Doubt, DoubtKind, Part, PartResult
from app.domain.ledger import Claim
from app.domain.upstream import Running
from app.service.collect import Downloads
from app.service.jobs import Pace

DOUBTS = 5
"""So many polls in a row must speak against a task, over minutes, before they are believed: a
provider may not know a task right after it was submitted, or for a while later on."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A part after one look at the provider."""

    part: Part
    running: Running | None = None
    retry_after_s: float | None = None
    doubt: Doubt | None = None
    assured: bool = False
    """Its task answered well after polls that spoke against it."""
    coming: Downloads | None = None


def doubted(claim: Claim, part: Part, kind: DoubtKind, pace: Pace) -> Seen:
    """One more poll that speaks against a task: it ends only when several over minutes do."""
    before = part.doubt
    if before is None or before.kind is not kind:
        before = Doubt(kind, 0, claim.now_ms)
    doubt = replace(before, polls=before.polls + 1)
    long_ms = pace.empty_ms if kind is DoubtKind.EMPTY else pace.doubted_ms
    if doubt.polls >= DOUBTS and claim.now_ms - doubt.since_ms >= long_ms:
        return Seen(replace(part, result=lost_task(kind)))
    return Seen(part, doubt=doubt)


def silent(part: Part) -> Part:
    if part.result is not None:
        return part
    error = UpstreamError(
        "upstream_timeout", "The provider did not answer in time.", proof=Proof.UNKNOWN
    )
    return replace(part, result=PartResult(failure=error.note, proof=error.proof))


def given_up(look: Seen) -> Part:
    """A part whose time is over, with what its task said last."""
    doubt = look.doubt or look.part.doubt
    if look.part.result is None and doubt is not None:
        return replace(look.part, result=lost_task(doubt.kind))
    return silent(look.part)


def lost_task(kind: DoubtKind) -> PartResult:
    if kind is DoubtKind.EMPTY:
        code, message = "empty_result", "The provider answered without an image."
    else:
        code, message = "task_expired", "The provider no longer knows this task."
    error = UpstreamError(code, message, proof=Proof.UNKNOWN)
    return PartResult(failure=error.note, proof=error.proof)


def doubts(seen: Sequence[Seen]) -> dict[int, DoubtKind | None]:
    """What this look said against parts, by index; None where a part's task answered well."""
    told = ((index, look) for index, look in enumerate(seen) if look.doubt or look.assured)
    return {index: look.doubt.kind if look.doubt else None for index, look in told}


def coming_of(seen: Sequence[Seen]) -> Mapping[int, Downloads]:
    return {index: look.coming for index, look in enumerate(seen) if look.coming is not None}
