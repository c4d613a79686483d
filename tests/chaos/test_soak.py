"""kill -9 at random moments, for as long as you like: nothing paid twice, nothing paid lost.

`make chaos MINUTES=10` shares its minutes among the variants; the ordinary run has a short one.
A run names its seed; `--chaos-seed` draws the same calls and the same kills again.
"""

from pathlib import Path

import pytest

from app.sandbox.server import Sandbox
from tests.chaos.calls import End
from tests.chaos.gateways import Variant, deployed
from tests.chaos.soak import Storm, weather
from tests.chaos.verdict import Evidence

VARIANTS = [
    Variant("tasks", ("auto", "auto")),
    Variant("sync", ("sync", "sync")),
    Variant("mixed-and-the-store-dies", ("auto", "sync"), store_dies=True),
    Variant("queued", ("auto", "sync"), settings={"upstream_concurrency": 8}),
    Variant("embedded", ("auto",), embedded=True),
]
MODES = ["auto", "sync"]
GUST_FAULTS = ("500", "502-html", "reset-after-accept", "poll-500")


def survives(variant: Variant, storm: Storm, path: Path) -> Evidence:
    with (
        Sandbox(time_scale=0.05, seed=storm.seed) as sandbox,
        deployed(variant, sandbox, path) as deployment,
    ):
        evidence = weather(deployment, storm)
        line = (
            f"chaos {variant} seed={storm.seed} kills={deployment.kills} "
            f"store_kills={deployment.store_kills} exits={sorted(deployment.exit_codes)} "
            f"{evidence.summary()}"
        )
    print(line)
    problems = evidence.problems()
    assert not problems, "\n".join([line, *problems[:20]])
    assert set(deployment.exit_codes) <= {0}, line
    return evidence


@pytest.mark.chaos
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_a_long_storm_of_kills_costs_nothing_twice_and_loses_nothing(
    variant: Variant, seed: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    survives(variant, Storm(seed, for_s=_share_s(request)), tmp_path)


@pytest.mark.chaos
@pytest.mark.parametrize("mode", MODES)
def test_deploys_under_load_lose_nothing_at_all(
    mode: str, seed: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    patient = {"upstream_timeout_s": 30, "task_deadline_s": 60, "drain_timeout_s": 40}
    variant = Variant(f"deploys-{mode}", (mode, mode), settings=patient)
    # Longer than a server waits for its last answers: only the drain can save these.
    slow = Storm(seed, for_s=_share_s(request), callers=30, fault_rate=0, latency_s=12, gently=True)

    evidence = survives(variant, slow, tmp_path)

    refused = {call.code for call in evidence.calls if call.end is End.REFUSED}
    assert evidence.presumed == 0
    assert refused <= {"insufficient_quota"}


def test_a_gust_of_kills_costs_nothing_twice_and_loses_nothing(seed: int, tmp_path: Path) -> None:
    gust = Storm(seed, for_s=3, pause_s=(0.5, 1.2), callers=10, faults=GUST_FAULTS, tight=6)

    survives(Variant("gust", ("auto", "sync"), settings={"upstream_timeout_s": 2}), gust, tmp_path)


def _share_s(request: pytest.FixtureRequest) -> float:
    """What one run gets of the minutes asked for, in seconds."""
    minutes = float(request.config.getoption("--chaos-minutes"))
    return 60 * minutes / (len(VARIANTS) + len(MODES))
