"""Results as text for people."""

from collections.abc import Iterable, Mapping, Sequence

from bench.grid import grid, number
from bench.ladder import BOUNDS_MS, Ladder
from bench.memory import Memory
from bench.open_tasks import OpenTasks
from bench.rounds import Row
from bench.slow import SlowRun
from bench.verdicts import Verdict

HEADINGS = (
    *("target", "req/s", "CPU ms/req", "main", "threads", "store", "p50 ms", "p99 ms"),
    *("c1 p50 ms", "added c1", "errors", "upstream POSTs/req"),
)


def rows_table(rows: Sequence[Row]) -> str:
    """The table. Its first row is the stub alone, from which "added" is counted."""
    direct = rows[0].middle("alone_p50_ms")
    return grid([HEADINGS, *(_cells(row, direct) for row in rows)])


def _cells(row: Row, direct_ms: float | None) -> tuple[str, ...]:
    alone = row.middle("alone_p50_ms")
    return (
        row.target.name,
        number(row.middle("rps") or None),
        number(row.middle("cpu_ms"), 3),
        number(row.middle("main_ms"), 3),
        number(row.middle("threads_ms") or None, 3),
        number(row.middle("store_ms") or None, 3),
        number(row.middle("p50_ms"), 1),
        number(row.middle("p99_ms"), 1),
        number(alone, 2),
        number(added_ms(row, direct_ms), 2),
        number(row.total("errors")),
        number(row.posts_each, 3),
    )


def added_ms(row: Row, direct_ms: float | None) -> float | None:
    """What one client waits longer than at the stub."""
    alone = row.middle("alone_p50_ms")
    return None if alone is None or direct_ms is None or not row.target.pid else alone - direct_ms


def ladders_table(ladders: Iterable[Ladder]) -> str:
    headings = ("requests/s at p99", *(f"<= {bound:g} ms" for bound in BOUNDS_MS))
    lines = [(each.name, *(rate_within(each, bound) for bound in BOUNDS_MS)) for each in ladders]
    return grid([headings, *lines])


def rate_within(ladder: Ladder, bound_ms: float) -> str:
    """`>=` when the highest rate that was tried is still within the bound."""
    best = ladder.best(bound_ms)
    if not best:
        return "-"
    highest = ladder.rungs[-1].rate
    return f"{'>= ' if best == highest else ''}{best:,.0f}"


def memory_table(memory: Mapping[str, Memory]) -> str:
    lines = [
        (
            name,
            *(number(value) for value in (each.idle_mb, each.loaded_mb, each.recovered_mb)),
            number(each.store_mb or None),
        )
        for name, each in memory.items()
    ]
    return grid([("resident MB", "idle", "loaded", "after", "store"), *lines])


def slow_lines(slow: SlowRun) -> str:
    return "\n".join(
        (
            f"{slow.name}, one worker",
            f"  {slow.requests} answered, {slow.errors} errors {slow.error_kinds or ''}, "
            f"{slow.most_in_flight} in flight at the peak",
            f"  added: p50 {number(slow.added_p50_ms, 1)} ms, "
            f"p99 {number(slow.added_p99_ms, 1)} ms, worst {number(slow.added_max_ms, 1)} ms "
            f"(stub alone, p99 {number(slow.control_added_p99_ms, 1)} ms); "
            f"/livez p99 {number(slow.livez_p99_ms, 1)} ms",
            f"  peak RSS: gateway {slow.rss_mb:.0f} MB ({slow.kb_each:.0f} KB each), "
            f"store {slow.store_rss_mb:.0f} MB; "
            f"CPU per generation: {slow.cpu_ms:.2f} ms + store {slow.store_cpu_ms:.2f} ms",
        )
    )


def tasks_lines(tasks: OpenTasks) -> str:
    return (
        f"{tasks.tasks} open tasks, {tasks.errors} errors\n"
        f"  {tasks.polls_per_s:,.0f} polls a second; between two polls of a task: "
        f"mean {number(tasks.gap_mean_s, 2)} s, p99 {number(tasks.gap_p99_s, 2)} s "
        f"(lag {number(tasks.lag, 3)})\n"
        f"  cores: gateway {tasks.gateway_cores:.2f}, store {tasks.store_cores:.2f}"
    )


def verdicts_table(verdicts: Iterable[Verdict]) -> str:
    lines = [("target", "wanted", "measured", "")]
    words = {True: "met", False: "MISSED", None: "not measured"}
    for verdict in verdicts:
        measured = "-"
        if verdict.measured is not None:
            measured = f"{number(verdict.measured, 2)} {verdict.unit}".strip()
        lines.append((verdict.target, verdict.wanted, measured, words[verdict.met]))
    return grid(lines)
