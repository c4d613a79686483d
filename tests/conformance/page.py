"""`deploy/CONFORMANCE.md`: written from what one run measured, and read again by its test."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.clients.catalog import PROXY
from tests.clients.scenarios import Scenario
from tests.clients.tables import cell
from tests.clients.trial import Outcome
from tests.conformance.measure import Finding, place_of
from tests.conformance.run import ROOT, Statements
from tests.conformance.statements import STATEMENTS

PAGE = ROOT / "deploy" / "CONFORMANCE.md"
HEAD = """# Conformance

What OpenAI's clients rely on, and what each client does when something fails: Koi, and the proxy
of {proxy} in its place, measured by the same code in one run. Written by `make clients` on {date},
in {took} on 2 cores; nothing in the tables is typed. `make test` asks Koi all statements again (but
two that take minutes), drives the two SDKs of the suite through the faults again, and fails when
this page says something else.

LiteLLM runs as its manual says, in its kindest form for this comparison
([`tests/clients/litellm_proxy.py`](../tests/clients/litellm_proxy.py)): told to repeat nothing,
never shutting the provider out, with the model names that clients hard-code, `drop_params` on, and
no database. What would need one is shown as not measured. The provider is Koi's sandbox for both.
"""
STATEMENTS_HEAD = """## {count} statements

Koi: {koi}. LiteLLM: {litellm}.

A statement is proved by its probe, which asks any gateway from outside (`tests/conformance`), by
tests of this suite, or by both. What only Koi's own tests can see is no question to LiteLLM.

| | Statement | Koi | LiteLLM | Proved by |
|---|---|---|---|---|"""
FAULTS_HEAD = """## Faults, client by client

{clients} clients with their defaults, {faults} faults of the provider or of the caller. A cell is
POSTs that reached the provider / images that it billed, for what one user asked once; ✓ who got the
picture, ✗ who could have and did not; **bold** is more than it need cost, or no picture where
there is one; - a client without such an option.
"""


@dataclass(frozen=True)
class Row:
    """One client led through the faults, with both gateways, or why it was not."""

    title: str
    koi: Sequence[Outcome] = ()
    litellm: Sequence[Outcome] = ()
    not_measured: str = ""


def written(
    statements: Statements, rows: Sequence[Row], scenarios: Sequence[Scenario], took: str
) -> str:
    date = datetime.now(UTC).date().isoformat()
    head = HEAD.format(proxy=PROXY.title, date=date, took=took)
    lines = [head, *_statements(statements), "", *_faults(rows, scenarios)]
    return "\n".join(lines) + "\n"


def _statements(found: Statements) -> Iterator[str]:
    numbers = [statement.number for statement in STATEMENTS]
    koi = {number: found.of_koi(number) for number in numbers}
    litellm = {number: found.of_litellm(number) for number in numbers}
    yield STATEMENTS_HEAD.format(count=len(numbers), koi=_count(koi), litellm=_count(litellm))
    group = ""
    for statement in STATEMENTS:
        if statement.group != group:
            group = statement.group
            yield f"| | **{group}** | | | |"
        number = statement.number
        places = [place for place in (place_of(number), *statement.tests) if place]
        proof = ", ".join(_short(place) for place in places)
        marks = f"{_told(koi[number])} | {_told(litellm[number])}"
        yield f"| {number} | {statement.words} | {marks} | {proof} |"


def _told(found: Finding) -> str:
    return f"{found.mark}: {found.words}" if found.words else found.mark


def _count(found: Mapping[int, Finding]) -> str:
    held = sum(finding.holds is True for finding in found.values())
    broken = sum(finding.holds is False for finding in found.values())
    left = len(found) - held - broken
    return f"{held} hold, {broken} do not, {left} not measured"


def _short(place: str) -> str:
    """`tests/flow/test_x.py::test_y` as `flow/test_x::test_y`."""
    return "`" + place.removeprefix("tests/").replace(".py::", "::") + "`"


def _faults(rows: Sequence[Row], scenarios: Sequence[Scenario]) -> Iterator[str]:
    measured = [row for row in rows if not row.not_measured]
    yield FAULTS_HEAD.format(clients=len(measured), faults=len(scenarios))
    for row in rows:
        if row.not_measured:
            yield f"{row.title}: not measured ({row.not_measured})."
    yield from _totals(measured, scenarios)
    yield from _missed(measured, scenarios)
    for index, scenario in enumerate(scenarios):
        yield f"\n### {scenario.name}: {scenario.title}\n"
        yield "| Client | Koi | Its user sees | LiteLLM | Its user sees |"
        yield "|---|---|---|---|---|"
        for row in measured:
            yield fault_line(row.title, scenario, row.koi[index], row.litellm[index])


def fault_line(title: str, scenario: Scenario, koi: Outcome, litellm: Outcome) -> str:
    return f"| {title} | {shown(scenario, koi)} | {shown(scenario, litellm)} |"


def shown(scenario: Scenario, outcome: Outcome) -> str:
    if outcome.unmeasured:
        return f"not measured | {outcome.unmeasured}"
    if outcome.lacks:
        return "- | -"
    pictures = f"{outcome.pictures} picture{'s' if outcome.pictures != 1 else ''}"
    return f"{cell(outcome, scenario)} | {_plain(outcome.error) or pictures}"


def _plain(words: str) -> str:
    """One line, the same in every run."""
    words = re.sub(r"(127\.0\.0\.1|localhost):\d+", "…", " ".join(words.split()))
    words = re.sub(r"\b(req|task)_[0-9a-f]{8,}", r"\1_…", words)
    return words.replace("|", "/")[:100]


def _totals(rows: Sequence[Row], scenarios: Sequence[Scenario]) -> Iterator[str]:
    yield "\nAll clients together: POSTs / images billed.\n"
    yield "| Fault | Calls | Koi | LiteLLM |"
    yield "|---|---|---|---|"
    for index, scenario in enumerate(scenarios):
        pairs = [(row.koi[index], row.litellm[index]) for row in rows]
        both = [(k, t) for k, t in pairs if not (k.lacks or t.lacks or t.unmeasured)]
        if not both:
            continue
        koi, litellm = zip(*both, strict=True)
        yield f"| {scenario.name} | {len(both)} | {_sum(koi)} | {_sum(litellm)} |"


def _missed(rows: Sequence[Row], scenarios: Sequence[Scenario]) -> Iterator[str]:
    """What Koi's users lack all the same."""
    for index, scenario in enumerate(scenarios):
        bold = [row.title for row in rows if row.koi[index].problems(scenario)]
        if bold:
            yield f"\nBold for Koi: {scenario.name} ({scenario.title}) of {', '.join(bold)}."


def _sum(outcomes: Sequence[Outcome]) -> str:
    return f"{sum(o.posts for o in outcomes)} / {sum(o.bills for o in outcomes)}"


def statements_on(page: str) -> dict[int, str]:
    """Number -> what the page says of Koi."""
    rows = re.findall(r"^\| (\d+) \| [^|]+ \| ([^|]+) \|", page, re.MULTILINE)
    return {int(number): told.strip() for number, told in rows}


def fault_on(page: str, scenario: Scenario, title: str) -> str:
    """What the page says of Koi, for one client and one fault; empty when nothing."""
    section = page.partition(f"### {scenario.name}: ")[2].partition("\n### ")[0]
    rows = [line for line in section.splitlines() if line.startswith(f"| {title} |")]
    return " | ".join(rows[0].split(" | ")[1:3]) if rows else ""


def put(text: str, page: Path = PAGE) -> None:
    page.write_text(text, encoding="utf-8")
