"""What a reconciliation says: sums by finding, the differences, and what to do about them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.cli.bill_file import Unreadable
from app.cli.out import money, say, say_json, say_table, time_text
from app.domain.bill import Finding, How, Pair, Span
from app.domain.money import format_micros

NO_JOB = (
    "No line of this bill belongs to a job of this ledger; is it the bill of another key? "
    "Nothing is corrected."
)
NO_LINE = "None of its lines was asked for. Nothing is corrected."
NO_ID = "None of its ids is known here: it was matched by time alone. Nothing is corrected."
OTHER_CLOCK = (
    "Its times are off by more than --within; is the bill in another time zone than KOI_TIMEZONE? "
    "Nothing is corrected."
)


@dataclass(frozen=True, slots=True)
class Sum:
    """One finding in figures; `uncounted` lines say nothing about their number of images."""

    lines: int
    jobs: int
    billed_images: int
    charged_images: int
    billed_micros: int
    charged_micros: int
    uncounted: int


@dataclass
class Report:
    """`pairs` change while corrections are entered; `aside` lines were not asked about."""

    name: str
    span: Span
    pairs: list[Pair]
    unreadable: Sequence[Unreadable]
    aside: int

    @property
    def differences(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.finding is not Finding.MATCHED]

    @property
    def differs(self) -> bool:
        uncertain = bool(self.unreadable) or self.strange == OTHER_CLOCK
        return uncertain or any(pair.differs for pair in self.pairs)

    @property
    def open_fixes(self) -> int:
        return sum(1 for pair in self.pairs if pair.fix and pair.entered is None)

    @property
    def entered(self) -> int:
        return sum(1 for pair in self.pairs if pair.entered is not None)

    def how(self, how: How) -> list[Pair]:
        return [pair for pair in self.pairs if pair.how is how]

    @cached_property
    def strange(self) -> str | None:
        """Why this bill cannot be trusted to correct anything."""
        known = [pair for pair in self.pairs if pair.calls and pair.account is not None]
        if not known:
            if any(pair.calls for pair in self.pairs):
                return NO_JOB
            return NO_LINE if self.aside else None
        if all(pair.how is How.TIME for pair in known) and any(_names(pair) for pair in known):
            return NO_ID
        middle = sorted(map(_apart_ms, known))[len(known) // 2]
        return OTHER_CLOCK if abs(middle) > self.span.within_ms else None

    def sum_of(self, finding: Finding) -> Sum:
        return _sum([pair for pair in self.pairs if pair.finding is finding])


def _apart_ms(pair: Pair) -> int:
    """How much later the bill has a call than the ledger, which knows when it began and ended."""
    assert pair.account is not None
    at_ms = pair.calls[0].at_ms
    return min(at_ms - pair.account.sent_ms, 0) + max(at_ms - pair.account.entry.at_ms, 0)


def _sum(pairs: Sequence[Pair]) -> Sum:
    billed = [pair.billed_images for pair in pairs]
    accounts = [pair.account for pair in pairs if pair.account is not None]
    return Sum(
        lines=sum(len(pair.lines) for pair in pairs),
        jobs=len(accounts),
        billed_images=sum(images or 0 for images in billed),
        charged_images=sum(account.images for account in accounts),
        billed_micros=sum(pair.billed_micros for pair in pairs),
        charged_micros=sum(account.micros or 0 for account in accounts),
        uncounted=sum(
            len(pair.lines) for pair, images in zip(pairs, billed, strict=True) if images is None
        ),
    )


def say_report(report: Report, currency: str, most: int | None) -> None:
    """Text; at most `most` differences, or all."""
    span = report.span
    say(f"{report.name}, from {time_text(span.since_ms)} to {time_text(span.until_ms)}")
    _say_sums(report, currency)
    _say_rows("Matched by model, amount and time:", report.how(How.TIME), most)
    _say_rows("Differences:", report.differences, most)
    for line in report.unreadable[:most]:
        say(str(line))
    if most is not None and len(report.unreadable) > most:
        say(f"… and {len(report.unreadable) - most} unreadable lines more; see --all.")
    say()
    for sentence in _next_steps(report):
        say(sentence)


def _say_sums(report: Report, currency: str) -> None:
    rows: list[tuple[object, ...]] = []
    for finding in Finding:
        found = report.sum_of(finding)
        billed, charged = format_micros(found.billed_micros), format_micros(found.charged_micros)
        images = f"{found.billed_images}+?" if found.uncounted else found.billed_images
        rows.append(
            (finding, found.lines, found.jobs, images, found.charged_images, billed, charged)
        )
    rows.append(("unreadable", len(report.unreadable), *[None] * 5))
    if report.aside:
        rows.append(("not asked for", report.aside, *[None] * 5))
    say_table(
        (
            "finding", "lines", "jobs", "images billed", "charged", f"{currency} billed", "charged"
        ),
        rows,
    )  # fmt: skip


def _say_rows(title: str, pairs: Sequence[Pair], most: int | None) -> None:
    if not pairs:
        return
    say()
    say(title)
    headings = ("finding", "lines", "call", "model", "job", "billed", "charged", "correction")
    say_table(headings, [_row(pair) for pair in pairs[:most]])
    if most is not None and len(pairs) > most:
        say(f"… and {len(pairs) - most} more; see --all.")


def _row(pair: Pair) -> tuple[object, ...]:
    account = pair.account
    charged = None if account is None else _amount(account.images, account.micros)
    return (
        pair.finding,
        _numbers(pair),
        _names(pair),
        account.entry.model if account else pair.calls[0].model,
        account.entry.job if account else None,
        _amount(pair.billed_images, pair.billed_micros) if pair.calls else None,
        charged,
        _action(pair),
    )


def _names(pair: Pair) -> str:
    """What the bill calls it, else what the provider told us it would."""
    if pair.calls or pair.account is None:
        return " ".join(call.id for call in pair.calls if call.id is not None)
    return " ".join(pair.account.entry.calls)


def _numbers(pair: Pair) -> str:
    """Never a bare number: `17`, or `17 18`."""
    return " ".join(str(line.number) for line in pair.lines)


def _amount(images: int | None, micros: int | None) -> str:
    count = "?" if images is None else images
    return f"{count} for {'?' if micros is None else format_micros(micros)}"


def _action(pair: Pair) -> str:
    if pair.entered is not None:
        return f"{pair.fix:+d} entered as {pair.entered}"
    return f"{pair.fix:+d}" if pair.fix else pair.advice


def _next_steps(report: Report) -> Iterable[str]:
    if report.strange is not None:
        yield report.strange
    if report.unreadable:
        yield "Mend the unreadable lines first: one of them may be what is missing."
    elif report.open_fixes and report.strange is None:
        yield f"Next: the same with --apply enters {report.open_fixes} of them as new entries."
    if report.entered:
        yield f"Corrections entered: {report.entered}; koi ledger check must print difference 0."
    left = sum(1 for pair in report.pairs if pair.differs and not pair.fix)
    if left:
        yield f"Yours to judge: {left} (koi ledger adjust --job … --images … --note …)"
    undecided = report.sum_of(Finding.UNDECIDED).jobs
    if undecided:
        yield f"Jobs so near an end of the bill that the next one will tell: {undecided}."
    if not report.differs:
        yield "The bill and the ledger agree."


def say_report_json(report: Report, currency: str) -> None:
    """Everything, for a script."""
    sums = {finding.value: _sum_record(report.sum_of(finding), currency) for finding in Finding}
    say_json(
        {
            "since": time_text(report.span.since_ms),
            "until": time_text(report.span.until_ms),
            "agrees": not report.differs,
            **sums,
            "unreadable": [
                {"line": line.number, "column": line.heading, "why": line.why}
                for line in report.unreadable
            ],
            "not_asked_for": report.aside,
            "matched_by_time": [_pair_record(pair, currency) for pair in report.how(How.TIME)],
            "differences": [_pair_record(pair, currency) for pair in report.differences],
            "refused": report.strange,
        }
    )


def _sum_record(found: Sum, currency: str) -> dict[str, Any]:
    return {
        "lines": found.lines,
        "jobs": found.jobs,
        "images_billed": found.billed_images,
        "images_charged": found.charged_images,
        "billed": money(found.billed_micros, currency),
        "charged": money(found.charged_micros, currency),
        "lines_without_images": found.uncounted,
    }


def _pair_record(pair: Pair, currency: str) -> dict[str, Any]:
    account = pair.account
    return {
        "finding": pair.finding,
        "how": pair.how,
        "lines": [line.number for line in pair.lines],
        "calls": [call.id for call in pair.calls],
        "job": None if account is None else account.entry.job,
        "user": None if account is None else account.entry.user,
        "model": pair.calls[0].model if account is None else account.entry.model,
        "images_billed": pair.billed_images,
        "images_charged": 0 if account is None else account.images,
        "billed": money(pair.billed_micros, currency),
        "charged": money(0 if account is None else account.micros, currency),
        "fix": pair.fix,
        "entered": pair.entered,
        "advice": pair.advice or None,
    }
