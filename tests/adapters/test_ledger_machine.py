"""The ledger against a model of itself, through random histories on a real store.

Longer runs: `pytest --hypothesis-profile=nightly`. The same machine must catch planted bugs, so
that it is known to be able to fail.
"""

import asyncio
from collections.abc import Iterator

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from ledger_machine import LedgerMachine
from ledger_model import Sabotaged, breaking
from store_rig import running

from app.adapters.redis.connection import connect
from app.adapters.redis.loader import load
from tests.store_node import programs

EXAMPLES, STEPS = 1000, 11


@pytest.fixture(scope="module")
def machine() -> Iterator[type[LedgerMachine]]:
    """The machine, bound to one embedded engine and one loop for all its examples."""
    program = programs().get("valkey") or programs()["redis"]
    with (
        running(program) as engine,
        engine.client() as admin,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):

        async def opened() -> Sabotaged:
            return Sabotaged(connect(engine.url, timeout_s=5), timeout_s=5)

        class Bound(LedgerMachine):
            loop = runner.get_loop()
            store = runner.run(opened())
            flush = staticmethod(admin.flushall)

        yield Bound
        runner.run(Bound.store.aclose())


def profile(examples: int) -> settings:
    return settings(
        max_examples=max(examples, settings.default.max_examples if examples == EXAMPLES else 0),
        stateful_step_count=STEPS,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def test_the_ledger_does_what_its_model_does(machine: type[LedgerMachine]) -> None:
    run_state_machine_as_test(machine, settings=profile(EXAMPLES))


PLANTED = {
    "settling without compare-and-set": (
        "settle",
        "if not OPEN[job.state] or job.state == ask.state then",
        "if false then",
    ),
    "settling one window only": (
        "settle",
        "for _, label in ipairs({ job.day, job.month }) do",
        "for _, label in ipairs({ job.month }) do",
    ),
    "admitting without counting what is held": (
        "admit",
        "limit.images_month, m[1], m[3], ask.images",
        "limit.images_month, m[1], 0, ask.images",
    ),
}


@pytest.mark.parametrize(("script", "line", "instead"), PLANTED.values(), ids=PLANTED)
def test_the_machine_catches_a_planted_bug(
    machine: type[LedgerMachine], script: str, line: str, instead: str
) -> None:
    machine.store.broken = breaking(load("ledger")[script], line, instead)
    try:
        with pytest.raises((AssertionError, ExceptionGroup)):
            run_state_machine_as_test(machine, settings=profile(300))
    finally:
        machine.store.broken = None
