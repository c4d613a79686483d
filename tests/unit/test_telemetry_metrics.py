"""What the metrics say, and that no caller can make them explode."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.domain.errors import BillingEvidence, FailureNote
from app.domain.images import Picture
from app.domain.job import Job, JobState, Outcome
from app.domain.ledger import CounterDifference, LedgerAudit, OpenJobStats
from app.telemetry.label_values import LabelValues, list_failure_codes
from app.telemetry.metric_specs import METRIC_SPECS
from app.telemetry.metrics import Metrics
from app.telemetry.multiprocess import (
    FILE_KINDS,
    INITIAL_FILE_BYTES,
    claim_worker_number,
    clear_stale_files,
    share_values,
    stop_sharing_values,
)

ROUTE = "/v1/images/generations"
WORDS = LabelValues(
    models=frozenset({"koi-1"}),
    routes=frozenset({ROUTE}),
    scripts=frozenset({"admit"}),
    loops=frozenset({"poller"}),
    version="1.2.3",
)
JOB = Job(
    id="task_1", key_id="k", user="ada", team=None, pool="user:ada", model="koi-1", n=3,
    size="1024x1024", quality="hd", unit_micros=140_000, created_ms=0, dispatched_ms=1_000,
    ended_ms=21_000,
)  # fmt: skip
PICTURES = tuple(Picture(f"img_{i}", "image/png", 1, 1) for i in range(2))


def read(metrics: Metrics, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            if sample.name == f"koi_{name}" and sample.labels == labels:
                return sample.value
    return None


@pytest.fixture
def shared() -> Iterator[Callable[[Path], Metrics]]:
    with ExitStack() as stack:

        def start(directory: Path) -> Metrics:
            metrics = Metrics(WORDS, directory=directory)
            stack.callback(metrics.close)
            return metrics

        yield start


def test_every_series_is_declared_once_and_exported_under_its_declared_name() -> None:
    metrics = Metrics(WORDS)
    use_everything(metrics)

    families = {f.name for f in text_string_to_metric_families(metrics.render().decode())}

    exported = {name for name in families if not name.startswith("process_")}
    assert exported == {series.full_name.removesuffix("_total") for series in METRIC_SPECS}
    assert len({series.name for series in METRIC_SPECS}) == len(METRIC_SPECS)


def use_everything(metrics: Metrics) -> None:
    metrics.observe_request(ROUTE, "POST", 200, 20.0, 0.0004, "miss")
    metrics.in_flight(1)
    metrics.refused("insufficient_quota")
    metrics.egress_override()
    metrics.cached("hit", "koi-1", 2)
    metrics.queued(0.01)
    metrics.upstream("submit", "ok", 0.3)
    metrics.upstream_event("unknown_status")
    metrics.upstream_event("reattempt")
    metrics.settled(JOB, Outcome(JobState.SETTLED, pictures=PICTURES, billed=2, surplus=1))
    metrics.settled(replace(JOB, unit_micros=None), Outcome(JobState.SETTLED, billed=1, presumed=1))
    metrics.polled(0.2)
    metrics.settlement_lost()
    metrics.loop_failed("poller")
    metrics.store_command("admit", "ok", 0.0004)
    metrics.store_state("up")
    metrics.publish_job_stats(OpenJobStats({JobState.DISPATCHED: 4}, 5, 700_000, 1_500))
    metrics.publish_audit(LedgerAudit(9, 4, 3, ()))
    metrics.loop_stalled(0.02)


def test_a_partial_success_counts_what_was_delivered_billed_and_what_it_cost() -> None:
    metrics = Metrics(WORDS)

    metrics.settled(JOB, Outcome(JobState.SETTLED, pictures=PICTURES, billed=2, surplus=1))

    assert read(metrics, "images_delivered_total", model="koi-1") == 2
    assert read(metrics, "images_billed_total", model="koi-1") == 2
    assert read(metrics, "images_surplus_total", model="koi-1") == 1
    assert read(metrics, "cost_total", model="koi-1", currency="CNY") == pytest.approx(0.28)
    assert read(metrics, "images_unpriced_total", model="koi-1") == 0
    took = read(metrics, "generation_duration_seconds_sum", model="koi-1", status="completed")
    assert took == 20


def test_an_unknown_price_is_counted_as_unknown_and_never_as_free() -> None:
    metrics = Metrics(WORDS)

    metrics.settled(replace(JOB, unit_micros=None), Outcome(JobState.SETTLED, billed=2))

    assert read(metrics, "images_unpriced_total", model="koi-1") == 2
    assert read(metrics, "cost_total", model="koi-1", currency="CNY") == 0


def test_an_ambiguous_job_is_timed_once_and_billed_when_it_is_presumed() -> None:
    metrics = Metrics(WORDS)
    note = FailureNote("upstream_ambiguous", "?", charged=True)

    metrics.settled(JOB, Outcome(JobState.UNKNOWN, proof=BillingEvidence.UNKNOWN, failure=note))
    metrics.settled(JOB, Outcome(JobState.SETTLED, billed=3, presumed=3, failure=note))

    assert read(metrics, "images_presumed_total", model="koi-1") == 3
    counts = [
        read(metrics, "generation_duration_seconds_count", model="koi-1", status=status)
        for status in ("unknown", "failed", "completed")
    ]
    assert counts == [1, 0, 0]


def test_a_job_that_was_never_dispatched_is_not_timed() -> None:
    metrics = Metrics(WORDS)

    metrics.settled(replace(JOB, dispatched_ms=None), Outcome(JobState.RELEASED))

    name = "generation_duration_seconds_count"
    assert read(metrics, name, model="koi-1", status="completed") == 0


def test_words_outside_the_closed_sets_collapse_into_other() -> None:
    metrics = Metrics(WORDS)
    before = len(metrics.render())

    for i in range(5_000):
        metrics.observe_request(f"/nope/{i}", f"BREW{i}", 999, 0.1, 0.1, f"odd{i}")
        metrics.refused(f"code_{i}")
        metrics.cached(f"odd{i}", f"model-{i}", 1)
        metrics.upstream(f"op{i}", f"out{i}", 1)
        metrics.store_command(f"script{i}", "ok", 0.1)

    assert len(metrics.render()) - before < 15_000
    other = {"route": "other", "method": "other", "status": "other"}
    assert read(metrics, "request_duration_seconds_count", **other) == 5_000
    assert read(metrics, "images_saved_total", model="other") == 5_000


def test_a_refusal_is_visible_as_a_rise_from_zero() -> None:
    metrics = Metrics(WORDS)

    assert {read(metrics, "refusals_total", code=code) for code in list_failure_codes()} == {0}
    assert read(metrics, "settlements_lost_total") == 0
    name = "upstream_duration_seconds_count"
    assert read(metrics, name, operation="submit", outcome="upstream_billing") == 0


def test_the_open_jobs_and_the_audit_are_published_as_they_are() -> None:
    metrics = Metrics(WORDS)

    metrics.publish_job_stats(OpenJobStats({JobState.DISPATCHED: 4}, 5, 700_000, 1_500))
    metrics.publish_audit(
        LedgerAudit(1, 1, 1, (CounterDifference("user:ada", "2026-11", "images", 3, 5),))
    )

    assert read(metrics, "jobs", state="dispatched") == 4
    assert read(metrics, "jobs", state="reserved") == 0
    assert read(metrics, "reservations_held_images") == 5
    assert read(metrics, "reservations_held_cost") == pytest.approx(0.7)
    assert read(metrics, "oldest_due_seconds") == 1.5
    assert read(metrics, "ledger_difference") == 2


@pytest.mark.parametrize(("state", "up"), [("up", 1), ("closed", 1), ("open", 0), ("down", 0)])
def test_the_store_is_up_only_while_the_breaker_says_so(state: str, up: int) -> None:
    metrics = Metrics(WORDS)

    metrics.store_state(state)

    assert read(metrics, "store_up") == up


def test_two_instances_share_nothing() -> None:
    one, two = Metrics(WORDS), Metrics(WORDS)

    one.settlement_lost()

    assert read(one, "settlements_lost_total") == 1
    assert read(two, "settlements_lost_total") == 0


WORKER = """
import sys, time
from pathlib import Path
from app.domain.ledger import OpenJobStats
from app.telemetry.metrics import Metrics
from app.telemetry.label_values import LabelValues
route = "/v1/images/generations"
metrics = Metrics(LabelValues(routes=frozenset({route})), directory=Path(sys.argv[1]))
for _ in range(100):
    metrics.settlement_lost()
