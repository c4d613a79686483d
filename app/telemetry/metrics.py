"""What happens, as numbers for Prometheus."""

import time
from collections.abc import Iterable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.domain.job import Job, JobState, Outcome
from app.domain.ledger import Audit, Census, Collected
from app.domain.money import MICROS
from app.domain.upstream import Traffic
from app.telemetry.meters import PlacedCounter, PlacedGauge, PlacedHistogram, SlotFiles
from app.telemetry.series import SERIES, Axis, Kind, Series
from app.telemetry.slots import claim_slot
from app.telemetry.vocabulary import ALARMING, OPEN_STATES, Family, Vocabulary

log = structlog.get_logger("koi.job")
"""Each step of a job is also one line of the debug level, with its task id."""

Placed = TypeVar("Placed", PlacedCounter, PlacedGauge, PlacedHistogram)

UP = frozenset({"up", "closed"})
FEW = frozenset(
    {Axis.MODEL, Axis.CURRENCY, Axis.CODE, Axis.LOOP, Axis.RECALLED, Axis.ENDING, Axis.EVENT}
)
"""Axes short enough to start every combination at 0, so that a first event is seen as a rise."""


class Metrics:
    """Every series of the gateway; implements the domain's `Recorder` and the edges' hooks.

    Without a directory values live in memory, next to process_* figures of this process. With one
    (several workers) they live in the files of a slot claimed here and each worker renders the
    sum of all; see `app.telemetry.slots`. No method raises for what it is told, except for
    negative amounts.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, vocabulary: Vocabulary, *, directory: Path | None = None) -> None:
        self._vocabulary = vocabulary
        self._files = None if directory is None else SlotFiles(directory, claim_slot(directory))
        own = CollectorRegistry()
        self._counters = self._families(Kind.COUNTER, PlacedCounter, own)
        self._gauges = self._families(Kind.GAUGE, PlacedGauge, own)
        self._histograms = self._families(Kind.HISTOGRAM, PlacedHistogram, own)
        self._source: Collector = own
        if directory is None:
            ProcessCollector(registry=own)
        else:
            self._source = CollectorRegistry()
            MultiProcessCollector(self._source, path=str(directory))  # type: ignore[no-untyped-call]
        self._begin()

    # The edge

    def observe_request(
        self,
        route: str,
        method: str,
        status: int,
        seconds: float,
        overhead_s: float | None,
        cache: str | None = None,
    ) -> None:
        """One answered request; `overhead_s` is None where Koi's own share is not known."""
        self._histograms["request_duration_seconds"].child(route, method, str(status)).observe(
            seconds
        )
        if overhead_s is not None:
            self._histograms["overhead_duration_seconds"].child(route, cache or "none").observe(
                overhead_s
            )

    def in_flight(self, delta: int) -> None:
        self._gauges["in_flight_requests"].child().inc(delta)

    def refused(self, code: str) -> None:
        self._counters["refusals_total"].child(code).inc()

    def steered(self) -> None:
        self._counters["steering_fields_total"].child().inc()

    # The use cases (`app.domain.ports.Recorder`)

    def cached(self, outcome: str, model: str, images: int) -> None:
        self._counters["cache_requests_total"].child(outcome).inc()
        if images:
            self._counters["images_saved_total"].child(model).inc(images)

    def queued(self, seconds: float) -> None:
        log.debug("dispatching", queued_ms=_ms(seconds))
        self._histograms["queue_duration_seconds"].child().observe(seconds)

    def upstream(self, operation: str, outcome: str, seconds: float) -> None:
        log.debug("upstream", operation=operation, outcome=outcome, ms=_ms(seconds))
        self._histograms["upstream_duration_seconds"].child(operation, outcome).observe(seconds)

    def upstream_event(self, event: str) -> None:
        """Something the provider adapter coped with; an unknown status word has its own series."""
        if event == "unknown_status":
            self._counters["upstream_unknown_status_total"].child().inc()
        else:
            self._counters["upstream_events_total"].child(event).inc()

    def settled(self, job: Job, outcome: Outcome) -> None:
        """A job's end. An UNKNOWN job ends for its caller now and for the books later."""
        log.debug(
            "settled",
            task_id=job.id,
            state=outcome.state.name.lower(),
            status=outcome.status,
            billed=outcome.billed,
            pictures=len(outcome.pictures),
            pending=len(outcome.pending),
        )
        if not (outcome.state is JobState.SETTLED and outcome.presumed and not outcome.pictures):
            # A verdict on an UNKNOWN job was timed when its caller was told.
            unknown = outcome.state is JobState.UNKNOWN
            self._time(job, "unknown" if unknown else outcome.status.value)
        counts = {
            "images_delivered_total": len(outcome.pictures),
            "images_billed_total": outcome.billed,
            "images_presumed_total": outcome.presumed,
            "images_surplus_total": outcome.surplus,
            "images_lost_total": outcome.lost,
        }
        for name, images in counts.items():
            if images:
                self._counters[name].child(job.model).inc(images)
        if not outcome.billed:
            return
        if job.unit_micros is None:
            self._counters["images_unpriced_total"].child(job.model).inc(outcome.billed)
        else:
            cost = self._counters["cost_total"].child(job.model, self._vocabulary.currency)
            cost.inc(outcome.billed * job.unit_micros / MICROS)

    def collected(self, done: Collected) -> None:
        """Pictures that came after their job was settled, and images given up."""
        job, model = done.job, done.job.model
        log.debug(
            "collected", task_id=job.id, status=job.status, pictures=done.pictures, lost=done.lost
        )
        if done.pictures:
            self._counters["images_delivered_total"].child(model).inc(done.pictures)
        if done.lost:
            self._counters["images_lost_total"].child(model).inc(done.lost)
        if done.ended:
            self._time(done.job, done.job.status.value)

    def polled(self, late_s: float) -> None:
        self._histograms["poll_lag_seconds"].child().observe(max(late_s, 0.0))

    def polls_waiting(self, polls: int) -> None:
        self._gauges["polls_waiting"].child().set(polls)

    def traffic(self, traffic: Traffic) -> None:
        """Where the provider stands in our way, the same whichever worker looks."""
        self._gauges["upstream_queue_jobs"].child().set(traffic.queued)
        self._gauges["upstream_busy_places"].child().set(traffic.busy)
        self._gauges["upstream_rate_ratio"].child().set(traffic.share)
        self._gauges["upstream_pause_seconds"].child().set(traffic.pause_s)
        for code in ALARMING:
            self._gauges["upstream_breaker_open"].child(code).set(code == traffic.refused)

    def settlement_lost(self) -> None:
        self._counters["settlements_lost_total"].child().inc()

    def payment_failed(self, debt: str, error: Exception) -> None:
        self.loop_failed("debts")
        log.error("payment_failed", debt=debt, exc_info=error)

    def loop_failed(self, loop: str) -> None:
        self._counters["loop_failures_total"].child(loop).inc()

    # The store

    def store_command(self, script: str, outcome: str, seconds: float) -> None:
        self._histograms["store_command_duration_seconds"].child(script, outcome).observe(seconds)

    def store_state(self, state: str) -> None:
        """What the breaker says: "up" (or "closed") while the store answers, else anything."""
        self._gauges["store_up"].child().set(state in UP)

    def publish(self, census: Census) -> None:
        """The open side of the books, the same whichever worker looks."""
        for state in OPEN_STATES:
            self._gauges["jobs"].child(state.name.lower()).set(census.jobs.get(state, 0))
        self._gauges["reservations_held_images"].child().set(census.held_images)
        self._gauges["reservations_held_cost"].child().set(census.held_micros / MICROS)
        self._gauges["jobs_collecting"].child().set(census.collecting)
        self._gauges["oldest_due_seconds"].child().set(max(census.lag_ms, 0) / 1000)

    def publish_audit(self, audit: Audit) -> None:
        self._gauges["ledger_difference"].child().set(audit.difference)
        self._gauges["ledger_audited_timestamp_seconds"].child().set(time.time())

    def publish_books(self, *, intact: bool, journal: bool) -> None:
        self._gauges["ledger_intact"].child().set(intact)
        self._gauges["journal_ready"].child().set(journal)

    def publish_owed(self, owed: int, damaged: int = 0) -> None:
        self._gauges["settlements_owed"].child().set(owed)
        self._gauges["settlements_set_aside"].child().set(damaged)

    def loop_stalled(self, seconds: float) -> None:
        self._histograms["event_loop_stall_seconds"].child().observe(seconds)

    # The scrape

    def render(self) -> bytes:
        """The text exposition format, version 0.0.4; bytes of `content_type`."""
        return generate_latest(_Plain(self._source))

    def close(self) -> None:
        """Let go of a slot's files, last of all: nothing may be counted afterwards."""
        if self._files is not None:
            self._files.close()

    def _time(self, job: Job, ending: str) -> None:
        if job.dispatched_ms is None or job.ended_ms is None:
            return
        seconds = max(job.ended_ms - job.dispatched_ms, 0) / 1000
        self._histograms["generation_duration_seconds"].child(job.model, ending).observe(seconds)

    def _families(
        self, kind: Kind, meter: type[Placed], registry: CollectorRegistry
    ) -> dict[str, Family[Placed]]:
        return {
            series.name: self._family(series, meter, registry)
            for series in SERIES
            if series.kind is kind
        }

    def _family(
        self, series: Series, meter: type[Placed], registry: CollectorRegistry
    ) -> Family[Placed]:
        extra: dict[str, Any] = {"files": self._files}
        if series.kind is Kind.HISTOGRAM:
            extra["buckets"] = series.buckets
        if series.kind is Kind.GAUGE:
            extra["multiprocess_mode"] = series.merge.value
        whole = meter(series.full_name, series.text, series.labels, registry=registry, **extra)
        words = tuple(self._vocabulary.words(axis) for axis in series.axes)
        return Family(partial(_bind, whole), words)

    def _begin(self) -> None:
        """Start what a rise must be seen in, and what a dead predecessor left standing."""
        families: dict[str, Family[Any]] = {**self._counters, **self._histograms}
        for series in SERIES:
            if series.name in families and set(series.axes) <= FEW:
                for values in product(*(self._vocabulary.words(axis) for axis in series.axes)):
                    families[series.name].child(*values)
        for operation, outcome in product(("generate", "submit", "poll"), ALARMING):
            self._histograms["upstream_duration_seconds"].child(operation, outcome)
        self._gauges["in_flight_requests"].child().set(0)
        for well in ("store_up", "ledger_intact", "journal_ready"):
            self._gauges[well].child().set(1)
        self.traffic(Traffic())
        self._gauges["build_info"].child(self._vocabulary.version).set(1)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _bind(whole: Placed, values: tuple[str, ...]) -> Placed:
    return whole.labels(*values) if values else whole


class _Plain(Collector):
    """A source without the `_created` samples, which only the OpenMetrics format can carry."""

    def __init__(self, source: Collector) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        for metric in self._source.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric
