"""Two sandboxes behind one gateway: the main provider, and `second` of the catalog."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx

from app.sandbox.account import OTHER_GOOD_KEY
from app.sandbox.server import Sandbox
from tests.flow.test_metering import sample
from tests.harness import PRICED, Koi

GENERATE = "/v1/images/generations"
VARIABLE = "SECOND_API_KEY"
KEYS = {VARIABLE: OTHER_GOOD_KEY}
HERE, THERE = "grok-imagine", "other-image"
"""A model of each. At the second provider, it has the name that the first one has here."""
EDITS_THERE = "other-edits"
"""A model of the second one that takes reference images."""

MODELS = f"""
[[models]]
name = "{THERE}"
provider = "second"
upstream_name = "grok-imagine"
modes = ["async", "sync"]
sizes = ["1024x1024", "1536x1024"]
qualities = ["standard"]
max_n = 10
prices = {{ "*" = "0.14" }}

[[models]]
name = "{EDITS_THERE}"
provider = "second"
upstream_name = "doubao-seedream-4.0"
modes = ["async", "sync"]
sizes = ["1024x1024"]
qualities = ["standard"]
references = 2
prices = {{ "*" = "0.14" }}
"""


def section(url: str, *more: str, name: str = "second") -> str:
    given = (f'name = "{name}"', f'base_url = "{url}"', f'api_key_env = "{VARIABLE}"', *more)
    return "\n".join(("", "[[providers]]", *given, ""))


def write_catalog(path: Path, *tables: str) -> Path:
    """The catalog of the tests with these tables more."""
    path.write_text("\n".join((PRICED.read_text(), *tables)))
    return path


def order(model: str, prompt: str, **more: object) -> dict[str, object]:
    return {"model": model, "prompt": prompt, **more}


def keys_sent(sandbox: Sandbox) -> set[str]:
    """The keys of the requests that the provider got, except for downloads."""
    return {
        dict(one.headers)["authorization"].removeprefix("Bearer ")
        for one in sandbox.requests
        if one.server == "api"
    }


def metric(koi: Koi, name: str, **labels: str) -> float:
    return sample(httpx.get(f"{koi.url}/metrics").text, f"koi_{name}", **labels)


def eventually(check: Callable[[], bool], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def assert_ledger_matches_bills(koi: Koi, bills: Mapping[str | None, Sandbox]) -> None:
    """The entries of each provider sum up to its own bill, and the counters to all of them."""
    audit = koi.settled()
    metered: Counter[str | None] = Counter()
    presumed: Counter[str | None] = Counter()
    for entry in koi.entries():
        metered[entry.provider] += entry.images + entry.surplus
        presumed[entry.provider] += entry.presumed
    assert audit.difference == 0, audit.differences
    assert set(metered) <= set(bills)
    for provider, sandbox in bills.items():
        billed = sandbox.billed_images
        assert metered[provider] - presumed[provider] <= billed <= metered[provider], provider
