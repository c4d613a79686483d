"""The provider's bill against the ledger, without a store."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.ledger import Entry, EntryKind
from app.reconcile.bill import (
    BillFinding,
    BillLine,
    BillPeriod,
    JobCharges,
    MatchedBy,
    ReconciledItem,
)
from app.reconcile.match import build_adjustment, reconcile
from app.reconcile.nearest import pair_nearest

HOUR, MINUTE = 3_600_000, 60_000
SPAN = BillPeriod(0, 10 * HOUR, 15 * MINUTE)
NOON = 5 * HOUR
UNIT = 140_000


def entry(**changes: object) -> Entry:
    """A delivered image, sent at noon."""
    plain = Entry(
        id="1-0", kind=EntryKind.SETTLE, at_ms=NOON + 20_000, job="task_a", key="key_1",
        user="ann", team=None, model="grok-imagine", size="1024x1024", quality="standard",
        images=1, micros=UNIT, delivered=1, presumed=0, surplus=0, day="2026-11-27",
        month="2026-11", calls=("up_a", "req_a"), dispatched_ms=NOON, asked=1,
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def presumed(**changes: object) -> Entry:
    """An image whose answer was lost, and its name with it."""
    lost = entry(delivered=0, presumed=1, calls=(), proof="P3")
    return replace(lost, **changes)  # type: ignore[arg-type]


def failed(**changes: object) -> Entry:
    """A call that the provider says it failed."""
    free = entry(kind=EntryKind.RELEASE, images=0, micros=0, delivered=0, proof="P2")
    return replace(free, **changes)  # type: ignore[arg-type]


def line(call: str | None = "req_a", micros: int = UNIT, **changes: object) -> BillLine:
    return replace(
        BillLine(2, NOON, "grok-imagine", micros, call),
        **changes,  # type: ignore[arg-type]
    )


def compared(
    lines: Iterable[BillLine],
    entries: Iterable[Entry],
    span: BillPeriod = SPAN,
    unit: int | None = UNIT,
) -> list[ReconciledItem]:
    charges = JobCharges(lambda _: unit)
    for one in entries:
        charges.add_entry(one)
    return reconcile(lines, charges, span)


def only(lines: Iterable[BillLine], entries: Iterable[Entry], **more: object) -> ReconciledItem:
    [pair] = compared(lines, entries, **more)  # type: ignore[arg-type]
    return pair


@pytest.mark.parametrize("call", ["req_a", "up_a"])
def test_a_line_belongs_to_the_job_that_knows_its_id_whatever_else_it_says(call: str) -> None:
    pair = only([line(call, at_ms=9 * HOUR, model="another")], [entry()])

    assert (pair.finding, pair.matched_by, pair.adjustment) == (
        BillFinding.MATCHED,
        MatchedBy.ID,
        0,
    )


@pytest.mark.parametrize(
    ("lines", "entries", "finding", "fix"),
    [
        ([line()], [failed()], BillFinding.MISSING, 1),
        ([line(micros=2 * UNIT)], [failed(asked=2)], BillFinding.MISSING, 2),
        ([line(micros=2 * UNIT)], [failed(asked=1)], BillFinding.MISSING, 0),
        ([line(), line(micros=-UNIT, number=3)], [failed()], BillFinding.MATCHED, 0),
        ([], [entry(presumed=1)], BillFinding.SURPLUS, -1),
        ([line(), line(micros=-UNIT)], [entry(presumed=1)], BillFinding.SURPLUS, -1),
        ([line(), line(micros=-UNIT)], [entry()], BillFinding.SURPLUS, 0),
        ([], [entry()], BillFinding.SURPLUS, 0),
        ([line(micros=150_000)], [entry()], BillFinding.MISMATCHED, 0),
        ([line(images=1, micros=150_000)], [entry()], BillFinding.MISMATCHED, 0),
        ([line(micros=-UNIT)], [entry(presumed=1)], BillFinding.MISMATCHED, 0),
        ([line()], [entry(images=3, micros=3 * UNIT, presumed=2)], BillFinding.MISMATCHED, -2),
        ([line()], [entry(images=3, micros=3 * UNIT, presumed=1)], BillFinding.MISMATCHED, 0),
        ([line(micros=3 * UNIT)], [entry(asked=3)], BillFinding.MISMATCHED, 2),
        ([line("up_a"), line("req_b")], [entry(images=2, micros=2 * UNIT, calls=("up_a", "req_b"))],
         BillFinding.MATCHED, 0),
        ([line(micros=3 * UNIT)], [entry(surplus=2)], BillFinding.MATCHED, 0),
        ([line(micros=4 * UNIT)], [entry(surplus=2, asked=2)], BillFinding.MISMATCHED, 1),
        ([line(), line(number=3)], [entry(images=2, micros=2 * UNIT)], BillFinding.MATCHED, 0),
        ([line(), line(number=3)], [failed(asked=2)], BillFinding.MISSING, 0),
    ],
)  # fmt: skip
def test_what_is_found_about_a_job_and_what_would_mend_it(
    lines: list[BillLine], entries: list[Entry], finding: BillFinding, fix: int
) -> None:
    pair = only(lines, entries)

    assert (pair.finding, pair.adjustment) == (finding, fix)
    assert bool(pair.advice) == (finding is not BillFinding.MATCHED and fix == 0)


def test_a_line_nobody_knows_is_missing_and_not_ours_to_charge() -> None:
    stranger, mine = line("req_x"), line()

    pairs = compared([stranger, mine], [entry()])

    assert [(pair.finding, pair.charge is None, pair.adjustment) for pair in pairs] == [
        (BillFinding.MATCHED, False, 0),
        (BillFinding.MISSING, True, 0),
    ]


def test_a_charge_whose_name_was_lost_is_found_by_model_amount_and_time() -> None:
    pair = only([line("req_x", at_ms=NOON + 14 * MINUTE)], [presumed()])

    assert (pair.finding, pair.matched_by) == (BillFinding.MATCHED, MatchedBy.TIME)


@pytest.mark.parametrize(
    "stranger",
    [
        line("req_x", at_ms=NOON + 16 * MINUTE),
        line("req_x", model="another"),
        line("req_x", micros=2 * UNIT),
        line("req_x", micros=-UNIT),
    ],
)
def test_it_is_not_found_further_away_or_with_another_model_or_amount(stranger: BillLine) -> None:
    pairs = compared([stranger], [presumed()])

    assert [pair.finding for pair in pairs] == [BillFinding.SURPLUS, BillFinding.MISSING]


def test_the_nearest_are_matched_first_and_each_once() -> None:
    lost = [presumed(job=f"task_{m}", dispatched_ms=NOON + m * MINUTE) for m in (0, 3)]
    lines = [line(f"req_{m}", at_ms=NOON + m * MINUTE) for m in (2, 5)]

    pairs = compared(lines, lost)

    assert [(pair.charge.entry.job, pair.calls[0].id) for pair in pairs] == [  # type: ignore[union-attr]
        ("task_0", "req_5"),
        ("task_3", "req_2"),
    ]


def test_an_id_is_worth_more_than_a_moment() -> None:
    pairs = compared([line("req_a")], [presumed(job="task_b"), entry()])

    assert [(pair.charge.entry.job, pair.finding) for pair in pairs] == [  # type: ignore[union-attr]
        ("task_b", BillFinding.SURPLUS),
        ("task_a", BillFinding.MATCHED),
    ]


def test_a_job_that_has_all_its_names_is_not_matched_by_time() -> None:
    other = entry(job="task_b", calls=("req_b",))

    pairs = compared([line("req_x"), line("req_b")], [entry(), other])

    assert [pair.finding for pair in pairs] == [
        BillFinding.SURPLUS,
        BillFinding.MATCHED,
        BillFinding.MISSING,
    ]


def test_a_bill_that_knows_no_id_of_ours_is_matched_by_time_alone() -> None:
    later = entry(job="task_b", calls=("req_b",), dispatched_ms=NOON + HOUR)

    pairs = compared([line("x1"), line("x2", at_ms=NOON + HOUR)], [entry(), later])

    assert [(pair.finding, pair.matched_by) for pair in pairs] == [
        (BillFinding.MATCHED, MatchedBy.TIME)
    ] * 2


def test_old_entries_without_names_are_matched_by_the_time_they_were_written() -> None:
    old = entry(calls=(), dispatched_ms=None, asked=None)

    assert only([line("req_x")], [old]).matched_by is MatchedBy.TIME


def test_of_a_job_of_several_calls_the_lost_one_is_found_by_time() -> None:
    both = entry(images=3, micros=3 * UNIT, presumed=2, asked=3)

    pair = only([line(), line("req_x", 2 * UNIT)], [both])

    assert (pair.finding, pair.matched_by, len(pair.calls)) == (
        BillFinding.MATCHED,
        MatchedBy.TIME,
        2,
    )


def test_a_presumed_charge_is_kept_while_a_line_without_a_job_stands_near() -> None:
    pairs = compared([line("req_x", 2 * UNIT)], [presumed()])

    assert pairs[0].finding is BillFinding.SURPLUS
    assert pairs[0].adjustment == 0
    assert "may be this one" in pairs[0].advice


@pytest.mark.parametrize(
    ("sent_ms", "finding"),
    [
        (-1, None),
        (14 * MINUTE, BillFinding.UNDECIDED),
        (15 * MINUTE, BillFinding.SURPLUS),
        (10 * HOUR - 15 * MINUTE, BillFinding.SURPLUS),
        (10 * HOUR - 14 * MINUTE, BillFinding.UNDECIDED),
        (10 * HOUR, None),
    ],
)
def test_only_what_the_bill_covers_with_a_margin_is_surplus(
    sent_ms: int, finding: BillFinding | None
) -> None:
    pairs = compared([], [presumed(dispatched_ms=sent_ms)])

    assert [pair.finding for pair in pairs] == ([] if finding is None else [finding])


def test_what_failed_so_late_that_its_refund_may_follow_is_not_charged() -> None:
    late = 10 * HOUR - MINUTE

    pair = only([line(at_ms=late)], [failed(dispatched_ms=late)])

    assert (pair.finding, pair.adjustment) == (BillFinding.MISSING, 0)
    assert "see the next" in pair.advice


@pytest.mark.parametrize(
    ("lines", "of", "finding", "fix"),
    [
        ([line()], entry(micros=None), BillFinding.MATCHED, 0),
        ([line(images=1)], entry(micros=None), BillFinding.MATCHED, 0),
        ([line(images=2)], entry(micros=None, asked=2), BillFinding.MISMATCHED, 1),
        ([line()], failed(micros=None), BillFinding.MISSING, 0),
        ([line(images=1)], failed(micros=None), BillFinding.MISSING, 1),
        ([line("req_x", images=1)], presumed(micros=None), BillFinding.MATCHED, 0),
        ([], presumed(micros=None), BillFinding.SURPLUS, -1),
    ],
)
def test_without_a_price_images_are_compared_where_the_bill_counts_them(
    lines: list[BillLine], of: Entry, finding: BillFinding, fix: int
) -> None:
    charges = JobCharges(lambda _: None)
    charges.add_entry(replace(of, micros=None))

    [pair] = reconcile(lines, charges, SPAN)

    assert (pair.finding, pair.adjustment) == (finding, fix)
    if fix:
        assert build_adjustment(pair, "bill").micros is None


def test_a_correction_is_entered_where_the_job_was_and_names_the_line() -> None:
    pair = only([line(number=17)], [failed()])

    entered = build_adjustment(pair, "november")

    assert (entered.kind, entered.images, entered.micros) == (EntryKind.ADJUST, 1, UNIT)
    assert (entered.user, entered.key, entered.day) == ("ann", "key_1", "2026-11-27")
    assert (entered.presumed, entered.delivered, entered.calls) == (0, 0, ())
    assert entered.note == "provider's bill, november: line 17"


@pytest.mark.parametrize(
    ("lines", "entries"),
    [
        ([line()], [failed()]),
        ([], [presumed()]),
        ([], [presumed(images=2, micros=2 * UNIT, presumed=2)]),
    ],
)
def test_once_corrected_the_two_sides_agree_and_a_repeat_has_the_same_id(
    lines: list[BillLine], entries: list[Entry]
) -> None:
    pair = only(lines, entries)
    entered = build_adjustment(pair, "one")

    again = compared(lines, [*entries, replace(entered, id="2-0")])

    assert all(pair.finding is BillFinding.MATCHED for pair in again)
    assert build_adjustment(only(lines, entries), "other").id == entered.id


def test_a_later_bill_may_correct_the_correction() -> None:
    back = build_adjustment(only([], [presumed(calls=("req_a",))]), "one")

    late = only([line()], [presumed(calls=("req_a",)), replace(back, id="2-0")])

    assert (late.finding, late.adjustment) == (BillFinding.MISSING, 1)
    forth = replace(build_adjustment(late, "two"), id="3-0", presumed=1)

    refunded = only([], [presumed(calls=("req_a",)), replace(back, id="2-0"), forth])

    assert refunded.adjustment == -1
    assert (
        len({build_adjustment(refunded, "three").id, build_adjustment(late, "two").id, back.id})
        == 3
    )


def test_a_refund_whose_charge_is_on_another_bill_is_left_alone() -> None:
    pair = only([line(micros=-UNIT)], [presumed(calls=("req_a",))])

    assert (pair.adjustment, pair.advice) == (0, "only a refund is on this bill")


def test_a_correction_by_hand_counts_too() -> None:
    by_hand = replace(
        presumed(), id="2-0", kind=EntryKind.ADJUST, images=-1, micros=-UNIT, presumed=0
    )

    assert compared([], [presumed(), by_hand]) == []


MOMENTS = st.lists(st.integers(0, 200), max_size=12)


@given(left=MOMENTS, right=MOMENTS, within=st.integers(0, 60))
def test_nearest_is_the_greedy_pairing_one_to_one(
    left: list[int], right: list[int], within: int
) -> None:
    pairs = list(pair_nearest(left, right, within))

    free = list(left), list(right)
    for a, b in pairs:
        closest = min(abs(mine - theirs) for mine in free[0] for theirs in free[1])
        assert abs(left[a] - right[b]) == closest <= within
        free[0].remove(left[a])
        free[1].remove(right[b])
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    assert all(abs(a - b) > within for a in free[0] for b in free[1])


@given(
    sent=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    billed=st.lists(st.integers(1, 9), max_size=8),
)
def test_every_line_of_the_bill_and_every_charge_is_in_exactly_one_pair(
    sent: list[int], billed: list[int]
) -> None:
    entries = [presumed(job=f"task_{i}", dispatched_ms=at * HOUR) for i, at in enumerate(sent)]
    lines = [line(f"req_{i}", at_ms=at * HOUR, number=i) for i, at in enumerate(billed)]

    pairs = compared(lines, entries)

    numbers = sorted(one.number for pair in pairs for one in pair.lines)
    jobs = sorted(pair.charge.entry.job for pair in pairs if pair.charge)
    assert numbers == list(range(len(lines)))
    assert jobs == sorted(one.job for one in entries)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["delivered", "lost", "failed"]),
            st.booleans(),
            st.integers(1, 2),
            st.integers(0, 40),
        ),
        max_size=8,
    )
)
def test_after_the_corrections_the_ledger_is_never_short_of_the_bill(
    calls: list[tuple[str, bool, int, int]],
) -> None:
    """I5: what they hold beyond the bill is at most what is still presumed."""
    make = {"delivered": entry, "lost": presumed, "failed": failed}
    entries, lines = [], [line("req_first", at_ms=0)]
    entries.append(entry(job="first", calls=("req_first",), dispatched_ms=0))
    for index, (how, billed, n, minute) in enumerate(calls):
        at_ms = NOON + minute * MINUTE
        charged = 0 if how == "failed" else n
        names = () if how == "lost" else (f"req_{index}",)
        entries.append(
            make[how](
                job=f"task_{index}", dispatched_ms=at_ms, calls=names, asked=n, images=charged,
                micros=charged * UNIT, presumed=n if how == "lost" else 0,
            )
        )  # fmt: skip
        if billed or how == "delivered":
            lines.append(line(f"req_{index}", n * UNIT, at_ms=at_ms, number=index))

    fixes = [build_adjustment(pair, "bill") for pair in compared(lines, entries) if pair.adjustment]
    corrected = [*entries, *(replace(fix, id="2-0") for fix in fixes)]

    charged, still = sum(e.images for e in corrected), sum(e.presumed for e in corrected)
    billed_images = sum(one.micros for one in lines) // UNIT
    assert billed_images <= charged <= billed_images + still
    assert not [pair for pair in compared(lines, corrected) if pair.adjustment]
