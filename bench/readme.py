"""Writes the measured table and the plot into the README, between its markers."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bench.gateways import GENERATION, HIT, PROFILED, TASK
from bench.grid import number
from bench.ladder import BOUNDS_MS, Ladder
from bench.litellm import LITELLM
from bench.plot import plot
from bench.portkey import PORTKEY
from bench.rounds import Row, ratio
from bench.run import Results
from bench.sizes import REPOSITORY, locked_count, locked_mb
from bench.table import added_ms, rate_within

README = REPOSITORY / "README.md"
PLOT = Path("bench") / "rates.svg"
MARKERS = re.compile(r"(<!-- bench -->\n).*?(<!-- /bench -->)", re.DOTALL)
SAYS = {
    "nginx, forwarding": "**nginx** {nginx}, forwarding only",
    LITELLM: "**LiteLLM** {LiteLLM}, forwarding only",
    PORTKEY: "**Portkey** {Portkey}, forwarding only",
    "Koi, no limits set": "**Koi**, no limits set: recorded, sent, picture kept, settled",
    GENERATION: "**Koi**, all limits set, picture of 60 KB kept",
    "Koi, cache miss": "**Koi**, the same with the cache on",
    HIT: "**Koi**, a cache hit",
    TASK: "**Koi**, as a task of the provider: submit, 3 polls, 60 KB kept",
    GENERATION + PROFILED: "**Koi**, all limits set, on profile-guided Python",
    HIT + PROFILED: "**Koi**, a cache hit, on profile-guided Python",
    TASK + PROFILED: "**Koi**, as a task, on profile-guided Python",
}


def write_readme(results: Results, machine: Mapping[str, Any]) -> None:
    """Leaves the README alone when it has no markers or nothing was compared."""
    text = README.read_text()
    if not results.rows or not MARKERS.search(text):
        print("The README is as it was: it has no markers, or nothing was compared.")
        return
    section = "\n\n".join(part for part in _parts(results, machine) if part)
    README.write_text(MARKERS.sub(lambda found: f"{found[1]}\n{section}\n\n{found[2]}", text))
    if results.ladders:
        (REPOSITORY / PLOT).write_text(plot(results.ladders))
    print(f"README.md and {PLOT} hold these numbers now.")


def _parts(results: Results, machine: Mapping[str, Any]) -> list[str]:
    rows = {row.target.name: row for row in results.rows}
    return [
        _how(machine),
        _table(results, rows),
        f"![p99 by requests a second]({PLOT})" if results.ladders else "",
        _cheap(rows),
        _times(rows),
        _memory(results),
        *(_crowd(results)),
    ]


def _how(machine: Mapping[str, Any]) -> str:
    return (
        f"Measured by `make bench README=1` on {machine['cores']} shared cores, Python "
        f"{machine['python']}, {machine['when'][:10]}; other programs used "
        f"{machine['others_share']:.0%} of the machine meanwhile. Each gateway, with its store, "
        "has one core; 64 clients, one provider stub, everything in one interleaved run. "
        "Ratios carry over to other machines, absolute numbers do not."
    )


def _table(results: Results, rows: Mapping[str, Row]) -> str:
    bounds = " | ".join(f"p99 ≤ {bound:g} ms" for bound in BOUNDS_MS)
    lines = [
        f"| | requests/s | {bounds} | CPU ms a request: gateway + store | added, one client |",
        "|---|---|" + "---|" * len(BOUNDS_MS) + "---|---|",
    ]
    ladders = {ladder.name: ladder for ladder in results.ladders}
    direct = results.rows[0].middle("alone_p50_ms")
    for name, says in SAYS.items():
        if name in rows:
            said = says.format_map(results.versions)
            lines.append(_line(said, rows[name], ladders.get(name), direct))
    return "\n".join([*lines, "", *results.skipped])


def _line(says: str, row: Row, ladder: Ladder | None, direct_ms: float | None) -> str:
    rates = [rate_within(ladder, bound) if ladder else "" for bound in BOUNDS_MS]
    gateway = (row.middle("main_ms") or 0) + (row.middle("threads_ms") or 0)
    store = row.middle("store_ms")
    cpu = number(gateway, 3) + (f" + {number(store, 3)}" if store else "")
    added = number(added_ms(row, direct_ms), 2)
    cells = (
        says,
        number(row.middle("rps") or None),
        *rates,
        cpu,
        "" if added == "-" else f"{added} ms",
    )
    return "| " + " | ".join(cells) + " |"


def _cheap(rows: Mapping[str, Row]) -> str:
    names = [name for name in rows if name.startswith(("Koi, 4", "Koi, client"))]
    told = (f"{name[5:]} {number(rows[name].middle('cpu_ms'), 3)}" for name in names)
    return f"CPU ms of Koi's cheap answers, store included: {', '.join(told)}." if names else ""


def _times(rows: Mapping[str, Row]) -> str:
    """How much CPU forwarding takes elsewhere, beside what Koi does with its store."""
    told = []
    for ours, called in ((GENERATION, "a governed generation"), (HIT, "a cache hit")):
        for theirs, name in ((LITELLM, "LiteLLM"), (PORTKEY, "Portkey")):
            times = (
                ratio(rows[theirs], rows[ours], "cpu_ms") if {ours, theirs} <= set(rows) else None
            )
            if times:
                told.append(f"{name} takes {times:.1f} times the CPU of {called}")
    return f"Only to forward a request, {'; '.join(told)}." if told else ""


def _memory(results: Results) -> str:
    lines = [
        "| MB resident | idle | loaded | after | store | start to ready |",
        "|---|" + "---|" * 5,
    ]
    for name, memory in results.memory.items():
        values = (memory.idle_mb, memory.loaded_mb, memory.recovered_mb, memory.store_mb or None)
        cells = (name, *(number(value) for value in values), f"{_boot(results, name)} s")
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Production install: {locked_count()} distributions beside Koi, {locked_mb():.0f} MB.",
    ]
    return "\n".join(lines)


def _boot(results: Results, name: str) -> str:
    return number(median(results.boots[name]), 2) if results.boots.get(name) else "-"


def _crowd(results: Results) -> Sequence[str]:
    told = [
        f"{run.name} in flight on one worker: {number(run.added_p50_ms)} ms added at the median, "
        f"{number(run.added_p99_ms)} ms at p99, {run.errors} refused or failed of "
        f"{run.requests + run.errors:,}; {run.most_in_flight:,} at once, {run.rss_mb:.0f} MB, "
        f"{run.kb_each:.0f} KB each; `/livez` p99 {number(run.livez_p99_ms)} ms."
        for run in results.slow
    ]
    tasks = results.tasks
    if tasks:
        told.append(
            f"{tasks.tasks:,} open tasks: {tasks.polls_per_s:,.0f} polls a second, "
            f"{number((tasks.lag or 0) * 100)} % late in the mean, "
            f"{tasks.gateway_cores + tasks.store_cores:.2f} of a core with the store."
        )
    return told
