"""The ledger against a model of itself, through random histories on a real store.

`make chaos` runs it long. The same machine must catch planted bugs, so that it is known to be able
to fail.
"""

import asyncio
import secrets
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import redis
import uvloop
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import FlakyFailure
from hypothesis.stateful import run_state_machine_as_test
from ledger_machine import LedgerMachine
from ledger_planted import PLANTED, Planted, broken_charging, broken_script
from ledger_world import Sabotaged, Shelf
from store_rig import running

from app.adapters.redis.client.connection import connect
from app.adapters.redis.client.scripts import Script
from app.domain.charging import compute_outcome
from app.domain.ledger import PossibleDuplicate
from tests.store_node import programs

EXAMPLES, SOUGHT, LONG, STEPS = 200, 1000, 5000, 11
NONE = MappingProxyType[str, Script]({})


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[LedgerMachine]]:
    """The machine, bound to one embedded engine and one loop for all its examples."""
    program = programs().get("valkey") or programs()["redis"]
    disks, number = tmp_path_factory.mktemp("journals"), count()
    with (
        running(program) as engine,
        redis.Redis(unix_socket_path=str(engine.socket)) as admin,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):

        async def opened() -> Sabotaged:
            return Sabotaged(connect(engine.url, timeout_s=5), timeout_s=5)

        def disk() -> Path:
            return disks / str(next(number))

        class KeyBinding(LedgerMachine):
            loop = runner.get_loop()
            store = runner.run(opened())
            shelf = Shelf(admin)

        KeyBinding.disk = staticmethod(disk)
        KeyBinding.compute_outcome = staticmethod(compute_outcome)
        yield KeyBinding
        runner.run(KeyBinding.store.aclose())


def profile(examples: int, **options: Any) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        **{"derandomize": True} | options,
    )


def seeded(machine: type[LedgerMachine], number: int) -> type[LedgerMachine]:
    return seed(number)(type("Seeded", (machine,), {}))


def test_the_ledger_does_what_its_model_does(machine: type[LedgerMachine]) -> None:
    run_state_machine_as_test(machine, settings=profile(EXAMPLES))


@pytest.mark.chaos
def test_the_ledger_does_what_its_model_does_for_long(
    machine: type[LedgerMachine], pytestconfig: pytest.Config
) -> None:
    """Half of the examples are the same every time, half are new."""
    drawn = pytestconfig.getoption("--chaos-seed")
    number, began = secrets.randbelow(2**32) if drawn is None else drawn, time.monotonic()
    print(f"\nledger machine: {LONG} examples, seed {number}")
    run_state_machine_as_test(machine, settings=profile(LONG // 2))
    fresh = profile(LONG // 2, derandomize=False)
    run_state_machine_as_test(seeded(machine, number), settings=fresh)
    print(f"ledger machine: no violation, {time.monotonic() - began:.0f} s")


@pytest.mark.parametrize(
    "bug",
    [
        pytest.param(bug, id=name, marks=() if bug.quick else pytest.mark.chaos)
        for name, bug in PLANTED.items()
    ],
)
def test_the_machine_catches_a_planted_bug(machine: type[LedgerMachine], bug: Planted) -> None:
    # On a busy machine a caller may answer too late for the bug to show: then once more.
    assert any(catches(machine, bug) for _ in range(3))


def catches(machine: type[LedgerMachine], bug: Planted) -> bool:
    machine.examples, found = 0, False
    try:
        if bug.script == "compute_outcome":
            machine.compute_outcome = staticmethod(broken_charging(bug))
        else:
            machine.store.broken = broken_script(bug)
        run_state_machine_as_test(machine, settings=profile(SOUGHT))
    except (AssertionError, PossibleDuplicate, FlakyFailure):  # flaky: found, then not again
        found = True
    finally:
        machine.store.broken, machine.compute_outcome = NONE, staticmethod(compute_outcome)
    print(f"\n{machine.examples} examples")
    return found
