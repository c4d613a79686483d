"""The figures of `bench/scale.py` as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.grid import grid, number
from bench.tape import Replay

Line = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Throughput:
    """Generations a second of all gateways together; CPU in milliseconds per generation."""

    name: str
    rps: float
    p99_ms: float
    gateway_ms: float
    store_ms: float
    store_share: float
    """Of one core."""
    errors: int


def throughput_lines(rows: Sequence[Throughput]) -> list[Line]:
    headings = ("", "generations/s", "p99 ms", "gateway ms", "store ms", "store's core", "errors")
    return [
        headings,
        *(
            (
                row.name,
                number(row.rps),
                number(row.p99_ms),
                number(row.gateway_ms, 3),
                number(row.store_ms, 3),
                f"{row.store_share:.0%}",
                number(row.errors),
            )
            for row in rows
        ),
    ]


def replay_lines(rows: Sequence[Replay]) -> list[Line]:
    headings = (
        *("under way", "fsync", "generations/s", "commands/s", "store's core"),
        *("CPU ms each", "log KB each", "errors"),
    )
    return [
        headings,
        *(
            (
                str(row.depth),
                row.fsync,
                number(row.generations_per_s),
                number(row.commands_per_s),
                f"{row.cpu_share:.0%}",
                number(row.cpu_ms_each, 3),
                number(row.log_bytes_each / 1024, 1),
                number(row.refused),
            )
            for row in rows
        ),
    ]


def tables(rows: Sequence[Throughput], replays: Sequence[Replay]) -> str:
    told = grid(throughput_lines(rows))
    return f"{told}\n\nWhat one store carries\n\n{grid(replay_lines(replays))}" if replays else told


def saturation(rows: Sequence[Throughput], replays: Sequence[Replay]) -> str:
    """Which step is full first, in CPU: the gateway's process, or the store's one thread."""
    if not rows or not replays:
        return ""
    gateway_ms, store_ms = rows[0].gateway_ms, min(row.cpu_ms_each for row in replays)
    synced = [row for row in replays if row.fsync == "always"]
    best = max(synced, key=lambda row: row.generations_per_s)
    return (
        f"A gateway's core is full at {1000 / gateway_ms:,.0f} generations a second, the store's "
        f"thread at {1000 / store_ms:,.0f}: one store has CPU for {gateway_ms / store_ms:.1f} "
        f"gateway cores. Replayed with every write synced it carried "
        f"{best.generations_per_s:,.0f} a second ({best.depth} under way, "
        f"{best.cpu_share:.0%} of its core; the rest of the time it waited for the disk)."
    )


def markdown(rows: Sequence[Throughput], replays: Sequence[Replay], machine: str) -> str:
    """The section between the markers of deploy/SCALING.md."""
    parts = [
        f"`make bench-scale WRITE=1`, {datetime.now(UTC):%Y-%m-%d}: two shared cores, {machine}.",
        _marked(throughput_lines(rows)),
        _marked(replay_lines(replays)) if replays else "",
        saturation(rows, replays),
    ]
    return "\n\n".join(part for part in parts if part)


def _marked(lines: Sequence[Line]) -> str:
    head, *rest = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([head, "|---" * len(lines[0]) + "|", *rest])
