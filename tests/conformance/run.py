"""One run of everything: both gateways, the same statements, the same clients and faults."""

import contextlib
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from app.adapters.embedded.store import EmbeddedStore
from app.sandbox.server import Sandbox
from tests.clients.catalog import PROXY, Client
from tests.clients.litellm_proxy import MASTER_KEY, litellm_proxy
from tests.clients.process import Driver
from tests.clients.scenarios import Scenario
from tests.clients.trial import Outcome, play_beside
from tests.conformance.gate import PROBES, SLOW, koi_gate, litellm_gate
from tests.conformance.measure import Finding, ask
from tests.conformance.statements import STATEMENTS

ROOT = Path(__file__).parent.parent.parent
AS_SHIPPED: dict[str, Any] = {
    "task_deadline_s": 900, "upstream_timeout_s": 600, "upstream_poll_interval_s": 2.0,
    "sync_wait_s": None, "collect_wait_s": 30,
}  # fmt: skip
"""For pictures that take minutes."""
Tell = Callable[[str], None]
Findings = dict[int, Finding]


@dataclass(frozen=True)
class Statements:
    """`tests`: the ones that were run, and whether they passed."""

    koi: Findings
    litellm: Findings
    tests: dict[str, bool]

    def of_koi(self, number: int) -> Finding:
        """Its probe and its tests together."""
        statement = STATEMENTS[number - 1]
        failed = [name for name in statement.tests if self.tests.get(name) is False]
        unknown = [name for name in statement.tests if name not in self.tests]
        unasked = Finding(True) if statement.tests else Finding(None, "nothing was asked")
        found = self.koi.get(number, unasked)
        if found.holds and failed:
            return Finding(False, f"{failed[0]} fails")
        if found.holds and unknown:
            return Finding(None, f"{unknown[0]} was not run")
        return found

    def of_litellm(self, number: int) -> Finding:
        inside = Finding(None, "only Koi's own tests can see it")
        return self.litellm.get(number, inside)


def ask_both(tell: Tell) -> Statements:
    """The slow ones run beside the others, on gateways of their own."""
    quick = set(PROBES) - SLOW
    with ThreadPoolExecutor(4) as pool, tempfile.TemporaryDirectory(prefix="koi-") as name:
        folder = Path(name)
        slow = [
            pool.submit(_ask_koi, folder / "slow", {number}, tell, **AS_SHIPPED) for number in SLOW
        ]
        slow_beside = [
            pool.submit(_ask_litellm, folder / f"slow-{number}", {number}, tell) for number in SLOW
        ]
        koi, litellm = (
            _ask_koi(folder / "quick", quick, tell),
            _ask_litellm(folder / "beside", quick, tell),
        )
        tests = run_tests(sorted({test for s in STATEMENTS for test in s.tests}), tell)
        for lane in slow:
            koi |= lane.result()
        for lane in slow_beside:
            litellm |= lane.result()
    return Statements(koi, litellm, tests)


def _ask_koi(folder: Path, numbers: set[int], tell: Tell, **settings: Any) -> Findings:
    with (
        Sandbox(time_scale=0.01) as sandbox,
        EmbeddedStore(folder / f"store-{min(numbers)}") as store,
        koi_gate(sandbox, store.url, folder / f"koi-{min(numbers)}", **settings) as gate,
    ):
        return ask(gate, numbers, tell)


def _ask_litellm(folder: Path, numbers: set[int], tell: Tell) -> Findings:
    if not PROXY.is_ready:
        return dict.fromkeys(numbers, Finding(None, "LiteLLM's proxy could not be installed"))
    try:
        with Sandbox(time_scale=0.01) as sandbox, litellm_gate(sandbox, folder) as gate:
            return ask(gate, numbers, tell)
    except RuntimeError as error:
        return dict.fromkeys(numbers, Finding(None, str(error)[:200]))


def run_tests(names: Sequence[str], tell: Tell) -> dict[str, bool]:
    """By pytest in a process of its own; what was skipped is not in the answer."""
    tell(f"running {len(names)} tests of the suite ...")
    with tempfile.TemporaryDirectory(prefix="koi-") as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        subprocess.run(
            [sys.executable, "-m", "pytest", *options, *names],
            cwd=ROOT, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return _read(report, names)


def _read(report: Path, names: Sequence[str]) -> dict[str, bool]:
    passed: dict[str, bool] = {}
    cases = list(ET.parse(report).iter("testcase")) if report.is_file() else []
    for case in cases:
        if case.find("skipped") is not None:
            continue
        module = case.get("classname", "").replace(".", "/")
        test = case.get("name", "").partition("[")[0]
        good = case.find("failure") is None and case.find("error") is None
        name = f"{module}.py::{test}"
        passed[name] = passed.get(name, True) and good
    return {name: passed[name] for name in names if name in passed}


@contextlib.contextmanager
def _beside(client: Client) -> Iterator[tuple[str, Sandbox, Driver]]:
    with (
        tempfile.TemporaryDirectory(prefix="koi-") as folder,
        Sandbox(time_scale=0.01) as sandbox,
        litellm_proxy(sandbox.url, sandbox.key, Path(folder)) as url,
        Driver(client) as driver,
    ):
        yield url, sandbox, driver


def led_through_litellm(client: Client, scenarios: Sequence[Scenario], tell: Tell) -> list[Outcome]:
    """One client through all scenarios, with LiteLLM's proxy in Koi's place."""
    reason = "LiteLLM's proxy could not be installed"
    if not PROXY.is_ready:
        return [Outcome(client.name, s.name, unmeasured=reason) for s in scenarios]
    try:
        with _beside(client) as (url, sandbox, driver):
            return [_one_beside(url, sandbox, driver, scenario, tell) for scenario in scenarios]
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:100]
        return [Outcome(client.name, s.name, unmeasured=reason) for s in scenarios]


def _one_beside(
    url: str, sandbox: Sandbox, driver: Driver, scenario: Scenario, tell: Tell
) -> Outcome:
    name = driver.client.name
    sandbox.reset()
    try:
        outcome = play_beside((f"{url}/v1", MASTER_KEY), sandbox, driver, scenario)
    except (TimeoutError, RuntimeError, httpx.HTTPError) as error:
        words = f"{type(error).__name__}: {error}"[:120]
        outcome = Outcome(name, scenario.name, sandbox.posts, sandbox.billed_images, error=words)
    tell(f"LiteLLM {name} {scenario.name}: {outcome.posts} POSTs")
    return outcome


def minutes_since(began: float) -> str:
    return f"{(time.monotonic() - began) / 60:.0f} minutes"
