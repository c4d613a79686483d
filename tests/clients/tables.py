"""The figures as Markdown."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.clients.catalog import Client
from tests.clients.scenarios import BY_NAME, Scenario
from tests.clients.trial import Outcome

BEGIN, END = "<!-- clients -->", "<!-- /clients -->"


def long_table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A row for each trial."""
    yield "| Client | Fault | POSTs | Billed | The user sees | Seconds | |"
    yield "|---|---|---|---|---|---|---|"
    for o in outcomes:
        if o.lacks:
            continue
        scenario = BY_NAME[o.scenario]
        saw = o.error or f"{o.pictures} picture{'s' if o.pictures != 1 else ''}"
        saw = saw.replace("|", "/").replace("\n", " ")
        counts = f"{o.posts} | {o.bills} | {saw} | {o.seconds}"
        yield f"| {o.client} | {scenario.title} | {counts} | {'; '.join(o.problems(scenario))} |"


def short_table(
    rows: Sequence[Sequence[Outcome]], clients: Sequence[Client], scenarios: Sequence[Scenario]
) -> Iterator[str]:
    """POSTs/images billed, with a tick for who got the picture; bold breaks the promise."""
    yield "| POSTs/billed | " + " | ".join(scenario.name for scenario in scenarios) + " |"
    yield "|---" * (len(scenarios) + 1) + "|"
    for client, row in zip(clients, rows, strict=True):
        cells = [cell(o, s) for o, s in zip(row, scenarios, strict=True)]
        yield f"| {client.title} | " + " | ".join(cells) + " |"
    yield ""
    legend = "; ".join(f"`{scenario.name}` {scenario.title}" for scenario in scenarios)
    yield f"{legend}. ✓ has the picture, ✗ has none although it could, - no such option."


def cell(outcome: Outcome, scenario: Scenario) -> str:
    if outcome.lacks or outcome.unmeasured:
        return "-"
    text = f"{outcome.posts}/{outcome.bills}"
    if scenario.pictures:
        text += " ✓" if outcome.pictures and not outcome.error else " ✗"
    return f"**{text}**" if outcome.problems(scenario) else text


def put_between_markers(page: Path, lines: Sequence[str]) -> None:
    """Raises ValueError when the page has no markers."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page.name} has no {BEGIN} … {END}")
    page.write_text("\n".join([before + BEGIN, "", *lines, "", END + after]))
