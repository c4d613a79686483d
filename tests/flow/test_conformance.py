"""deploy/CONFORMANCE.md says what is: the statements are asked again, and the two SDKs of the suite
are led through the faults again. `make clients` writes the page."""

import importlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.adapters.embedded.store import EmbeddedStore
from tests.clients.catalog import HERE, HOUSE, Client
from tests.clients.process import Driver
from tests.clients.scenarios import BY_NAME
from tests.clients.trial import play
from tests.conformance.gate import PROBES, SLOW, Gate, koi_gate
from tests.conformance.measure import Finding, ask
from tests.conformance.page import PAGE, fault_on, shown, statements_on
from tests.conformance.statements import STATEMENTS
from tests.flow.conftest import Start
from tests.flow.test_sdk_node import NODE
from tests.harness import quick_sandbox

TEXT = PAGE.read_text(encoding="utf-8")
SCENARIOS = ("ok", "500", "502", "reset", "n3", "moderation", "quota", "hang-up")
"""Those that need no settings of their own and no long wait."""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    folder = tmp_path_factory.mktemp("conformance")
    with (
        quick_sandbox() as sandbox,
        EmbeddedStore(folder / "store") as store,
        koi_gate(sandbox, store.url, folder / "koi") as gate,
    ):
        yield gate


def differing(found: dict[int, Finding]) -> dict[int, str]:
    told = statements_on(TEXT)
    return {
        number: f"{finding.mark} {finding.words}; the page: {told[number]}"
        for number, finding in found.items()
        if not told[number].startswith(finding.mark)
    }


def test_the_page_says_of_each_statement_what_its_probe_finds(gate: Gate) -> None:
    found = ask(gate, set(PROBES) - SLOW, print)
    # On a busy machine a moment may have been too long.
    again = ask(gate, differing(found), print)

    assert differing(found | again) == {}


def test_each_statement_is_on_the_page_with_a_probe_or_tests_that_exist() -> None:
    told = statements_on(TEXT)
    for statement in STATEMENTS:
        assert statement.words in TEXT
        assert statement.number in told
        assert statement.tests or statement.number in PROBES
        for test in statement.tests:
            path, _, name = test.partition("::")
            module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
            assert hasattr(module, name), test


def node_of_the_suite(folder: Path) -> Client:
    """The driver beside the packages of tests/sdk/node, whose version names the row."""
    for name in ("openai_node.mjs", "line.mjs"):
        shutil.copy(HERE / "drivers" / name, folder)
    (folder / "node_modules").symlink_to(NODE / "node_modules")
    version = json.loads((NODE / "node_modules/openai/package.json").read_text())["version"]
    return Client("openai-node", f"openai-node {version}", str(folder), "openai_node.mjs")


@pytest.mark.parametrize("sdk", ["python", "node"])
def test_the_page_says_of_each_fault_what_the_sdk_of_the_suite_meets(
    start: Start, tmp_path: Path, sdk: str
) -> None:
    if sdk == "node" and not (shutil.which("node") and (NODE / "node_modules/openai").is_dir()):
        pytest.skip("needs node, and npm ci in tests/sdk/node")
    client = HOUSE if sdk == "python" else node_of_the_suite(tmp_path)
    koi, told, found = start(), {}, {}
    with Driver(client) as driver:
        for name in SCENARIOS:
            scenario = BY_NAME[name]
            koi.sandbox.set(fault_rate=0.0, latency_s=0.2)
            told[name] = fault_on(TEXT, scenario, client.title)
            found[name] = shown(scenario, play(koi, driver, scenario))

    assert found == told
