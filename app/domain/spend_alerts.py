"""Spend alerts: the operator is told when the house or a team has spent so much in a month."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.administration import AuditNote

MAX_RECIPIENTS = 20
MAX_RECIPIENT_CHARS = 254


@dataclass(frozen=True, slots=True)
class SpendAlert:
    """`scope` is `house` or `team:…`; `recipients` are addresses that the notice names, since Koi
    sends no mail itself. A deleted alert keeps its record. Nothing is refused by an alert."""

    id: str
    scope: str
    threshold_micros: int
    recipients: tuple[str, ...]
    subject_prefix: str
    created_ms: int
    deleted_ms: int | None = None


def are_recipients(recipients: Sequence[str]) -> bool:
    """Whether a notice can name them."""
    lengths = (len(text) if text.isprintable() else 0 for text in recipients)
    return len(recipients) <= MAX_RECIPIENTS and all(
        0 < length <= MAX_RECIPIENT_CHARS for length in lengths
    )


class SpendAlerts(Protocol):
    """The records of alerts. Each change adds its record to the audit log in the same write."""

    async def save(
        self, alert: SpendAlert, note: AuditNote, *, before: SpendAlert | None = None
    ) -> None:
        """Raises `Conflict` when it is not what it was `before` any more."""

    async def alerts(self) -> Sequence[SpendAlert]:
        """Those that were not deleted, oldest first."""
