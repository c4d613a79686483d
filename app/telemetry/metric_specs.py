"""The table of every series Koi exports: names, help, labels and buckets."""

from dataclasses import dataclass
from enum import StrEnum

METRIC_PREFIX = "koi_"


class MetricKind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class GaugeMerge(StrEnum):
    """How the gauges of several workers become one number; counters and histograms add up."""

    SUM = "sum"
    LOWEST = "min"
    HIGHEST = "max"
    LATEST = "mostrecent"
    """For facts about the shared store: each worker reports the same value, so do not add."""


class Label(StrEnum):
    """A closed set of label values. The label's name is the part before the colon."""

    MODEL = "model"
    CURRENCY = "currency"
    ROUTE = "route"
    METHOD = "method"
    STATUS = "status"
    CODE = "code"
    CACHE = "cache"
    STATE = "state"
    LOOP = "loop"
    SCRIPT = "script"
    VERSION = "version"
    EVENT = "event"
    REFUSAL = "code:refusal"
    PROVIDER = "provider"
    OPERATION = "operation"
    ENDING = "status:job"
    RECALLED = "outcome:cache"
    ANSWERED = "outcome:upstream"
    STORED = "outcome:store"
    MESSAGE = "kind"
    DELIVERY = "outcome:delivery"

    @property
    def label_name(self) -> str:
        return self.value.partition(":")[0]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric family; `name` without the prefix."""

    kind: MetricKind
    name: str
    help_text: str
    label_set: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: GaugeMerge = GaugeMerge.SUM

    @property
    def full_name(self) -> str:
        return METRIC_PREFIX + self.name

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(label.label_name for label in self.label_set)


# Generations take 10-120 s, the gateway's own work well under a millisecond.
REQUEST_BUCKETS_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
           10, 15, 20, 30, 45, 60, 90, 120, 180, 300)  # fmt: skip
UPSTREAM_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300)
OVERHEAD_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.0025, 0.005, 0.01, 0.025,
            0.05, 0.1, 0.25, 1)  # fmt: skip
GENERATION_BUCKETS_S = (1, 2.5, 5, 7.5, 10, 12.5, 15, 20, 25, 30, 40, 50, 60, 75, 90, 120, 180, 300,
              600, 900)  # fmt: skip
QUEUE_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
LAG_BUCKETS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
STORE_BUCKETS_S = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
)
STALL_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

A = Label
COUNTER, GAUGE, HISTOGRAM = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM

METRIC_SPECS: tuple[MetricSpec, ...] = (
    MetricSpec(HISTOGRAM, "request_duration_seconds",
               "HTTP requests, first byte in to last byte out",
               (A.ROUTE, A.METHOD, A.STATUS), REQUEST_BUCKETS_S),
    MetricSpec(HISTOGRAM, "overhead_duration_seconds", "Koi's own share of a request",
               (A.ROUTE, A.CACHE), OVERHEAD_BUCKETS_S),
    MetricSpec(GAUGE, "in_flight_requests", "HTTP requests being answered"),
    MetricSpec(COUNTER, "refusals_total", "Error answers, by code", (A.CODE,)),
    MetricSpec(COUNTER, "steering_fields_total",
               "Requests with fields, dropped, that would redirect the upstream call"),
    MetricSpec(COUNTER, "cache_requests_total", "Generations by cache outcome", (A.RECALLED,)),
    MetricSpec(COUNTER, "images_saved_total", "Images not bought thanks to cache or join",
               (A.MODEL,)),
    MetricSpec(HISTOGRAM, "upstream_duration_seconds", "Calls to the provider and image downloads",
               (A.OPERATION, A.ANSWERED), UPSTREAM_BUCKETS_S),
    MetricSpec(COUNTER, "upstream_unknown_status_total", "Provider status words never seen before"),
    MetricSpec(COUNTER, "upstream_events_total", "Oddities of the provider that Koi handled",
               (A.EVENT,)),
    MetricSpec(HISTOGRAM, "queue_duration_seconds", "Admission to dispatch", (), QUEUE_BUCKETS_S),
    MetricSpec(GAUGE, "upstream_queue_jobs", "Jobs waiting for a slot at the provider",
               (A.PROVIDER,), merge=GaugeMerge.LATEST),
    MetricSpec(GAUGE, "upstream_busy_places", "Slots at the provider in use",
               (A.PROVIDER,), merge=GaugeMerge.LATEST),
    MetricSpec(GAUGE, "upstream_rate_ratio",
               "Share of the usual rate that is used after 429s; 1 is all of it",
               (A.PROVIDER,), merge=GaugeMerge.LATEST),
    MetricSpec(GAUGE, "upstream_pause_seconds", "Rest of the pause after a 429",
               (A.PROVIDER,), merge=GaugeMerge.LATEST),
    MetricSpec(GAUGE, "upstream_breaker_open", "1 while the provider keeps refusing key or balance",
               (A.REFUSAL, A.PROVIDER), merge=GaugeMerge.LATEST),
    MetricSpec(GAUGE, "polls_waiting", "Due polls for which the rate has no room",
               merge=GaugeMerge.LATEST),
    MetricSpec(HISTOGRAM, "generation_duration_seconds", "Dispatch to the job's end",
               (A.MODEL, A.ENDING), GENERATION_BUCKETS_S),
    MetricSpec(COUNTER, "images_delivered_total", "Images stored and handed out", (A.MODEL,)),
    MetricSpec(COUNTER, "images_lost_total",
           "Images charged and given up: neither link nor task had them", (A.MODEL,)),
    MetricSpec(COUNTER, "images_billed_total", "Images charged to users", (A.MODEL,)),
    MetricSpec(COUNTER, "images_presumed_total", "Images charged without evidence", (A.MODEL,)),
    MetricSpec(COUNTER, "images_surplus_total", "Images made beyond n, charged to no user",
               (A.MODEL,)),
    MetricSpec(COUNTER, "images_unpriced_total", "Images charged whose price is unknown",
               (A.MODEL,)),
    MetricSpec(COUNTER, "cost_total", "Charged money in whole units of the currency",
               (A.MODEL, A.CURRENCY)),
    MetricSpec(COUNTER, "settlements_lost_total", "Settlements the store did not take at once"),
    MetricSpec(GAUGE, "jobs", "Open jobs by state", (A.STATE,), merge=GaugeMerge.LATEST),
    MetricSpec(GAUGE, "jobs_collecting", "Settled jobs with images still to be downloaded",
               merge=GaugeMerge.LATEST),
    MetricSpec(HISTOGRAM, "poll_lag_seconds", "How late due jobs were polled", (), LAG_BUCKETS_S),
    MetricSpec(GAUGE, "oldest_due_seconds", "How overdue the most overdue job is",
               merge=GaugeMerge.LATEST),
    MetricSpec(GAUGE, "reservations_held_images", "Images held by open jobs",
               merge=GaugeMerge.LATEST),
    MetricSpec(GAUGE, "reservations_held_cost", "Money held by open jobs, in whole currency units",
               merge=GaugeMerge.LATEST),
    MetricSpec(GAUGE, "ledger_difference", "Difference between counters and ledger; must be 0",
               merge=GaugeMerge.LATEST),
    MetricSpec(GAUGE, "ledger_audited_timestamp_seconds",
               "When the ledger was last audited; 0 never",
               merge=GaugeMerge.LATEST),
    MetricSpec(GAUGE, "ledger_intact", "0 once the store has lost data, until it is rebuilt",
               merge=GaugeMerge.LOWEST),
    MetricSpec(GAUGE, "journal_ready", "0 while the journal cannot be written",
               merge=GaugeMerge.LOWEST),
    MetricSpec(GAUGE, "settlements_owed", "Writes kept on disk that the store does not have yet",
               merge=GaugeMerge.HIGHEST),
    MetricSpec(GAUGE, "settlements_set_aside",
               "Of those, files that cannot be read or were refused",
               merge=GaugeMerge.HIGHEST),
    MetricSpec(COUNTER, "deliveries_total",
               "Tries to deliver webhooks and notices, by what they made of the delivery",
               (A.MESSAGE, A.DELIVERY)),
    MetricSpec(GAUGE, "store_up", "1 while the store answers", merge=GaugeMerge.LOWEST),
    MetricSpec(HISTOGRAM, "store_command_duration_seconds", "Store scripts and commands",
               (A.SCRIPT, A.STORED), STORE_BUCKETS_S),
    MetricSpec(COUNTER, "loop_failures_total", "Errors survived by background loops", (A.LOOP,)),
    MetricSpec(HISTOGRAM, "event_loop_stall_seconds", "How late the event loop ran a timer", (),
               STALL_BUCKETS_S),
    MetricSpec(GAUGE, "build_info", "The running version, always 1", (A.VERSION,),
               merge=GaugeMerge.LATEST),
)  # fmt: skip
