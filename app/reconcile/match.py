"""The provider's bill against the ledger: what matches, what is missing, what is surplus.

A charge without evidence is corrected by a new entry, and never by more than was charged without
evidence (I5); a call that failed here may have been billed after all. No I/O, so that the rules
can be read and tested without a store.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from app.domain.ledger import Entry, EntryKind, correction_id
from app.reconcile.bill import (
    BilledCall,
    BillFinding,
    BillLine,
    BillPeriod,
    JobCharge,
    MatchedBy,
    ReconciledItem,
    group_by_call,
)
from app.reconcile.nearest import pair_nearest


@dataclass(slots=True)
class _JobMatch:
    """The charge of one job and the calls of the bill that belong to it."""

    charge: JobCharge
    calls: list[BilledCall] = field(default_factory=list)
    matched_by: MatchedBy = MatchedBy.ID
    id_unknown: bool = False
    """Whether the bill may use an id for it that the ledger does not know."""

    @property
    def item(self) -> ReconciledItem:
        return ReconciledItem(
            BillFinding.MATCHED,
            tuple(self.calls),
            self.charge,
            self.matched_by if self.calls else None,
        )

    @property
    def unbilled_images(self) -> int:
        """Images charged beyond the bill, where their line may have an unknown id."""
        if not self.id_unknown:
            return 0
        billed = self.item.billed_images
        return 0 if billed is None else self.charge.images - billed


def reconcile(
    lines: Iterable[BillLine],
    charges: Iterable[JobCharge],
    period: BillPeriod,
    same_model: Callable[[str], str] = str,
) -> list[ReconciledItem]:
    """Pair every line with its job: by the provider's ids, then, where an answer and with it the
    id was lost, by model, amount and time, one to one and the nearest first. A bill of which no id
    is known uses other ids: it is matched by time alone.

    `same_model` turns the bill's name of a model into the ledger's.
    """
    matches = [_JobMatch(charge) for charge in charges]
    unclaimed = _match_by_id(group_by_call(lines), matches)
    no_id_known = not any(match.calls for match in matches)
    for match in matches:
        charge = match.charge
        match.id_unknown = no_id_known or charge.presumed > 0 or not charge.entry.calls
    unclaimed = _match_by_time(unclaimed, matches, period, same_model, _amount, _missing_amount)
    unclaimed = _match_by_time(
        unclaimed, matches, period, same_model, BilledCall.images, _missing_images
    )
    unclaimed_near = _UnclaimedCalls(unclaimed, period, same_model)
    judged = (_judge(match.item, period, unclaimed_near) for match in matches)
    return [item for item in judged if item is not None] + [
        _unknown_call(call) for call in unclaimed
    ]


def _match_by_id(calls: Iterable[BilledCall], matches: Iterable[_JobMatch]) -> list[BilledCall]:
    """Give each call to the charge that knows its id; the others are returned."""
    named: dict[str | None, _JobMatch] = {}
    for match in matches:
        for name in match.charge.entry.calls:
            named.setdefault(name, match)
    unclaimed: list[BilledCall] = []
    for call in calls:
        if call.id in named:
            named[call.id].calls.append(call)
        else:
            unclaimed.append(call)
    return unclaimed


def _amount(call: BilledCall) -> int | None:
    return call.micros


def _missing_amount(match: _JobMatch) -> int | None:
    unit_micros = match.charge.unit_micros
    return (
        None
        if match.charge.micros is None or unit_micros is None
        else match.unbilled_images * unit_micros
    )


def _missing_images(match: _JobMatch) -> int | None:
    return match.unbilled_images if match.charge.micros is None else None


def _match_by_time(
    calls: list[BilledCall],
    matches: Iterable[_JobMatch],
    period: BillPeriod,
    same_model: Callable[[str], str],
    offered: Callable[[BilledCall], int | None],
    wanted: Callable[[_JobMatch], int | None],
) -> list[BilledCall]:
    seeking: dict[tuple[str, int | None], list[_JobMatch]] = defaultdict(list)
    for match in matches:
        if match.unbilled_images > 0:
            seeking[match.charge.entry.model, wanted(match)].append(match)
    offering: dict[tuple[str, int | None], list[BilledCall]] = defaultdict(list)
    for call in calls:
        offering[same_model(call.model), offered(call)].append(call)
    claimed: set[int] = set()
    for key, seekers in seeking.items():
        offers = offering.get(key, []) if key[1] else []
        moments = [call.at_ms for call in offers], [match.charge.sent_ms for match in seekers]
        for mine, theirs in pair_nearest(*moments, period.within_ms):
            seekers[theirs].calls.append(offers[mine])
            seekers[theirs].matched_by = MatchedBy.TIME
            claimed.add(id(offers[mine]))
    return [call for call in calls if id(call) not in claimed]


class _UnclaimedCalls:
    """Whether an unmatched line could belong to a job after all: then nothing is taken back."""

    def __init__(
        self, unclaimed: Iterable[BilledCall], period: BillPeriod, same_model: Callable[[str], str]
    ) -> None:
        self._within_ms = period.within_ms
        self._moments: dict[str, list[int]] = defaultdict(list)
        for call in unclaimed:
            if call.micros > 0:
                self._moments[same_model(call.model)].append(call.at_ms)
        for moments in self._moments.values():
            moments.sort()

    def __call__(self, charge: JobCharge) -> bool:
        moments = self._moments.get(charge.entry.model, [])
        first = bisect_left(moments, charge.sent_ms - self._within_ms)
        return first < len(moments) and moments[first] <= charge.sent_ms + self._within_ms


def _judge(
    item: ReconciledItem, period: BillPeriod, unclaimed_near: _UnclaimedCalls
) -> ReconciledItem | None:
    """The finding about one charge; None when the bill does not cover it."""
    charge = item.charge
    assert charge is not None
    if not item.calls and (charge.images <= 0 or not period.contains(charge.sent_ms)):
        return None
    billed, charged = item.billed_images, charge.images
    if _agrees(item, charge):
        return item
    if not item.calls and not period.covers(charge.sent_ms):
        return replace(item, finding=BillFinding.UNDECIDED, advice="see the next bill")
    finding = BillFinding.MISMATCHED
    if charged == 0 and item.billed_micros > 0:
        finding = BillFinding.MISSING
    elif charged > 0 and item.billed_micros == 0:
        finding = BillFinding.SURPLUS
    item = replace(item, finding=finding)
    advice = _find_objection(item, charge, period, unclaimed_near)
    if advice:
        return replace(item, advice=advice)
    return replace(item, adjustment=(billed or 0) - charged)


def _agrees(item: ReconciledItem, charge: JobCharge) -> bool:
    """As far as both sides know: a job may have no price, a bill may not count images."""
    return (
        charge.micros in (None, item.billed_micros)
        and item.billed_images in (None, charge.images)
        and (charge.images > 0) == (item.billed_micros > 0)
    )


def _find_objection(
    item: ReconciledItem, charge: JobCharge, period: BillPeriod, unclaimed_near: _UnclaimedCalls
) -> str:
    """Why the ledger is not corrected automatically; empty when it is."""
    if charge.unit_micros is None and item.billed_images is None:
        return "the catalog has no price to count its images by"
    if item.billed_images is None:
        return "the amount is no multiple of the catalog's price"
    adjustment = item.billed_images - charge.images
    reasons = {
        "another price than the catalog's": adjustment == 0,
        "only a refund is on this bill": item.billed_micros < 0,
        "the same line stands there more than once": _has_duplicates(item.lines),
        "more images than were asked for; ask the provider": adjustment > charge.chargeable_images,
        "not presumed but delivered; ask the provider": -adjustment > charge.presumed,
        "too near an end of the bill; see the next one": not period.covers(charge.sent_ms),
        "a line without a job is near; it may be this one": adjustment < 0
        and unclaimed_near(charge),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _has_duplicates(lines: Sequence[BillLine]) -> bool:
    """Two exports joined with an overlap, or a call that is billed image by image?"""
    return len({replace(line, number=0) for line in lines}) < len(lines)


def _unknown_call(call: BilledCall) -> ReconciledItem:
    advice = "no job of this ledger: other traffic with the provider's key, or still running"
    return ReconciledItem(BillFinding.MISSING, (call,), advice=advice)


def build_adjustment(item: ReconciledItem, bill: str) -> Entry:
    """The entry that makes the ledger agree; entered twice, it corrects once.

    `bill` names the bill in the note. Its id is drawn from what the ledger said when the pair was
    judged, so that a later bill may correct again.
    """
    charge = item.charge
    assert charge is not None
    entry, adjustment = charge.entry, item.adjustment
    known = entry.micros is not None and charge.unit_micros is not None
    where = ", ".join(f"line {line.number}" for line in item.lines) or "not on it"
    return replace(
        entry,
        id=correction_id(entry.job, charge.newest),
        kind=EntryKind.ADJUST,
        images=adjustment,
        micros=adjustment * (charge.unit_micros or 0) if known else None,
        delivered=0,
        presumed=min(adjustment, 0),
        surplus=0,
        proof=None,
        code=None,
        note=f"provider's bill, {bill}: {where}",
        calls=(),
        dispatched_ms=None,
        asked=None,
    )
