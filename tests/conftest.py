"""Options of the whole suite, and the stores of every kind; long runs sit out unless asked for."""

import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.deadline import deadline
from tests.plain_logs import configure_plain_logs
from tests.schedule import spread_long_modules
from tests.store_plans import running_topology
from tests.topologies import Topology

# Each client of httpx and each Node loads all public authorities, 40 ms of CPU, and no test asks
# any of them: not those of the machine's own settings either.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "authority.pem")
os.environ.pop("NODE_EXTRA_CA_CERTS", None)
# Without compiled modules every worker would compile all tests anew, and every `koi` all of Koi.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("koi", deadline=None)
hypothesis.settings.load_profile("koi")

DAY_S, NEARLY_OVER_S = 86_400, 15
Topologies = Callable[[str], Topology]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos", "kill -9 at random moments")
    group.addoption(
        "--chaos-minutes", type=float, default=None, help="run the long soaks, so long in all"
    )
    group.addoption(
        "--chaos-seed", type=int, default=None, help="draw the same calls and kills again"
    )
    group.addoption("--soak-csv", default=None, help="where the long soak writes its samples")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    spread_long_modules(items)
    if config.getoption("--chaos-minutes") is not None:
        return
    long = [item for item in items if item.get_closest_marker("chaos") is not None]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_configure() -> None:
    configure_plain_logs()


def pytest_unconfigure() -> None:
    if forks := sys.modules.get("tests.chaos.forks"):
        forks.end_forking()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What collection leaves stays to the end: later searches for garbage pass it by."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    with deadline(item):
        # What a test uses of a day's limit, and reads of it, is to be of the same day.
        if (left_s := DAY_S - time.time() % DAY_S) < NEARLY_OVER_S:
            time.sleep(left_s)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    with deadline(item):
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    with deadline(item):
        yield


@pytest.fixture(scope="session")
def topologies() -> Iterator[Topologies]:
    """A store by its topology's name. One runs at a time: tests ask for the same one in a row."""
    with contextlib.ExitStack() as stack:
        running: dict[str, Topology] = {}

        def named(name: str) -> Topology:
            if name not in running:
                running.clear()
                stack.close()
                running[name] = stack.enter_context(running_topology(name))
            return running[name]

        yield named


@pytest.fixture
def topology(request: pytest.FixtureRequest, topologies: Topologies) -> Topology:
    """The store of the topology named by the parameter, well and empty."""
    found = topologies(request.param)
    found.heal()
    return found
