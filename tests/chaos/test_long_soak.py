"""The long soak: every fault at 1 %, two gateways on one store, for an hour or as long as asked.

`make soak MINUTES=60 CSV=soak.csv` prints a line a minute and the figures at the end. Provider and
store are reached through fault proxies; gateways, workers and the store's server are killed.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.sandbox.server import Sandbox
from tests.chaos.endurance import Endurance
from tests.chaos.gateways import Variant, deployed
from tests.chaos.samples import Samples
from tests.chaos.soak import Storm

RATE = 0.01
SETTINGS = {
    "upstream_concurrency": 12,
    "upstream_queue_s": 5,
    "cache_ttl_s": 60,
    "task_ttl_s": 300,
    "image_ttl_days": 0.05,
}
"""Lives short enough to end many times in an hour: what is kept must level off."""
PAIR = Variant("long", ("auto", "sync"), workers=(1, 2), linked=True, settings=SETTINGS)
TASKS = replace(PAIR, name="short", modes=("auto", "auto"), workers=())
"""Sync calls of a killed gateway stay unknown for longer than a short run may take."""


def endures(variant: Variant, storm: Storm, path: Path, csv: Path, **pace: Any) -> Endurance:
    with (
        Sandbox(time_scale=0.05, seed=storm.seed) as sandbox,
        deployed(variant, sandbox, path) as deployment,
    ):
        endurance = Endurance(deployment, storm, Samples(csv), **pace)
        problems = endurance.run()
        report = "\n".join(endurance.report())
    print(report)
    assert not problems, "\n".join([report, *problems[:20]])
    assert set(deployment.exit_codes) <= {0}, report
    return endurance


@pytest.mark.chaos
def test_a_long_soak_at_one_percent_faults_keeps_the_ledger_right_and_grows_nothing(
    seed: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    minutes = float(request.config.getoption("--chaos-minutes"))
    csv = Path(request.config.getoption("--soak-csv") or tmp_path / "samples.csv")
    storm = Storm(
        seed,
        for_s=60 * minutes,
        pause_s=(50, 110),
        callers=16,
        fault_rate=RATE,
        tight=max(40, round(60 * minutes)),
        think_s=2,
    )

    endures(PAIR, storm, tmp_path, csv)
    print(f"  samples in {csv}")


def test_a_short_soak_with_faults_on_every_link_keeps_the_ledger_right(
    seed: int, tmp_path: Path
) -> None:
    storm = Storm(seed, for_s=3, pause_s=(1, 2), callers=8, fault_rate=0.04)

    csv = tmp_path / "samples.csv"
    endurance = endures(TASKS, storm, tmp_path, csv, keys=120, settle_s=2, sample_s=0.5)

    assert endurance.clerk.judged > 0
    rows = csv.read_text().splitlines()
    assert len(rows) == len(endurance.samples.processes) + 1
    assert {row.split(",")[1] for row in rows} >= {"0-auto", "1-auto", "store", "harness"}
