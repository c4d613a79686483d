"""Asks a gateway every statement that can be asked from outside."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.conformance.gate import LAST, PROBES, Gate, NotMeasured, named, words_of

for _module in ("edge", "images", "waiting", "errors"):
    importlib.import_module(f"tests.conformance.probes_{_module}")


@dataclass(frozen=True)
class Finding:
    """`holds` None: it was not measured, and `words` says why; else they say what broke it."""

    holds: bool | None
    words: str = ""

    @property
    def mark(self) -> str:
        return {True: "holds", False: "**does not hold**", None: "not measured"}[self.holds]


def ask(gate: Gate, numbers: Iterable[int], tell: Callable[[str], None]) -> dict[int, Finding]:
    found = {}
    for number in sorted(numbers, key=lambda number: (number in LAST, number)):
        found[number] = _ask(gate, number)
        tell(f"{gate.name} {number}: {found[number].mark} {found[number].words}")
    return found


def _ask(gate: Gate, number: int) -> Finding:
    try:
        gate.fresh()
        PROBES[number](gate)
    except NotMeasured as error:
        return Finding(None, words_of(error))
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is what callers would meet
        return Finding(False, words_of(error) or named(error))
    return Finding(True)


def place_of(number: int) -> str:
    """Where its probe is, empty when only tests prove it."""
    check = PROBES.get(number)
    return f"{check.__module__.replace('.', '/')}.py::{check.__name__}" if check else ""