metrics.in_flight(+7)
metrics.observe_request(route, "POST", 200, 20.0, 0.0004, "miss")
metrics.publish_job_stats(OpenJobStats({}, 5, 0, 0))
metrics.store_state("open")
print("ready", flush=True)
time.sleep(60)
"""


@contextmanager
def working(directory: Path) -> Iterator[None]:
    """Another worker on the directory, which has counted and is killed at the end."""
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(directory)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        yield
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.communicate()


def test_workers_add_up_what_they_did_but_not_what_they_saw(
    tmp_path: Path, shared: Callable[[Path], Metrics]
) -> None:
    with working(tmp_path):
        two = shared(tmp_path)
        two.settlement_lost()
        two.in_flight(+1)
        two.observe_request(ROUTE, "POST", 200, 20.0, 0.0004, "miss")
        two.publish_job_stats(OpenJobStats({}, 6, 0, 0))

        assert read(two, "settlements_lost_total") == 101
        assert read(two, "in_flight_requests") == 8
        whole = {"route": ROUTE, "method": "POST", "status": "200"}
        assert read(two, "request_duration_seconds_count", **whole) == 2
        assert read(two, "reservations_held_images") == 6
        assert read(two, "store_up") == 0
        assert read(two, "build_info", version="1.2.3") == 1
    assert len(list(tmp_path.glob("counter_*.db"))) == 2


def test_a_full_disk_fails_at_the_start_and_not_while_counting(tmp_path: Path) -> None:
    """Every byte of a new file is written: a page of a sparse one may find no room when it is
    first counted in, which kills the process."""
    share_values(tmp_path)
    stop_sharing_values()

    files = list(tmp_path.glob("*.db"))
    assert len(files) == len(FILE_KINDS)
    for file in files:
        assert file.stat().st_blocks * 512 >= file.stat().st_size >= INITIAL_FILE_BYTES


def test_a_killed_worker_s_counts_survive_and_its_open_requests_do_not(
    tmp_path: Path, shared: Callable[[Path], Metrics]
) -> None:
    for _ in range(2):
        with working(tmp_path):
            pass

    replaced = shared(tmp_path)

    assert read(replaced, "settlements_lost_total") == 200
    assert read(replaced, "in_flight_requests") == 0
    assert read(replaced, "store_up") == 1
    assert len(list(tmp_path.glob("counter_*.db"))) == 1


def test_slots_are_numbered_from_the_lowest_free_one(tmp_path: Path) -> None:
    assert [claim_worker_number(tmp_path), claim_worker_number(tmp_path)] == [0, 1]


def test_preparing_a_directory_forgets_dead_slots_and_spares_living_ones(
    tmp_path: Path, shared: Callable[[Path], Metrics]
) -> None:
    living = shared(tmp_path)
    living.settlement_lost()
    (tmp_path / "slot-1.lock").touch()
    (tmp_path / "counter_1.db").write_bytes(bytes(4096))

    clear_stale_files(tmp_path)

    assert not (tmp_path / "counter_1.db").exists()
    assert read(living, "settlements_lost_total") == 1


def test_a_worker_s_files_are_private_to_its_user(tmp_path: Path) -> None:
    directory = tmp_path / "metrics"

    clear_stale_files(directory)

    assert os.stat(directory).st_mode & 0o077 == 0
