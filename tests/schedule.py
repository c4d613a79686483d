"""The order in which several workers begin: what takes long goes first, spread over all of them.

A worker that has nothing left takes tests from the end of another's queue. What takes long and
stands there would be begun last, and keep one worker busy while the others have nothing to do.
"""

import os
from collections import defaultdict

import pytest

LONG_MODULES = (
    "console/test_operator", "flow/test_faults", "flow/test_collecting", "chaos/test_hang_ups",
    "flow/test_published_schema", "security/test_one_key_one_share", "console/test_holder",
    "adapters/test_ledger_machine", "security/test_roles", "flow/test_cache",
    "flow/test_conformance", "adapters/test_rollups", "security/test_keys",
    "flow/test_ledger_damaged", "flow/test_serve_gateway", "flow/test_gateways_announced",
    "flow/test_webhooks", "flow/test_upstream_limiter", "flow/test_sdk_node",
    "console/test_keyboard", "security/test_canaries", "flow/test_owner", "chaos/test_deploys",
    "security/test_bombs",
)  # fmt: skip
"""More than half a minute each, the longest first."""


def spread_long_modules(items: list[pytest.Item]) -> None:
    """Reorder, the same in every worker. Each begins with an equal part of the list."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    long: dict[str, list[pytest.Item]] = defaultdict(list)
    others: list[pytest.Item] = []
    for item in items:
        module = item.nodeid.partition("::")[0].removeprefix("tests/").removesuffix(".py")
        (long[module] if module in LONG_MODULES else others).append(item)
    size, ordered = len(items) / workers, list[pytest.Item]()
    for worker in range(workers):
        for module in LONG_MODULES[worker::workers]:
            ordered += long[module]
        wanted = max(round(size * (worker + 1)) - len(ordered), 0)
        ordered += others[:wanted]
        del others[:wanted]
    items[:] = ordered + others
