"""The rules of money, without a store."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.charging import assume_billed, compute_outcome
from app.domain.errors import BillingEvidence, FailureNote
from app.domain.images import Picture
from app.domain.job import JobPart, JobState, PartResult, TaskStatus

NAMES = (f"img_{i:032x}.png" for i in itertools.count())


def pictures(count: int) -> tuple[Picture, ...]:
    return tuple(Picture(next(NAMES), "image/png", 8, 8) for _ in range(count))


def made(n: int, images: int, kept: int | None = None) -> JobPart:
    stored = pictures(min(images, n) if kept is None else kept)
    return JobPart(n, result=PartResult(images=images, pictures=stored))


def failed(n: int, proof: BillingEvidence) -> JobPart:
    note = FailureNote("upstream_error", "broke", charged=proof is BillingEvidence.UNKNOWN)
    return JobPart(n, result=PartResult(failure=note, proof=proof))


def test_what_was_delivered_is_charged() -> None:
    outcome = compute_outcome([made(3, 3)])

    assert (outcome.state, outcome.billed, outcome.status) == (
        JobState.SETTLED,
        3,
        TaskStatus.COMPLETED,
    )


def test_fewer_images_than_asked_cost_only_what_came() -> None:
    outcome = compute_outcome([made(4, 1)])

    assert (outcome.billed, len(outcome.pictures), outcome.failure) == (1, 1, None)


def test_more_images_than_asked_are_surplus_not_the_callers() -> None:
    outcome = compute_outcome([made(2, 5)])

    assert (outcome.billed, outcome.surplus, len(outcome.pictures)) == (2, 3, 2)


@pytest.mark.parametrize(
    "proof", [BillingEvidence.NEVER_SENT, BillingEvidence.REFUSED, BillingEvidence.FAILED]
)
def test_a_failure_with_proof_is_free(proof: BillingEvidence) -> None:
    outcome = compute_outcome([failed(2, proof)])

    assert (outcome.state, outcome.billed, outcome.proof) == (JobState.RELEASED, 0, proof)


def test_a_failure_without_proof_is_held_and_then_presumed() -> None:
    held = compute_outcome([failed(2, BillingEvidence.UNKNOWN)])
    presumed = assume_billed(held, 2)

    assert (held.state, held.billed) == (JobState.UNKNOWN, 0)
    assert (presumed.state, presumed.billed, presumed.presumed) == (JobState.SETTLED, 2, 2)


def test_an_ambiguous_part_beside_a_delivered_one_is_presumed_at_once() -> None:
    outcome = compute_outcome([made(2, 2), failed(3, BillingEvidence.UNKNOWN)])

    assert (outcome.billed, outcome.presumed, outcome.status) == (5, 3, TaskStatus.COMPLETED)


def test_a_refused_part_beside_a_delivered_one_is_free() -> None:
    outcome = compute_outcome([made(2, 2), failed(3, BillingEvidence.REFUSED)])

    assert (outcome.billed, outcome.presumed, len(outcome.pictures)) == (2, 0, 2)


def test_an_image_lost_on_the_way_is_charged_and_said_so() -> None:
    outcome = compute_outcome([made(1, 1, kept=0)])

    assert outcome.billed == 1
    assert outcome.failure is not None
    assert (outcome.failure.code, outcome.failure.charged) == ("image_unavailable", True)


def test_an_unfinished_job_cannot_be_concluded() -> None:
    with pytest.raises(ValueError, match="every part"):
        compute_outcome([made(1, 1), JobPart(1)])


parts = st.lists(
    st.one_of(
        st.builds(made, st.integers(1, 10), st.integers(1, 12)),
        st.builds(failed, st.integers(1, 10), st.sampled_from(BillingEvidence)),
    ),
    min_size=1,
    max_size=5,
)


@given(parts)
def test_no_outcome_charges_more_than_was_reserved_or_less_than_was_made(
    asked: list[JobPart],
) -> None:
    outcome = compute_outcome(asked)

    n = sum(part.n for part in asked)
    came = sum(min(p.result.images, p.n) for p in asked if p.result is not None)
    assert 0 <= outcome.billed <= n
    assert outcome.billed >= came
    assert len(outcome.pictures) <= outcome.billed
    assert (outcome.state is JobState.RELEASED) <= (outcome.billed == 0)
