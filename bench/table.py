"""Results as text for people."""

from collections.abc import Iterable, Sequence

from bench.rounds import Row
from bench.slow import SlowRun
from bench.verdicts import Verdict

HEADINGS = (
    "target",
    "req/s",
    "CPU ms/req",
    "store CPU",
    "p50 ms",
    "p99 ms",
    "c1 p50 ms",
    "added c1",
    "RSS MB",
    "errors",
    "upstream POSTs/req",
)


def rows_table(rows: Sequence[Row]) -> str:
    """The table. Its first row is the stub alone, from which "added" is counted."""
    direct = rows[0].middle("alone_p50_ms")
    return grid([HEADINGS, *(_cells(row, direct) for row in rows)])


def _cells(row: Row, direct_ms: float | None) -> tuple[str, ...]:
    alone = row.middle("alone_p50_ms")
    added = None if alone is None or direct_ms is None else alone - direct_ms
    requests = row.total("requests")
    return (
        row.target.name,
        number(row.middle("rps")),
        number(row.middle("cpu_ms"), 3),
        number(row.middle("store_cpu_ms") or None, 3),
        number(row.middle("p50_ms"), 1),
        number(row.middle("p99_ms"), 1),
        number(alone, 2),
        number(added if row.target.pid else None, 2),
        number(row.middle("rss_mb")),
        number(row.total("errors")),
        number(row.total("posts") / requests if requests else None, 3),
    )


def slow_lines(slow: SlowRun) -> str:
    return "\n".join(
        (
            f"  {slow.requests} answered, {slow.errors} errors {slow.error_kinds or ''}, "
            f"{slow.most_in_flight} in flight at the peak",
            f"  added to 20 s: p50 {number(slow.added_p50_ms, 1)} ms, "
            f"p99 {number(slow.added_p99_ms, 1)} ms, worst {number(slow.added_max_ms, 1)} ms "
            f"(stub alone, p99 {number(slow.control_added_p99_ms, 1)} ms)",
            f"  peak RSS: gateway {slow.rss_mb:.0f} MB, store {slow.store_rss_mb:.0f} MB; "
            f"CPU per generation: {slow.cpu_ms:.2f} ms + store {slow.store_cpu_ms:.2f} ms",
        )
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


def number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def grid(lines: Sequence[Sequence[str]]) -> str:
    """Align the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
