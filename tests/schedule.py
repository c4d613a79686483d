"""The order in which several workers begin: what takes long goes first, spread over all of them.

A worker that has nothing left takes tests from the end of another's queue. What takes long and
stands there would be begun last, and keep one worker busy while the others have nothing to do.
"""

import os
from collections import defaultdict

import pytest

LONG_MODULES = (
    "flow/test_collecting", "flow/test_faults", "chaos/test_hang_ups", "console/test_operator",
    "flow/test_cache", "flow/test_published_schema", "security/test_one_key_one_share",
    "flow/test_ledger_damaged", "adapters/test_rollups", "flow/test_upstream_limiter",
    "flow/test_quota", "security/test_canaries", "flow/test_conformance",
    "adapters/test_ledger_machine", "flow/test_serve_gateway", "console/test_holder",
    "adapters/test_embedded_store", "chaos/test_steps", "flow/test_crash", "flow/test_clients",
    "chaos/test_deploys", "flow/test_store_clock", "flow/test_sdk_python", "flow/test_backup",
    "flow/test_shares", "flow/test_probe", "flow/test_owner", "flow/test_webhooks",
    "flow/test_admin_scopes", "flow/test_attribution", "flow/test_generate",
    "flow/test_store_faults", "flow/test_store_failover", "chaos/test_races", "flow/test_sdk_node",
    "flow/test_edits_refused", "flow/test_cli_cold_start", "console/test_keyboard",
    "flow/test_full_disk", "flow/test_pictures", "adapters/test_images_fetch",
    "chaos/test_quota_processes", "security/test_bombs", "chaos/test_long_soak", "chaos/test_soak",
    "chaos/test_poller_scale",
)  # fmt: skip
"""25 seconds or more each, or a test of more than 13; the longest first."""


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
