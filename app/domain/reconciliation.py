"""The provider's bill against the ledger: what matches, what is missing, what is surplus.

Source: reliability study, sections 6.1 (a presumed charge is adjusted by a new entry), 6.2 (I5:
the excess of the books over the bill is at most what was presumed) and 7.1 (F38: a failed call
that was billed after all). Pure, so that the rules can be read and tested without a store.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from app.domain.bill import Account, BillLine, Call, Finding, How, Pair, Span, by_call
from app.domain.images import digest
from app.domain.ledger import Entry, EntryKind
from app.domain.nearest import nearest


@dataclass(slots=True)
class _Side:
    """One account and the calls of the bill that are its own."""

    account: Account
    calls: list[Call] = field(default_factory=list)
    how: How = How.ID
    nameless: bool = False
    """The bill may know it by no name that is known here."""

    @property
    def pair(self) -> Pair:
        return Pair(
            Finding.MATCHED, tuple(self.calls), self.account, self.how if self.calls else None
        )

    @property
    def gap(self) -> int:
        """Images charged beyond the bill, where their line may bear another name."""
        if not self.nameless:
            return 0
        billed = self.pair.billed_images
        return 0 if billed is None else self.account.images - billed


def reconcile(
    lines: Iterable[BillLine],
    accounts: Iterable[Account],
    span: Span,
    same_model: Callable[[str], str] = str,
) -> list[Pair]:
    """Pair every line with its job: by the provider's ids, then, where an answer and with it the
    id was lost, by model, amount and time, one to one and the nearest first. A bill of which no id
    is known calls things otherwise: it is matched by time alone.

    `same_model` turns the bill's name of a model into the ledger's.
    """
    sides = [_Side(account) for account in accounts]
    unclaimed = _by_id(by_call(lines), sides)
    strange = not any(side.calls for side in sides)
    for side in sides:
        account = side.account
        side.nameless = strange or account.presumed > 0 or not account.entry.calls
    unclaimed = _by_time(unclaimed, sides, span, same_model, _amount, _missing_amount)
    unclaimed = _by_time(unclaimed, sides, span, same_model, Call.images, _missing_images)
    contested = _Contested(unclaimed, span, same_model)
    judged = (_judged(side.pair, span, contested) for side in sides)
    return [pair for pair in judged if pair is not None] + [_foreign(call) for call in unclaimed]


def _by_id(calls: Iterable[Call], sides: Iterable[_Side]) -> list[Call]:
    """Give each call to the account that knows its id; the others are returned."""
    named: dict[str | None, _Side] = {}
    for side in sides:
        for name in side.account.entry.calls:
            named.setdefault(name, side)
    unclaimed: list[Call] = []
    for call in calls:
        if call.id in named:
            named[call.id].calls.append(call)
        else:
            unclaimed.append(call)
    return unclaimed


def _amount(call: Call) -> int | None:
    return call.micros


def _missing_amount(side: _Side) -> int | None:
    unit = side.account.unit
    return None if side.account.micros is None or unit is None else side.gap * unit


def _missing_images(side: _Side) -> int | None:
    return side.gap if side.account.micros is None else None


def _by_time(
    calls: list[Call],
    sides: Iterable[_Side],
    span: Span,
    same_model: Callable[[str], str],
    offered: Callable[[Call], int | None],
    wanted: Callable[[_Side], int | None],
) -> list[Call]:
    seeking: dict[tuple[str, int | None], list[_Side]] = defaultdict(list)
    for side in sides:
        if side.gap > 0:
            seeking[side.account.entry.model, wanted(side)].append(side)
    offering: dict[tuple[str, int | None], list[Call]] = defaultdict(list)
    for call in calls:
        offering[same_model(call.model), offered(call)].append(call)
    claimed: set[int] = set()
    for wish, seekers in seeking.items():
        offers = offering.get(wish, []) if wish[1] else []
        moments = [call.at_ms for call in offers], [side.account.sent_ms for side in seekers]
        for mine, theirs in nearest(*moments, span.within_ms):
            seekers[theirs].calls.append(offers[mine])
            seekers[theirs].how = How.TIME
            claimed.add(id(offers[mine]))
    return [call for call in calls if id(call) not in claimed]


class _Contested:
    """Whether a line that nobody claims could be a job's after all: then nothing is taken back."""

    def __init__(
        self, unclaimed: Iterable[Call], span: Span, same_model: Callable[[str], str]
    ) -> None:
        self._within_ms = span.within_ms
        self._moments: dict[str, list[int]] = defaultdict(list)
        for call in unclaimed:
            if call.micros > 0:
                self._moments[same_model(call.model)].append(call.at_ms)
        for moments in self._moments.values():
            moments.sort()

    def __call__(self, account: Account) -> bool:
        moments = self._moments.get(account.entry.model, [])
        first = bisect_left(moments, account.sent_ms - self._within_ms)
        return first < len(moments) and moments[first] <= account.sent_ms + self._within_ms


