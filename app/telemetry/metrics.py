"""Every event that Koi counts or measures, exported for Prometheus."""

import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from app.domain.job import OPEN_STATES, Job, JobState, Outcome
from app.domain.ledger import CollectionResult, LedgerAudit, OpenJobStats
from app.domain.money import MICROS_PER_UNIT
from app.domain.upstream import UpstreamTraffic
from app.telemetry.label_values import BREAKER_CODES, LabelledMetric, LabelValues
from app.telemetry.lean_meters import LeanCounter, LeanGauge, LeanHistogram
from app.telemetry.metric_specs import METRIC_SPECS, Label, MetricKind, MetricSpec
from app.telemetry.multiprocess import WithoutCreated, share_values, stop_sharing_values

log = structlog.get_logger("koi.job")
"""Each step of a job is also logged at debug level, with its task id."""

AnyMetric = TypeVar("AnyMetric", LeanCounter, LeanGauge, LeanHistogram)

UP_STATES = frozenset({"up", "closed"})
PREINITIALISED = frozenset(
    {
        Label.MODEL, Label.CURRENCY, Label.CODE, Label.LOOP, Label.RECALLED, Label.ENDING,
        Label.EVENT, Label.MESSAGE, Label.DELIVERY,
    }
)  # fmt: skip
"""Labels with so few values that every combination starts at 0: then the first event is a rise."""


