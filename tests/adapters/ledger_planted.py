"""Nineteen mistakes that gateways have really made, to be planted.

Each is a line of a script or of the rules of money, and what would stand there instead. The names
say what goes wrong.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from app.adapters.redis.client.scripts import Script, build_script, load_scripts
from app.adapters.redis.keyspace import key
from app.domain import charging


@dataclass(frozen=True)
class Planted:
    """`script` is a script of the ledger, all of them (`*`), or `compute_outcome`; `quick` says
    that few examples find it, so that the ordinary suite plants it too."""

    script: str
    line: str
    instead: str
    quick: bool = False


PLANTED = {
    "settled twice, without compare-and-set": Planted(
        "settle", "if not OPEN[job.state] or job.state == ask.state then", "if false then"
    ),
    "settled in the month only": Planted(
        "settle", "ipairs({ job.day, job.month }) do", "ipairs({ job.month }) do", quick=True,
    ),
    "admitted without counting what is held": Planted(
        "admit", "if limit and used + held + asked > limit", "if limit and used + asked > limit"
    ),
    "released without proof": Planted(
        "settle", "if ask.state == 'X' and job.state ~= 'R' and not disproved then", "if false then"
    ),
    "settled in today's window, not the reservation's": Planted(
        "admit", "'created', int(now_ms), 'day', day.label",
        "'created', int(now_ms), 'day', '2026-11-29'",
    ),
    "a marked retry buys again": Planted(
        "admit", "local joined, undecided, calls = find_duplicate(ask.dedup)",
        "ask.dedup.is_sdk_retry = nil\n"
        "local joined, undecided, calls = find_duplicate(ask.dedup)", quick=True,
    ),
    "a caller who hung up and repeats buys again": Planted(
        "admit", "if job.abandoned or word == 'left'", "if job.abandoned", quick=True,
    ),
    "nobody is asked whether earlier callers are there": Planted(
        "admit", "if not found.lost and #found.doubts > 0", "if false", quick=True,
    ),
    "a failure is bought again by those who repeat it unmarked": Planted(
        "admit", "id = id or found.told", "",
    ),
    "a picture that was received is handed to another": Planted(
        "admit", "if not job.received then found.newest", "if true then found.newest"
    ),
    "an Idempotency-Key answers another body": Planted(
        "admit", "if seen.body ~= dedup.body then return nil, true end", ""
    ),
    "a claimed reservation is still sent": Planted(
        "dispatch", "if job.state ~= 'R' or job.claims then", "if job.state ~= 'R' then"
    ),
    "one task of the provider pays two jobs": Planted(
        "record_part", "if taken and taken ~= mine then", "if false then"
    ),
    "an old copy of the store is believed": Planted(
        "*", f"if lost then redis.call('SET', '{key('suspect')}', ARGV[1]) end\n", "lost = false\n"
    ),
    "the hold leaks when a part was not made": Planted(
        "settle", "images * unit, -n, -n * unit)",
        "images * unit, -ask.billed, -ask.billed * unit)", quick=True,
    ),
    "a correction takes a counter below zero": Planted(
        "adjust", "if sums.images < 0 or sums.micros < 0 then", "if false then"
    ),
    "a rebuild forgets who is still at work": Planted(
        "restore", "if job.due then", "if job.due and whole.state ~= 'D' then", quick=True,
    ),
    "ambiguous parts are free beside delivered ones": Planted(
        "compute_outcome", "billed=made + ambiguous", "billed=made"
    ),
    "surplus is charged to the caller": Planted(
        "compute_outcome", "sum(min(result.images, part.n) for", "sum(result.images for",
        quick=True,
    ),
}  # fmt: skip


def broken_script(bug: Planted) -> dict[str, Script]:
    scripts = load_scripts("ledger")
    names = [n for n in scripts if bug.line in scripts[n].text]
    names = names if bug.script == "*" else [bug.script]
    return {name: build_script(name, replaced(scripts[name].text, bug)) for name in names}


def broken_charging(bug: Planted) -> Callable[..., Any]:
    module = ModuleType("broken_charging")
    text = replaced(inspect.getsource(charging), bug)
    module.__dict__["__name__"] = charging.__name__
    exec(compile(text, "broken charging", "exec"), module.__dict__)
    compute_outcome: Callable[..., Any] = module.compute_outcome
    return compute_outcome


def replaced(text: str, bug: Planted) -> str:
    assert text.count(bug.line) == 1, f"a planted bug has lost its ground: {bug.line}"
    return text.replace(bug.line, bug.instead)
