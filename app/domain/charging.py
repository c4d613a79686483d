"""The rules of money: what a finished job costs, given how its parts ended.

The rules keep I5 (what is metered equals the bill), I6 (no release without evidence) and I7 (no
charge above what was asked for), see decision 29. They need no store, so that they can be read
and tested alone.
"""

from collections.abc import Sequence
from dataclasses import replace

from app.domain.errors import BillingEvidence, FailureNote
from app.domain.job import JobPart, JobState, Outcome, PartResult

IMAGE_UNAVAILABLE = FailureNote(
    "image_unavailable",
    "The provider made the image but it could not be fetched; it was charged.",
    charged=True,
)


def compute_outcome(parts: Sequence[JobPart]) -> Outcome:
    """The outcome of a job all of whose parts have ended.

    * A part that made m of n images is charged m, downloaded or not. Images beyond n are surplus,
      charged to the house.
    * A part that failed with evidence P0 to P2 is free; with P3 it is presumed billed in full.
    * A job with no other evidence than P3 stays UNKNOWN (held), so that late evidence can still
      release it. Next to a delivered part the ambiguous part is presumed billed at once, because
      the answer and its settlement must be one write (I13).
    """
    ended = [(part, part.result) for part in parts if part.result is not None]
    if len(ended) != len(parts):
        raise ValueError("a job is concluded when every part has ended")
    made = sum(min(result.images, part.n) for part, result in ended)
    surplus = sum(max(result.images - part.n, 0) for part, result in ended)
    pictures = tuple(p for part, result in ended for p in result.pictures[: part.n])
    pending = tuple(image for _, result in ended for image in result.pending)
    ambiguous = sum(part.n for part, result in ended if result.proof is BillingEvidence.UNKNOWN)
    failures = [result for _, result in ended if result.failure is not None]
    calls = call_ids_of(parts)
    if made == 0 and ambiguous == 0:
        return _released(failures, surplus, calls)
    if made == 0:
        failure = _weightiest(failures)
        return Outcome(
            JobState.UNKNOWN, proof=BillingEvidence.UNKNOWN, failure=failure.failure, calls=calls
        )
    return Outcome(
        JobState.SETTLED,
        pictures=pictures,
        billed=made + ambiguous,
        presumed=ambiguous,
        surplus=surplus,
        failure=None if pictures or pending else _undeliverable(failures),
        calls=calls,
        pending=pending,
    )


def assume_billed(outcome: Outcome, n: int) -> Outcome:
    """The outcome of an UNKNOWN job that nothing decided in time: presumed billed in full."""
    return replace(
        outcome, state=JobState.SETTLED, billed=n, presumed=n, proof=BillingEvidence.UNKNOWN
    )


def call_ids_of(parts: Sequence[JobPart]) -> tuple[str, ...]:
    """The names by which the provider's bill may know a job, each once."""
    return tuple(dict.fromkeys(name for part in parts for name in part.calls))


def validate_outcome(outcome: Outcome) -> None:
    """Raises `ValueError` for an outcome that breaks I2 (no negative amounts) or I7 (no charge
    above what was asked for)."""
    charges = outcome.state is JobState.SETTLED
    keeps = (
        outcome.state in (JobState.SETTLED, JobState.RELEASED, JobState.UNKNOWN)
        and 0 <= outcome.presumed <= outcome.billed
        and outcome.surplus >= 0
        and (charges or (outcome.billed == 0 and outcome.failure is not None))
        and (charges or not outcome.pending)
    )
    if not keeps:
        # Not the outcome itself: the provider's words about its pictures belong in no log.
        amounts = (outcome.billed, outcome.presumed, outcome.surplus)
        raise ValueError(f"no lawful end of a job: {outcome.state.name} with {amounts}")


def _released(failures: Sequence[PartResult], surplus: int, calls: tuple[str, ...]) -> Outcome:
    worst = _weightiest(failures)
    return Outcome(
        JobState.RELEASED, surplus=surplus, proof=worst.proof, failure=worst.failure, calls=calls
    )


def _weightiest(failures: Sequence[PartResult]) -> PartResult:
    """The failure to show: the one with the weakest evidence (P3 before P2, P1, P0)."""
    return max(failures, key=lambda result: (result.proof or BillingEvidence.NEVER_SENT).value)


def _undeliverable(failures: Sequence[PartResult]) -> FailureNote:
    """The failure of a job whose images were made and lost on the way to our store: charged."""
    for result in failures:
        if result.failure is not None and result.failure.charged:
            return result.failure
    return IMAGE_UNAVAILABLE