class Metrics:
    """Every series of the gateway; implements the domain's `Recorder` and the adapters' hooks.

    Without a directory, values are in memory, beside the process_* figures of this process. With
    one (several workers) they are in files there, and each worker renders the sum of all; a process
    may have only one such object, see `app.telemetry.multiprocess`. No method raises for its
    arguments, except for negative amounts.
    """

    content_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, label_values: LabelValues, *, directory: Path | None = None) -> None:
        self._label_values = label_values
        self._is_shared = directory is not None
        if directory is not None:
            share_values(directory)
        own = CollectorRegistry()
        self._counters = self._build_metrics(MetricKind.COUNTER, LeanCounter, own)
        self._gauges = self._build_metrics(MetricKind.GAUGE, LeanGauge, own)
        self._histograms = self._build_metrics(MetricKind.HISTOGRAM, LeanHistogram, own)
        self._source: Collector = own
        if directory is None:
            ProcessCollector(registry=own)
        else:
            self._source = CollectorRegistry()
            MultiProcessCollector(self._source, path=str(directory))  # type: ignore[no-untyped-call]
        self._in_flight = self._gauges["in_flight_requests"].child()
        self._initialise()

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
        """One answered request; `overhead_s` is None when Koi's own share is not known."""
        self._histograms["request_duration_seconds"].child(route, method, str(status)).observe(
            seconds
        )
        if overhead_s is not None:
            self._histograms["overhead_duration_seconds"].child(route, cache or "none").observe(
                overhead_s
            )

    def in_flight(self, delta: int) -> None:
        self._in_flight.inc(delta)

    def refused(self, code: str) -> None:
        self._counters["refusals_total"].child(code).inc()

    def egress_override(self) -> None:
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
        """An oddity that the provider adapter handled; unknown statuses have their own series."""
        if event == "unknown_status":
            self._counters["upstream_unknown_status_total"].child().inc()
        else:
            self._counters["upstream_events_total"].child(event).inc()

    def settled(self, job: Job, outcome: Outcome) -> None:
        """A job's end. An UNKNOWN job ends for its caller now, and in the ledger later."""
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
            # An UNKNOWN job that is settled later was timed when its caller got the answer.
            unknown = outcome.state is JobState.UNKNOWN
            self._observe_duration(job, "unknown" if unknown else outcome.status.value)
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
            cost = self._counters["cost_total"].child(job.model, self._label_values.currency)
            cost.inc(outcome.billed * job.unit_micros / MICROS_PER_UNIT)

    def record_collection(self, done: CollectionResult) -> None:
        """Images downloaded after their job was settled, and images given up."""
        job, model = done.job, done.job.model
        log.debug(
            "collected", task_id=job.id, status=job.status, pictures=done.pictures, lost=done.lost
        )
        if done.pictures:
            self._counters["images_delivered_total"].child(model).inc(done.pictures)
        if done.lost:
            self._counters["images_lost_total"].child(model).inc(done.lost)
        if done.ended:
            self._observe_duration(done.job, done.job.status.value)

    def polled(self, late_s: float) -> None:
        self._histograms["poll_lag_seconds"].child().observe(max(late_s, 0.0))

    def polls_waiting(self, polls: int) -> None:
        self._gauges["polls_waiting"].child().set(polls)

    def traffic(self, provider: str, traffic: UpstreamTraffic) -> None:
        """Queue, slots, rate and breaker at one provider; the same for every worker."""
        self._gauges["upstream_queue_jobs"].child(provider).set(traffic.queued)
        self._gauges["upstream_busy_places"].child(provider).set(traffic.busy)
        self._gauges["upstream_rate_ratio"].child(provider).set(traffic.share)
        self._gauges["upstream_pause_seconds"].child(provider).set(traffic.pause_s)
        for code in BREAKER_CODES:
            opened = code == traffic.refused
            self._gauges["upstream_breaker_open"].child(code, provider).set(opened)

    def settlement_lost(self) -> None:
        self._counters["settlements_lost_total"].child().inc()

    def delivery_tried(self, kind: str, outcome: str) -> None:
        self._counters["deliveries_total"].child(kind, outcome).inc()

    def outbox_delivery_failed(self, message_name: str, error: Exception) -> None:
        self.loop_failed("debts")
        log.error("outbox_delivery_failed", message_name=message_name, exc_info=error)

    def loop_failed(self, loop: str) -> None:
        self._counters["loop_failures_total"].child(loop).inc()

    # The store

    def store_command(self, script: str, outcome: str, seconds: float) -> None:
        self._histograms["store_command_duration_seconds"].child(script, outcome).observe(seconds)

    def store_state(self, state: str) -> None:
        """The state of the store's breaker: "up" (or "closed") while the store answers."""
        self._gauges["store_up"].child().set(state in UP_STATES)

    def publish_job_stats(self, stats: OpenJobStats) -> None:
        """The open jobs and what they hold; the same for every worker."""
        for state in OPEN_STATES:
            self._gauges["jobs"].child(state.name.lower()).set(stats.jobs.get(state, 0))
        self._gauges["reservations_held_images"].child().set(stats.held_images)
        self._gauges["reservations_held_cost"].child().set(stats.held_micros / MICROS_PER_UNIT)
        self._gauges["jobs_collecting"].child().set(stats.collecting)
        self._gauges["oldest_due_seconds"].child().set(max(stats.lag_ms, 0) / 1000)

    def publish_audit(self, audit: LedgerAudit) -> None:
        self._gauges["ledger_difference"].child().set(audit.difference)
        self._gauges["ledger_audited_timestamp_seconds"].child().set(time.time())

    def publish_health(self, *, intact: bool, journal: bool) -> None:
        self._gauges["ledger_intact"].child().set(intact)
        self._gauges["journal_ready"].child().set(journal)

    def publish_outbox(self, owed: int, damaged: int = 0) -> None:
        self._gauges["settlements_owed"].child().set(owed)
        self._gauges["settlements_set_aside"].child().set(damaged)

    def loop_stalled(self, seconds: float) -> None:
        self._histograms["event_loop_stall_seconds"].child().observe(seconds)

    # The scrape

    def render(self) -> bytes:
        """The text exposition format, version 0.0.4; bytes of `content_type`."""
        return generate_latest(WithoutCreated(self._source))

    def close(self) -> None:
        """Close shared files. Call it last: nothing may be counted afterwards."""
        if self._is_shared:
            stop_sharing_values()

    def _observe_duration(self, job: Job, ending: str) -> None:
        if job.dispatched_ms is None or job.ended_ms is None:
            return
        seconds = max(job.ended_ms - job.dispatched_ms, 0) / 1000
        self._histograms["generation_duration_seconds"].child(job.model, ending).observe(seconds)

    def _build_metrics(
        self, kind: MetricKind, meter: type[AnyMetric], registry: CollectorRegistry
    ) -> dict[str, LabelledMetric[AnyMetric]]:
        return {
            spec.name: self._build_metric(spec, meter, registry)
            for spec in METRIC_SPECS
            if spec.kind is kind
        }

    def _build_metric(
        self, spec: MetricSpec, meter: type[AnyMetric], registry: CollectorRegistry
    ) -> LabelledMetric[AnyMetric]:
        extra: dict[str, Any] = {}
        if spec.kind is MetricKind.HISTOGRAM:
            extra["buckets"] = spec.buckets
        if spec.kind is MetricKind.GAUGE:
            extra["multiprocess_mode"] = spec.merge.value
        metric = meter(spec.full_name, spec.help_text, spec.labels, registry=registry, **extra)
        allowed = tuple(self._label_values.allowed(label) for label in spec.label_set)
        return LabelledMetric(partial(_bind_labels, metric), allowed)

    def _initialise(self) -> None:
        """Create series whose first rise matters, and reset gauges that a dead worker left."""
        families: dict[str, LabelledMetric[Any]] = {**self._counters, **self._histograms}
        for spec in METRIC_SPECS:
            if spec.name in families and set(spec.label_set) <= PREINITIALISED:
                for values in product(
                    *(self._label_values.allowed(label) for label in spec.label_set)
                ):
                    families[spec.name].child(*values)
        for operation, outcome in product(("generate", "submit", "poll"), BREAKER_CODES):
            self._histograms["upstream_duration_seconds"].child(operation, outcome)
        self._gauges["in_flight_requests"].child().set(0)
        for well in ("store_up", "ledger_intact", "journal_ready"):
            self._gauges[well].child().set(1)
        for provider in self._label_values.providers:
            self.traffic(provider, UpstreamTraffic())
        self._gauges["build_info"].child(self._label_values.version).set(1)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def _bind_labels(metric: AnyMetric, values: tuple[str, ...]) -> AnyMetric:
    return metric.labels(*values) if values else metric
