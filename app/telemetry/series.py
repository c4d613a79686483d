"""The table of every series Koi exports: names, help, labels and buckets."""

from dataclasses import dataclass
from enum import StrEnum

PREFIX = "koi_"


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Merge(StrEnum):
    """How a gauge of several workers becomes one number; counters and histograms add up."""

    SUM = "sum"
    LOWEST = "min"
    HIGHEST = "max"
    LATEST = "mostrecent"
    """Facts about the shared store: each worker reports the same one, so they must not add up."""


class Axis(StrEnum):
    """A closed set of label values. The label's own name is the part before the colon."""

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
    OPERATION = "operation"
    ENDING = "status:job"
    RECALLED = "outcome:cache"
    ANSWERED = "outcome:upstream"
    STORED = "outcome:store"

    @property
    def label(self) -> str:
        return self.value.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Series:
    """One metric family; `name` without the prefix."""

    kind: Kind
    name: str
    text: str
    axes: tuple[Axis, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: Merge = Merge.SUM

    @property
    def full_name(self) -> str:
        return PREFIX + self.name

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(axis.label for axis in self.axes)


# Generations take 10-120 s, the gateway's own work well under a millisecond.
REQUEST = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
           10, 15, 20, 30, 45, 60, 90, 120, 180, 300)  # fmt: skip
UPSTREAM = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300)
OVERHEAD = (0.0001, 0.00025, 0.0005, 0.00075, 0.001, 0.0015, 0.0025, 0.005, 0.01, 0.025,
            0.05, 0.1, 0.25, 1)  # fmt: skip
GENERATION = (1, 2.5, 5, 7.5, 10, 12.5, 15, 20, 25, 30, 40, 50, 60, 75, 90, 120, 180, 300,
              600, 900)  # fmt: skip
QUEUE = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120)
LAG = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)
STORE = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
STALL = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

A = Axis
COUNTER, GAUGE, HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

SERIES: tuple[Series, ...] = (
    Series(HISTOGRAM, "request_duration_seconds", "HTTP requests, first byte in to last byte out",
           (A.ROUTE, A.METHOD, A.STATUS), REQUEST),
    Series(HISTOGRAM, "overhead_duration_seconds", "Koi's own share of a request",
           (A.ROUTE, A.CACHE), OVERHEAD),
    Series(GAUGE, "in_flight_requests", "HTTP requests being answered"),
    Series(COUNTER, "refusals_total", "Error answers, by code", (A.CODE,)),
    Series(COUNTER, "steering_fields_total", "Request fields dropped for trying to steer egress"),
    Series(COUNTER, "cache_requests_total", "Generations by cache outcome", (A.RECALLED,)),
    Series(COUNTER, "images_saved_total", "Images not bought thanks to cache or join", (A.MODEL,)),
    Series(HISTOGRAM, "upstream_duration_seconds", "Calls to the provider and image downloads",
           (A.OPERATION, A.ANSWERED), UPSTREAM),
    Series(COUNTER, "upstream_unknown_status_total", "Provider status words never seen before"),
    Series(COUNTER, "upstream_events_total", "Oddities of the provider that Koi coped with",
           (A.EVENT,)),
    Series(HISTOGRAM, "queue_duration_seconds", "Admission to dispatch", (), QUEUE),
    Series(GAUGE, "upstream_queue_jobs", "Jobs waiting for a place at the provider",
           merge=Merge.LATEST),
    Series(GAUGE, "upstream_busy_places", "Places at the provider that are taken",
           merge=Merge.LATEST),
    Series(GAUGE, "upstream_rate_ratio", "Share of the usual rate asked for after 429s; 1 is all",
           merge=Merge.LATEST),
    Series(GAUGE, "upstream_pause_seconds", "Rest of the pause after a 429", merge=Merge.LATEST),
    Series(GAUGE, "upstream_breaker_open", "1 while the provider keeps refusing key or balance",
           (A.REFUSAL,), merge=Merge.LATEST),
    Series(GAUGE, "polls_waiting", "Due polls for which the rate has no room",
           merge=Merge.LATEST),
    Series(HISTOGRAM, "generation_duration_seconds", "Dispatch to the job's end",
           (A.MODEL, A.ENDING), GENERATION),
    Series(COUNTER, "images_delivered_total", "Images stored and handed out", (A.MODEL,)),
    Series(COUNTER, "images_lost_total",
           "Images charged and given up: neither link nor task had them", (A.MODEL,)),
    Series(COUNTER, "images_billed_total", "Images charged to users", (A.MODEL,)),
    Series(COUNTER, "images_presumed_total", "Images charged without evidence", (A.MODEL,)),
    Series(COUNTER, "images_surplus_total", "Images made beyond n, on the house", (A.MODEL,)),
    Series(COUNTER, "images_unpriced_total", "Images charged whose price is unknown", (A.MODEL,)),
    Series(COUNTER, "cost_total", "Charged money in whole units of the currency",
           (A.MODEL, A.CURRENCY)),
    Series(COUNTER, "settlements_lost_total", "Settlements the store did not take at once"),
    Series(GAUGE, "jobs", "Open jobs by state", (A.STATE,), merge=Merge.LATEST),
    Series(GAUGE, "jobs_collecting", "Settled jobs with images still to be downloaded",
           merge=Merge.LATEST),
    Series(HISTOGRAM, "poll_lag_seconds", "How late due jobs were taken up", (), LAG),
    Series(GAUGE, "oldest_due_seconds", "How overdue the most overdue job is", merge=Merge.LATEST),
    Series(GAUGE, "reservations_held_images", "Images held by open jobs", merge=Merge.LATEST),
    Series(GAUGE, "reservations_held_cost", "Money held by open jobs, in whole currency units",
           merge=Merge.LATEST),
    Series(GAUGE, "ledger_difference", "Counters against the ledger; must be 0",
           merge=Merge.LATEST),
    Series(GAUGE, "ledger_audited_timestamp_seconds", "When the ledger was last audited; 0 never",
           merge=Merge.LATEST),
    Series(GAUGE, "ledger_intact", "0 once the store has lost data, until it is rebuilt",
           merge=Merge.LOWEST),
    Series(GAUGE, "journal_ready", "0 while the journal's disk takes nothing", merge=Merge.LOWEST),
    Series(GAUGE, "settlements_owed", "Writes on disk that the store could not be told yet",
           merge=Merge.HIGHEST),
    Series(GAUGE, "store_up", "1 while the store answers", merge=Merge.LOWEST),
    Series(HISTOGRAM, "store_command_duration_seconds", "Store scripts and commands",
           (A.SCRIPT, A.STORED), STORE),
    Series(COUNTER, "loop_failures_total", "Errors survived by background loops", (A.LOOP,)),
    Series(HISTOGRAM, "event_loop_stall_seconds", "How late the event loop turned", (), STALL),
    Series(GAUGE, "build_info", "The running version, always 1", (A.VERSION,), merge=Merge.LATEST),
)  # fmt: skip
