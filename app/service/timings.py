"""How long each step of a job may take, and how often it is looked at again."""

from dataclasses import dataclass

from app.domain.catalog import Model
from app.domain.ledger import CollectionTimings
from app.service.lease import LEASE_MS

SILENCE_MARGIN_S = 10.0
"""How long after the last possible answer a silent dispatch is given up."""


@dataclass(frozen=True, slots=True)
class JobTimings:
    """Durations in seconds; `mode` is auto, async or sync."""

    mode: str = "auto"
    timeout_s: float = 180
    queue_s: float = 60
    poll_interval_s: float = 3
    deadline_s: float = 900
    moderation_charged: bool = False

    @property
    def collection(self) -> CollectionTimings:
        """Pauses between tries for a picture: 10 s at the usual interval, up to half an hour."""
        first_ms = round(min(10 / 3 * self.poll_interval_s, 10) * 1000)
        return CollectionTimings(first_ms=first_ms, max_ms=1_800_000, lease_ms=LEASE_MS)

    @property
    def first_poll_ms(self) -> int:
        """How soon after its submit a task is polled."""
        return round(self.poll_interval_s * 1000)

    @property
    def missing_task_ms(self) -> int:
        """How long polls must say that a task is unknown before that is believed: 3 minutes at the
        usual interval. A lost task's picture may still be billed."""
        return round(min(60 * self.poll_interval_s, 180) * 1000)

    @property
    def empty_task_ms(self) -> int:
        """The same for a completed task without a picture: 2 minutes at the usual interval."""
        return round(min(40 * self.poll_interval_s, 120) * 1000)

    @property
    def silence_ms(self) -> int:
        """How long after its dispatch a part without answer or task id counts as silent."""
        return round((self.timeout_s + SILENCE_MARGIN_S) * 1000)

    @property
    def lease_ms(self) -> int:
        """How long a reservation outlives the process that made it; a live process renews it."""
        return round(SILENCE_MARGIN_S * 1000)

    def is_asynchronous(self, model: Model) -> bool:
        """Prefer the provider's tasks: their result survives the death of every socket."""
        if self.mode == "sync":
            return "sync" not in model.modes
        return "async" in model.modes