def _judged(pair: Pair, span: Span, contested: _Contested) -> Pair | None:
    """The finding about one account; None when it is none of this bill's business."""
    account = pair.account
    assert account is not None
    if not pair.calls and (account.images <= 0 or not span.holds(account.sent_ms)):
        return None
    billed, charged = pair.billed_images, account.images
    if _agrees(pair, account):
        return pair
    if not pair.calls and not span.covers(account.sent_ms):
        return replace(pair, finding=Finding.UNDECIDED, advice="see the next bill")
    finding = Finding.MISMATCHED
    if charged == 0 and pair.billed_micros > 0:
        finding = Finding.MISSING
    elif charged > 0 and pair.billed_micros == 0:
        finding = Finding.SURPLUS
    pair = replace(pair, finding=finding)
    advice = _objection(pair, account, span, contested)
    if advice:
        return replace(pair, advice=advice)
    return replace(pair, fix=(billed or 0) - charged)


def _agrees(pair: Pair, account: Account) -> bool:
    """As far as both sides say: a job may have no price, a bill may not count images."""
    return (
        account.micros in (None, pair.billed_micros)
        and pair.billed_images in (None, account.images)
        and (account.images > 0) == (pair.billed_micros > 0)
    )


def _objection(pair: Pair, account: Account, span: Span, contested: _Contested) -> str:
    """Why the ledger is not corrected by itself, or nothing."""
    if account.unit is None and pair.billed_images is None:
        return "the catalog has no price to count its images by"
    if pair.billed_images is None:
        return "the amount is no multiple of the catalog's price"
    fix = pair.billed_images - account.images
    reasons = {
        "another price than the catalog's": fix == 0,
        "only a refund is on this bill": pair.billed_micros < 0,
        "the same line stands there more than once": _repeats(pair.lines),
        "more images than were asked for; ask the provider": fix > account.room,
        "not presumed but delivered; ask the provider": -fix > account.presumed,
        "too near an end of the bill; see the next one": not span.covers(account.sent_ms),
        "a line without a job is near; it may be this one": fix < 0 and contested(account),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _repeats(lines: Sequence[BillLine]) -> bool:
    """Two exports joined with an overlap, or a call that is billed image by image?"""
    return len({replace(line, number=0) for line in lines}) < len(lines)


def _foreign(call: Call) -> Pair:
    advice = "no job of this ledger: other traffic with the provider's key, or still running"
    return Pair(Finding.MISSING, (call,), advice=advice)


def correction(pair: Pair, bill: str) -> Entry:
    """The entry that makes the ledger agree; entered twice, it corrects once.

    `bill` names the bill in the note. Its id is drawn from what the ledger said when the pair was
    judged, so that a later bill may correct again.
    """
    account = pair.account
    assert account is not None
    entry, fix = account.entry, pair.fix
    known = entry.micros is not None and account.unit is not None
    places = ", ".join(f"line {line.number}" for line in pair.lines) or "not on it"
    return replace(
        entry,
        id=digest("bill", entry.job, account.newest, fix),
        kind=EntryKind.ADJUST,
        images=fix,
        micros=fix * (account.unit or 0) if known else None,
        delivered=0,
        presumed=min(fix, 0),
        surplus=0,
        proof=None,
        code=None,
        note=f"provider's bill, {bill}: {places}",
        calls=(),
        dispatched_ms=None,
        asked=None,
    )
